"""Imports point one way, and only the library is installed."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.sources import tree_of

MAY_IMPORT: dict[str, set[str]] = {
    "xdecoder": {"xdecoder"},
    "datasets": {"xdecoder", "datasets"},
    "trainer": {"xdecoder", "datasets", "trainer"},
    "demo": {"xdecoder", "datasets", "trainer", "demo"},
    "benchmarks": {"xdecoder", "datasets", "trainer", "benchmarks"},
}
OURS = {*MAY_IMPORT, "train", "eval", "run", "configs", "tests"}
NEVER = {
    "detectron2",
    "panopticapi",
    "mpi4py",
    "transformers",
    "open_clip",
    "gradio",
    "diffusers",
    "onnx",
    "onnxruntime",
    "fastmcp",
    "mcp",
    "fastapi",
    "uvicorn",
    "prometheus_client",
}
COMMAND = "command.py"  # of xdecoder/cli, which alone looks at the shell
WANTED = {"open_clip": "xdecoder/sed"}  # SED's encoder is one of open_clip's models
OPTIONAL = {"demo", "benchmarks"}  # these may compare with other people's models


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import of a file, those inside functions too."""
    for node in ast.walk(tree_of(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full here"
            yield node.lineno, node.module or ""


def sources(root: Path, room: str) -> list[Path]:
    return sorted((root / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(root: Path, room: str) -> None:
    wrong = [
        f"{path.relative_to(root)}:{line} imports {name}"
        for path in sources(root, room)
        for line, name in imported(path)
        if name.split(".")[0] in OURS - MAY_IMPORT[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_a_detour(root: Path) -> None:
    """No circle among the modules of the whole repository, whether imported when loaded or for types alone."""
    files = {_module(path, root): path for room in MAY_IMPORT for path in sources(root, room)}
    files |= {path.stem: path for path in root.glob("*.py")}
    graph = {module: set(_needed(path, files.keys())) - {module} for module, path in files.items()}
    assert len(graph) > 100 and "datasets.evaluators.instance" in graph["datasets.evaluators"]
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
    TopologicalSorter(graph).prepare()


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _needed(path: Path, modules: Collection[str]) -> Iterator[str]:
    """Modules of ours that a file imports outside of functions; a name of a package is its module or its `__init__`."""
    waiting: list[ast.AST] = [tree_of(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            below = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
            yield from below
            if node.module in modules and len(below) < len(node.names):
                yield node.module
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT.keys() - OPTIONAL))
def test_heavy_or_optional_packages_are_never_needed(root: Path, room: str) -> None:
    wrong = [
        f"{path.relative_to(root)}:{line} imports {name}"
        for path in sources(root, room)
        for line, name in imported(path)
        if name.split(".")[0] in NEVER and not is_guarded(path, line) and not is_wanted(name, path.relative_to(root))
    ]
    assert not wrong, "\n".join(wrong)


def is_wanted(name: str, path: Path) -> bool:
    folder = WANTED.get(name.split(".")[0])
    return folder is not None and path.is_relative_to(folder)


def is_guarded(path: Path, line: int) -> bool:
    """Whether the import stands in a `try`, so that the file works without it."""
    tree = tree_of(path.read_text(encoding="utf-8"))
    tries = (node for node in ast.walk(tree) if isinstance(node, ast.Try))
    return any(node.lineno < line <= (node.body[-1].end_lineno or 0) for node in tries)


def test_the_library_reads_no_arguments_and_no_environment(root: Path) -> None:
    wrong = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in sources(root, "xdecoder")
        for node in ast.walk(tree_of(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"argv", "environ", "getenv", "getcwd"} and path.name != COMMAND
    ]
    assert not wrong, "\n".join(wrong)


def test_the_command_line_is_an_edge_that_nothing_leans_on(root: Path) -> None:
    leaning = {
        path.relative_to(root).as_posix()
        for path in sources(root, "xdecoder")
        for _, name in imported(path)
        if path.parent.name != "cli" and (name + ".").startswith("xdecoder.cli.")
    }
    assert leaning == {"xdecoder/__main__.py"}


def test_rooms_are_installed_where_they_shadow_nobody(root: Path) -> None:
    settings = (root / "setup.py").read_text()
    assert 'find_packages(".", include=["xdecoder", "xdecoder.*"])' in settings
    assert 'f"xdecoder._rooms.{name}"' in settings and 'include=["datasets*", "trainer*"]' in settings


def test_every_folder_of_the_library_is_a_package(root: Path) -> None:
    folders = {path.parent for path in sources(root, "xdecoder")}
    missing = [str(folder.relative_to(root)) for folder in folders if not (folder / "__init__.py").is_file()]
    assert not missing, f"without __init__.py: {', '.join(sorted(missing))}"
