"""A program that looks whether Arrow can read files: their numbers may lead its C++ code astray, which then ends the process.

It runs as a child of the reader (`datasets.readers.columns`), imports nothing of this project, and prints the number of each
file that it has begun. Arguments: `arrow` or `parquet`, then the files.
"""

from __future__ import annotations

import sys
from contextlib import suppress

MEMORY = 4 << 30  # bytes: more than a row group may have; files are mapped, which does not count


def main(kind: str, paths: list[str]) -> None:
    with suppress(ImportError, ValueError, OSError):  # a system without limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pyarrow
    from pyarrow import parquet

    for number, path in enumerate(paths):
        print(number, flush=True)
        try:
            if kind == "parquet":
                with parquet.ParquetFile(path) as file:
                    if file.num_row_groups and file.metadata.row_group(0).total_byte_size < MEMORY // 2:
                        with suppress(Exception):  # told when its rows are asked for; others may be whole
                            file.read_row_group(0, use_threads=False).validate(full=True)
            else:
                mapped = pyarrow.memory_map(path)
                is_file = mapped.size() >= 6 and mapped.read_at(6, 0) == b"ARROW1"
                opened = (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(mapped)
                for each in (opened.get_batch(i) for i in range(opened.num_record_batches)) if is_file else opened:
                    each.validate(full=True)
        except Exception as error:
            print(" ".join(str(error).split())[:200] or type(error).__name__, file=sys.stderr)
            raise SystemExit(1) from None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
