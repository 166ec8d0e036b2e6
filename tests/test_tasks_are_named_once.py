"""A task is one file: few others know it by name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.sources import tree_of
from xdecoder.tasks import names

MOST = 3
OTHERS = {"evaluators", "reader", "EVALUATORS", "READERS", "_EVALUATORS", "tasks"}
"""Variables, arguments and keys whose values are called like tasks but are others, or (`tasks`) say what a network can."""


def named(path: Path, tasks: tuple[str, ...]) -> Iterator[str]:
    """The tasks that a file names: in a text, as settings of `TasksConfig`, or as `tasks.<name>`.

    Who imports a task's module uses that file rather than knowing the task. COCO's key `segmentation` is no task either.
    """
    tree = tree_of(path.read_text(encoding="utf-8"))
    passed = {id(inner) for node in ast.walk(tree) for other in _others(node) for inner in ast.walk(other)}
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (task for task in tasks if node.value == task or node.value.startswith(f"tasks.{task}."))
        elif isinstance(node, ast.Attribute) and node.attr in tasks and "tasks" in ast.unparse(node.value):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("Config"):
            yield from (task for task in tasks if ast.unparse(node.target) == task)


def _others(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node in which a name means something else."""
    match node:
        case ast.keyword(arg=str(name)) if name in OTHERS:
            yield node
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in OTHERS:
            yield node
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in (*OTHERS, "segmentation"):
                    yield key
                    if key.value in OTHERS:
                        yield value
        case ast.Subscript(slice=ast.Constant(value="segmentation") as key):
            yield key
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value="segmentation") as key]):
            yield key
        case ast.Tuple(elts=[ast.Constant(), *_] as keys) if any(_is(key, "image_id") for key in keys):
            yield node
        case ast.Expr(value=ast.Constant() as docstring):
            yield docstring


def _is(node: ast.AST, value: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


def test_few_files_name_a_task_outside_its_own(root: Path) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for room in ("xdecoder", "datasets", "trainer"):
        for path in sorted((root / room).rglob("*.py")):
            for task in named(path, names()):
                if path.name != f"{task}.py":  # an evaluator has a file of the same name
                    found[task].add(path.relative_to(root).as_posix())
    too_many = {task: sorted(files) for task, files in found.items() if len(files) > MOST}
    assert not too_many, too_many
    assert all("xdecoder/tasks/__init__.py" in found[task] for task in names())  # so the count sees what there is
