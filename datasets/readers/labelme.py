"""LabelMe: beside each picture a JSON of its shapes, each with the name of its class.

Format: https://github.com/wkentaro/labelme (`imagePath`, and `shapes` with `label`, `points`, `shape_type`, `group_id`).
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from datasets.findings import Findings, refuse
from datasets.readers.classes import ClassKeys, is_background
from datasets.readers.names import Names, ids_of
from datasets.records import Contents, Record, Region
from datasets.spec import DatasetSpec, Part
from xdecoder.files import files_below, hidden, read_json, shown

_Number = Annotated[float, Field(allow_inf_nan=False)]
_MEND = "mend it in LabelMe, or leave the shape out"


class _Shape(TypedDict):
    label: str | int
    points: list[Annotated[list[_Number], Field(min_length=2, max_length=2)]]
    shape_type: NotRequired[str | None]
    group_id: NotRequired[int | str | None]


class _File(TypedDict):
    imagePath: str
    shapes: list[_Shape]
    imageHeight: NotRequired[Annotated[int, Field(gt=0)] | None]
    imageWidth: NotRequired[Annotated[int, Field(gt=0)] | None]


_FILE = TypeAdapter(_File)


class LabelMeSpec(ClassKeys, DatasetSpec):
    """A JSON of shapes beside each picture."""

    reader: Literal["labelme"] = "labelme"

    def provides(self) -> frozenset[Part]:
        return frozenset({"regions"})

    def read(self, root: Path) -> Contents:
        """Records of the pictures that have a JSON; shapes of one class and group are one object."""
        classes, home = self.class_names(root), root / self.images
        label_of = {name: label for label, name in enumerate(classes.names)}
        names, found = Names(home), Findings()
        files = annotated(home)
        records = []
        for key, (name, content) in zip(ids_of([*files]), files.items(), strict=True):
            objects: dict[Any, tuple[int, list[list[float]]]] = {}
            for number, shape in enumerate(content["shapes"]):
                label = str(shape["label"]).strip()
                outline = _outline(shape, f"{home / name}: shape {number}, {shown(label)}", found, label)
                if label in label_of and outline:
                    group = number if shape.get("group_id") is None else (label, shape.get("group_id"))
                    objects.setdefault(group, (label_of[label], []))[1].append(outline)
                elif outline and not is_background(label):
                    found.add("label", f"{home / name}: {shown(label)} is none of the set's classes", _MEND)
            picture = PurePosixPath(name).parent / content["imagePath"].replace("\\", "/")
            regions = tuple(Region(label, outline=outline) for label, outline in objects.values())
            height, width = content.get("imageHeight"), content.get("imageWidth")
            records.append(Record(key, names.path(str(picture)), height, width, regions=regions, turn="told"))
        if records and not any(record.regions for record in records):
            found.add("nothing", f"{home}: none of its {len(records)} JSONs holds an object with a class", _MEND)
        return Contents(classes, records, found.told())


def annotated(folder: Path) -> dict[str, _File]:
    """The LabelMe files below a folder by their relative paths; raises ValueError for one that is no such file."""
    files = {}
    for name in files_below(folder):
        if not name.endswith(".json") or hidden(PurePosixPath(name).name):
            continue
        try:
            files[name] = _FILE.validate_python(read_json(folder / name))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, fault["loc"]))
            what = f"{folder / name}: is no LabelMe file ({where}: {fault['msg'][0].lower() + fault['msg'][1:]})"
            raise refuse(what, _MEND) from None
    return files


def _outline(shape: _Shape, where: str, found: Findings, label: str) -> list[float] | None:
    """The corners of a shape in turn; None if it has no area, which goes to `found`."""
    points, kind = shape["points"], shape.get("shape_type") or "polygon"
    if kind == "polygon" and len(points) >= 3:
        return [number for point in points for number in point]
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        turns = [2 * math.pi * step / 64 for step in range(64)]
        return [number for turn in turns for number in (x + radius * math.cos(turn), y + radius * math.sin(turn))]
    if kind in ("point", "line", "linestrip", "polygon"):
        what = f"{where}: is a {kind} of {len(points)} points, which has no area, and is left out"
        found.add("no area", what, _MEND, fatal=False, label=label)
        return None
    what = f"{where}: is a {shown(kind)} of {len(points)} points; polygons, rectangles and circles can be read"
    found.add("shape", what, _MEND, label=label)
    return None
