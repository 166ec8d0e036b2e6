"""What an experiment learns from and is measured on: the settings under `data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, SerializeAsAny, Tag, model_validator

from datasets.catalog import find
from datasets.readers import own, read
from datasets.spec import DatasetSpec
from datasets.transforms import TransformConfig
from xdecoder.config import Config
from xdecoder.seem.strokes import KINDS, Kind
from xdecoder.tasks import TaskName


def _known(name: str) -> str:
    return find(name).name


def _kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "list" if isinstance(value, (list, tuple)) else "mapping"


Named = Annotated[str, AfterValidator(_known), Tag("name")]
Mapped = Annotated[SerializeAsAny[DatasetSpec], Tag("mapping")]
DatasetChoice = Annotated[Named | Mapped, Discriminator(_kind)]
Several = Annotated[tuple[DatasetChoice, ...], Field(min_length=1), Tag("list")]
Mix = Annotated[Named | Mapped | Several, Discriminator(_kind)]
Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(gt=0)]


class StreamConfig(Config):
    """One stream of training batches; every step draws one batch of each stream."""

    dataset: Mix
    """A name of the catalog, a mapping of `DatasetSpec` fields, or a list of these whose samples are mixed in every batch."""
    weights: tuple[Weight, ...] | None = None
    """How much each of several data sets contributes, in any unit; by default as much as it has."""
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    batch_size: Annotated[int, Field(gt=0, le=2**20)]
    """Pictures of one step, over all processes together."""
    transform: TransformConfig
    loss_weight: float = Field(1.0, ge=0)
    """Factor on the losses of this stream."""
    limit: Positive | None = None
    """Use only the first so many pictures, for example to overfit ten."""
    exclude: tuple[DatasetChoice, ...] = ()
    """Sets whose pictures are left out here, since they are measured on; `python -m datasets.check` tells which share some."""
    max_phrases: Positive = 4
    """Phrases a picture, at most; how many is drawn, from one on."""
    places: bool = False
    """Where class names stand in for phrases: call a thing by where it lies among others of its class ("left dog"), most of the
    time, or by the bare name; False: by the name in a random sentence, which means all of them (published)."""
    absent_phrases: Annotated[int, Field(ge=0)] = 0
    """Phrases of other pictures a picture, at most, which the network learns to find nothing for; how many is drawn, from none
    on. Only sets that know what their phrases are about have some: those about a kind of thing (in generated sets a colour and
    shape, else a category) of which the picture has none."""
    max_objects: Positive = 10
    """Objects a picture that are marked, at most."""
    strokes: Annotated[tuple[Kind, ...], Field(min_length=1)] = KINDS
    """How objects are marked, each as often as the others (published: all but box)."""
    captions: Positive = 1
    """Captions of a picture that captioning learns from at a time, beside one encoded picture; the next epoch has the next."""
    cache: bool = False
    """Keep decoded pictures in memory; for small sets."""

    @model_validator(mode="after")
    def _check(self) -> StreamConfig:
        if self.weights is not None and len(self.weights) != len(self.specs):
            raise ValueError(f"weights has {len(self.weights)} numbers for {len(self.specs)} data sets; give one each")
        return self

    @property
    def datasets(self) -> tuple[str | DatasetSpec, ...]:
        return self.dataset if isinstance(self.dataset, tuple) else (self.dataset,)

    @property
    def specs(self) -> tuple[DatasetSpec, ...]:
        return tuple(resolve(each) for each in self.datasets)


class EvaluationConfig(Config):
    """One set to measure on."""

    dataset: DatasetChoice
    """A name of the catalog, or a mapping of `DatasetSpec` fields."""
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    batch_size: Annotated[int, Field(gt=0, le=2**20)] = 1
    """Pictures at a time in one process; pictures of different sizes are padded to the largest."""
    transform: TransformConfig
    limit: Positive | None = None
    """Use only the first so many pictures."""
    label: str | None = None
    """Prefix of the results' names; by default the data set's name."""
    vocabulary: Literal["global", "present"] = "global"
    """Which class names a picture is asked for: all of the set's, or those alone that its annotation holds. These tell how
    well regions are found where their names are known; the results' names end in `_present`, as the two cannot be compared."""

    @property
    def prefix(self) -> str:
        name = self.label or (self.dataset if isinstance(self.dataset, str) else self.dataset.name)
        return name if self.vocabulary == "global" else f"{name}_present"


class DataConfig(Config):
    """Where the data lie, what is learnt from and what is measured on."""

    root: Path = Path("data")
    """Folder of all data sets, relative to the current one."""
    train: tuple[StreamConfig, ...] = ()
    evaluate: tuple[EvaluationConfig, ...] = ()
    fit: tuple[EvaluationConfig, ...] = ()
    """Sets, apart from those that are measured on, on which `eval.py fit` fits thresholds to a trained network; each for one
    task."""
    own: Path | None = None
    """Your own data, a folder or a COCO JSON, which streams and entries know as `own_train` and `own_val`; see
    demo/finetune_own_data.md for the formats, which are told apart by what lies there."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that prepare batches, for each stream; 0 = the training process itself."""
    max_bad_samples: Annotated[int, Field(ge=0)] = 100
    """How many different samples of the training data may be unreadable, for each process. Each is named once, and another one
    of its set comes in its place."""

    @model_validator(mode="before")
    @classmethod
    def _name_own(cls, settings: Any) -> Any:
        """Put the path of `own` into the entries that ask for it."""
        if not isinstance(settings, dict) or not isinstance(settings.get("own"), (str, Path)):
            return settings
        path = str(Path(settings["own"]).absolute())

        def found(dataset: Any) -> Any:
            named = isinstance(dataset, str) and dataset in own.NAMES
            return find(dataset).model_copy(update={"images": path}) if named else dataset

        def filled(entry: Any) -> Any:
            if not isinstance(entry, dict) or "dataset" not in entry:
                return entry
            exclude = {"exclude": [found(each) for each in entry["exclude"]]} if isinstance(entry.get("exclude"), list) else {}
            return {**entry, "dataset": found(entry["dataset"]), **exclude}

        lists = {key: settings[key] for key in ("train", "evaluate", "fit") if isinstance(settings.get(key), list)}
        return {**settings, **{key: [filled(entry) for entry in entries] for key, entries in lists.items()}}


def resolve(dataset: str | DatasetSpec) -> DatasetSpec:
    """The specification behind a catalog name; an inline one as it is; your own data as what they turn out to be."""
    return (find(dataset) if isinstance(dataset, str) else dataset).resolved()


def describe_own(data: DataConfig) -> list[str]:
    """What `data.own` was taken for, a line for each share: its format, its pictures and its classes.

    Raises:
        ValueError: if it is in no known format, or wrong.
    """
    given = [entry.dataset for entry in data.train] + [entry.dataset for entry in data.evaluate]
    lines = []
    for spec in {spec.name: spec for spec in given if isinstance(spec, own.OwnSpec)}.values():
        source = read(resolve(spec), data.root)
        names = source.vocabulary.names if source.vocabulary else ()
        classes = f", {len(names)} classes: {', '.join(names[:8])}" if names else ""
        more = ", …" if len(names) > 8 else ""
        lines.append(f"{spec.name}: {source.spec.protocol}; {len(source.records)} pictures{classes}{more}")
    return lines
