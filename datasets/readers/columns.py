"""Tables of captioned pictures: Arrow files as ViLT and METER wrote them, and parquet.

Layout: https://github.com/dandelin/ViLT/blob/master/DATA.md: one row a picture, `image` its encoded bytes, `caption` a list of
texts, `image_id` its name.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from datasets.order import WINDOW
from datasets.readers.pairs import PackedSpec, Pairs, files, record
from datasets.records import Contents, Record

SLOWEST = 20e6  # bytes a second that a disk gives at least
LARGEST_GROUP = 2**30  # bytes of a parquet row group, which is held in memory as a whole


@dataclass(frozen=True)
class Rows:
    """Neighbouring rows of a file."""

    load: Callable[[], Any]  # an Arrow table or record batch with the columns
    count: int
    first: int  # number of the first row in its file
    path: Path
    spec: ColumnsSpec
    folder: Path

    def __len__(self) -> int:
        return self.count

    def read(self, row: int) -> Record:
        where = f"{self.path}: row {self.first + row}"
        table, names = self.load(), (self.spec.image_column, self.spec.caption_column, "image_id")
        try:
            image, captions, key = (table.column(name)[row].as_py() if name in table.schema.names else None for name in names)
        except (ValueError, OSError, LookupError) as error:  # Arrow's own are among these
            raise ValueError(f"{where} cannot be read ({_line(error)})") from None
        return record(image, captions, key, self.folder, where)


class ColumnsSpec(PackedSpec):
    """Tables of captioned pictures."""

    image_column: str = "image"
    """Column of the encoded pictures, or of their paths in `images`."""


class ArrowSpec(ColumnsSpec):
    """Arrow files in ViLT's and METER's layout."""

    reader: Literal["arrow"] = "arrow"

    def read(self, root: Path) -> Contents:
        """Rows of Arrow files, which stay on disk: the system maps what is read into memory."""
        arrow = _pyarrow()
        tables: list[Rows] = []
        for path in _probed("arrow", "Arrow", self, root):
            try:
                batches = _batches(arrow, path)
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(f"{path}: is not a complete Arrow file ({_line(error)}); fetch it again") from None
            first = 0
            for batch in batches:
                _check_columns(batch.schema.names, path, self)
                tables.append(Rows(partial(_itself, batch), batch.num_rows, first, path, self, root / self.images))
                first += batch.num_rows
        return Contents(None, Pairs(tables))


class ParquetSpec(ColumnsSpec):
    """Parquet files."""

    reader: Literal["parquet"] = "parquet"

    def read(self, root: Path) -> Contents:
        """Rows of parquet files, a row group at a time; the last few groups stay in memory."""
        arrow = _pyarrow()
        from pyarrow import parquet

        @lru_cache(maxsize=WINDOW)
        def group(path: Path, number: int) -> Any:
            try:
                with parquet.ParquetFile(path) as file:
                    names = [name for name in file.schema_arrow.names if name in wanted]
                    table = file.read_row_group(number, columns=names, use_threads=False)
                    table.validate(full=True)
                    return table
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(f"{path}: row group {number} cannot be read ({_line(error)}); fetch it again") from None

        wanted = (self.image_column, self.caption_column, "image_id")
        tables: list[Rows] = []
        for path in _probed("parquet", "parquet", self, root):
            try:
                with parquet.ParquetFile(path) as file:
                    metadata = file.metadata
                    _check_columns(file.schema_arrow.names, path, self)
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(f"{path}: is not a complete parquet file ({_line(error)}); fetch it again") from None
            first = 0
            for number in range(metadata.num_row_groups):
                rows, size = metadata.row_group(number).num_rows, metadata.row_group(number).total_byte_size
                if size > LARGEST_GROUP:
                    much = f"row group {number} has {size / 2**30:.1f} GiB, all of which would have to be in memory"
                    raise ValueError(f"{path}: {much}; write the file anew with row_group_size=1000")
                tables.append(Rows(partial(group, path, number), rows, first, path, self, root / self.images))
                first += rows
        return Contents(None, Pairs(tables, by_table=True))


def _probed(kind: str, name: str, spec: PackedSpec, root: Path) -> list[Path]:
    """The set's files, all of which a child process could read: what is wrong with them may end the process that finds it.

    Raises:
        ValueError: naming the file.
    """
    paths = [Path(path) for path in files(spec, root)]
    program = [sys.executable, str(Path(__file__).with_name("probe.py")), kind, *map(str, paths)]
    seconds = 60 + sum(path.stat().st_size for path in paths) / SLOWEST
    try:
        done = subprocess.run(program, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{paths[0]}: it and the set's other files could not be looked through in {seconds:.0f} s") from None
    if done.returncode:
        path = paths[int((done.stdout.split() or ["0"])[-1])]
        reason = (done.stderr.strip().splitlines() or ["none given"])[-1]
        if done.returncode < 0:
            reason = f"its numbers lead Arrow astray, signal {-done.returncode}"
        raise ValueError(f"{path}: is not a complete {name} file ({reason}); fetch it again")
    return paths


def _batches(arrow: ModuleType, path: Path) -> list[Any]:
    """Record batches of a mapped file, in the format with a footer (ViLT's) or without (the Hugging Face library's)."""
    mapped = arrow.memory_map(str(path))
    if mapped.size() >= 6 and mapped.read_at(6, 0) == b"ARROW1":
        file = arrow.ipc.open_file(mapped)
        return [file.get_batch(number) for number in range(file.num_record_batches)]
    return list(arrow.ipc.open_stream(mapped))


def _check_columns(names: list[str], path: Path, spec: ColumnsSpec) -> None:
    for key in ("image_column", "caption_column"):
        if getattr(spec, key) not in names:
            raise ValueError(f"{path}: has no column {getattr(spec, key)!r}, only {', '.join(names)}; set the data set's {key}")


def _itself(batch: Any) -> Any:
    return batch


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise ValueError("reading arrow and parquet files needs pyarrow: pip install '.[data]'") from None
    return pyarrow
