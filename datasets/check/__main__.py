"""`python -m datasets.check NAME`: what is wrong with a data set on this machine, and what to do."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import ConfigDict

from datasets.catalog import CATALOG, find
from datasets.check.files import check_files
from datasets.check.images import check_images
from datasets.check.leaks import Images, check_leak
from datasets.findings import Finding, findings_of
from datasets.readers import Source, counts, own, pairs, read
from datasets.spec import DatasetSpec
from datasets.streams import DataConfig, resolve
from xdecoder.config import Config, load

SHOWN = 15  # findings on the one screen


@dataclass(frozen=True)
class Checked:
    """A set to look at, and what was found."""

    spec: DatasetSpec
    root: Path
    learnt: bool  # or measured on
    source: Source | None = None
    findings: tuple[Finding, ...] = ()
    decoded: int = 0

    def __str__(self) -> str:
        if self.source is None:
            return f"{self.spec.name}: cannot be read"
        has = [f"{len(self.source.records)} pictures"]
        has += [f"{len(self.source.vocabulary)} classes"] if self.source.vocabulary else []
        has += [f"{number} {what}" for what, number in counts(self.source.records) if number]
        verdict = "fine" if not self.findings else f"{len(self.findings)} findings"
        return f"{self.spec.name}: {', '.join(has)}; {self.decoded} decoded: {verdict}"


class Experiment(Config):
    """What the doctor reads of an experiment's YAML."""

    model_config = ConfigDict(extra="ignore")

    data: DataConfig


def check(spec: DatasetSpec, root: Path, learnt: bool = False, every: bool = False) -> Checked:
    """All that can be told of one set on its own."""
    try:
        spec = resolve(spec)
        found = check_files(spec, root)
        if found:
            return Checked(spec, root, learnt, None, tuple(found))
        source = read(spec.uncounted(), root)
    except ValueError as error:
        return Checked(spec, root, learnt, None, findings_of(error))
    faults, decoded = check_images(source, every)
    return Checked(spec, root, learnt, source, (*_counts(spec, source), *source.findings, *faults), decoded)


def _counts(spec: DatasetSpec, source: Source) -> list[Finding]:
    held, found = len(source.records), counts(source.records)
    pairs = [("pictures", held, spec.count), *((what, getattr(found, what), wanted) for what, wanted in spec.counts)]
    advice = "files are missing or of another release; fetch the official ones"
    return [Finding(f"{has} {what}; expected {wanted}", advice) for what, has, wanted in pairs if wanted not in (None, has)]


def chosen(names: list[str], root: Path | None) -> list[tuple[DatasetSpec, Path, bool]]:
    """Sets, their roots and whether they are learnt from: of catalog names, experiments with settings, paths of own data."""
    settings = [name for name in names if "=" in name]
    picked: list[tuple[DatasetSpec, Path, bool]] = []
    for name in names:
        if name in settings:
            continue
        if name.endswith((".yaml", ".yml")) and not own.is_data_yaml(Path(name)):
            data = load(Experiment, name, settings).data
            home = root or data.root
            sets = [(each, True) for stream in data.train for each in stream.datasets]
            sets += [(entry.dataset, False) for entry in data.evaluate]
            picked += [(find(each) if isinstance(each, str) else each, home, learnt) for each, learnt in sets]
        elif name not in CATALOG and Path(name).exists():
            path = str(Path(name).absolute())
            picked += [(find(part).model_copy(update={"images": path}), Path(name), part == own.NAMES[0]) for part in own.NAMES]
        else:
            picked.append((find(name), root or Path("data"), is_learnt(name)))
    unique = {(spec.name, home, learnt): (spec, home, learnt) for spec, home, learnt in picked}
    return list(unique.values())


def is_learnt(name: str) -> bool:
    return "train" in name.split("_")


def siblings(checked: list[Checked]) -> list[Source]:
    """Other sets of the catalog that lie in the same folders and are there: what a named set may leak into."""
    names = {each.spec.name for each in checked}
    found = []
    for each in checked:
        for spec in CATALOG.values():
            near = spec.images.split("/")[0] == each.spec.images.split("/")[0]
            if near and spec.name not in names and is_learnt(spec.name) != each.learnt and not check_files(spec, each.root):
                names.add(spec.name)
                try:
                    found.append(read(spec.uncounted(), each.root))
                except ValueError:
                    continue  # its own check tells
    return found


def leaks(checked: list[Checked], with_siblings: bool) -> list[Finding]:
    """Pictures that are learnt from and measured on, among the sets and, for catalog names, their siblings."""
    sets = [(Images(each.source), each.learnt) for each in checked if each.source]
    others = [(Images(source), is_learnt(source.spec.name)) for source in siblings(checked)] if with_siblings else []
    pairs = [(a, b) for a, a_learnt in sets + others for b, b_learnt in sets + others if a_learnt and not b_learnt]
    named = {images.name for images, _ in sets}
    found = [check_leak(a, b) for a, b in pairs if {a.name, b.name} & named]
    return [each for each in found if each]


def show(checked: list[Checked], shared: list[Finding]) -> str:
    """One screen: a line for each set, then the findings, each with what to do."""
    lines = [str(each) for each in checked]
    found: dict[Finding, dict[str, None]] = {}  # what is wrong with several sets is told once
    for each in checked:
        for one in each.findings:
            found.setdefault(one, {})[each.spec.name] = None
    found |= {one: {} for one in shared}
    for number, (one, names) in enumerate(islice(found.items(), SHOWN), start=1):
        lines += ["", f"{number}. {', '.join(names)}{': ' if names else ''}{one.what}", f"   → {one.advice}"]
    if len(found) > SHOWN:
        lines += ["", f"… and {len(found) - SHOWN} more"]
    if not found:
        lines += ["nothing wrong was found"]
    return "\n".join(lines)


def listing(root: Path) -> list[str]:
    """Names of the catalog, a line each; those whose files are below `root` come first, with a star."""
    here = [name for name, spec in CATALOG.items() if name not in own.NAMES and _is_here(spec, root)]
    return [f"* {name}" for name in here] + [f"  {name}" for name in CATALOG if name not in here]


def _is_here(spec: DatasetSpec, root: Path) -> bool:
    try:
        if isinstance(spec, pairs.PackedSpec):
            pairs.files(spec, root)
    except ValueError:
        return False
    return not check_files(spec, root)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is fine, 1 if there are findings, 2 if the command itself is wrong."""
    description = "What is wrong with a data set on this machine, and what to do."
    parser = argparse.ArgumentParser(prog="python -m datasets.check", description=description)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a name of the catalog, an experiment's YAML (key.sub=value items may follow), or the path of your own data",
    )
    parser.add_argument("--root", type=Path, help="folder of all data sets (default: the experiment's data.root, or data)")
    parser.add_argument("--all", action="store_true", help="decode every picture; without, 200 spread over the set")
    parser.add_argument("--list", action="store_true", help="print the names of the catalog, those that are here first")
    options = parser.parse_intermixed_args(arguments)
    if options.list:
        print("\n".join(listing(options.root or Path("data"))))
        return 0
    if not options.names:
        parser.error("name a data set, an experiment or the path of your own data; --list prints the names of the catalog")
    try:
        sets = chosen(options.names, options.root)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    checked = [check(spec, root, learnt, options.all) for spec, root, learnt in sets]
    shared = leaks(checked, with_siblings=any(name in CATALOG for name in options.names))
    print(show(checked, shared))
    return int(bool(shared) or any(each.findings for each in checked))


if __name__ == "__main__":
    raise SystemExit(main())
