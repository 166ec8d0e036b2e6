"""Who calls a function with tensors is told their shapes and its errors; no docstring speaks of arguments that are gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sources import tree_of

TENSORS = {"Tensor", "NDArray", "ndarray", "Array", "Float", "Int", "Bool"}
SHAPE = re.compile(r"\((?=[^()]*(?:\b[A-Z](?:\b|_)|\d|…|height))[^()]*\)|\bscalars?\b|\bshapes?\b")
ERRORS = {"ValueError", "ConfigError", "TypeError", "RuntimeError", "OSError"}
EXAMPLE = '''
class Stack:
    def good(self, x: Tensor) -> Tensor:
        """x: (B, C)."""
    def bare(self, x: Tensor) -> Tensor:
        return x
    def silent(self, x: Tensor) -> None:
        """x: (B, C)."""
        raise ValueError("no")
    def gone(self, x: Tensor) -> None:
        """Of (B, C).

        Args:
            y: what was called so once.
        """
'''


@dataclass(frozen=True)
class Function:
    place: str
    node: ast.FunctionDef
    owner: ast.ClassDef | None

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def annotations(self) -> list[ast.expr]:
        given = self.node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        return [a.annotation for a in every if a and a.annotation] + ([self.node.returns] if self.node.returns else [])

    @property
    def takes_tensors(self) -> bool:
        names = (n.id if isinstance(n, ast.Name) else n.attr for a in self.annotations for n in ast.walk(a) if _is_name(n))
        return bool(TENSORS & set(names))

    @property
    def arguments(self) -> set[str]:
        given = self.node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        return {a.arg for a in every if a}

    @property
    def raises(self) -> bool:
        """Whether an error of the user's is raised in the body itself."""
        found = (n.exc for n in ast.walk(self.node) if isinstance(n, ast.Raise) and n.exc)
        return any(isinstance(e, ast.Call) and isinstance(e.func, ast.Name) and e.func.id in ERRORS for e in found)


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, (ast.Name, ast.Attribute))


def _is_overload(node: ast.FunctionDef) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list)


def functions(source: str, path: str) -> Iterator[Function]:
    """Public functions, and public methods of public classes, of a file."""

    def below(node: ast.Module | ast.ClassDef, owner: ast.ClassDef | None) -> Iterator[Function]:
        for child in node.body:
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                yield from below(child, child)
            elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_") and not _is_overload(child):
                yield Function(f"{path}:{child.lineno} {child.name}", child, owner)

    yield from below(tree_of(source), None)


def of_room(root: Path, room: str) -> list[Function]:
    files = sorted((root / room).rglob("*.py"))
    return [f for path in files for f in functions(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())]


def inherited(every: list[Function]) -> set[str]:
    """Methods that a base class or protocol of the room documents for all who have them."""
    bases = {
        name.id for f in every if f.owner for base in f.owner.bases for name in ast.walk(base) if isinstance(name, ast.Name)
    }
    documented = {f.owner.name: f for f in every if f.owner}
    protocols = {name for name, f in documented.items() if f.owner and "Protocol" in ast.dump(ast.Module(f.owner.bases, []))}
    return {f.node.name for f in every if f.owner and f.owner.name in bases | protocols and SHAPE.search(f.doc)}


def silent(every: list[Function]) -> list[str]:
    """Places of functions that take or give tensors without saying of what shape, or raise without saying so."""
    known = inherited(every)
    wrong = []
    for f in (f for f in every if f.takes_tensors):
        if not SHAPE.search(f.doc) and not (f.owner and f.node.name in known):
            wrong.append(f"{f.place}: no shapes")
        if f.raises and not re.search(r"[Rr]aises|[Rr]efuse|Error says", f.doc):
            wrong.append(f"{f.place}: no errors")
    return wrong


def of_no_argument(every: list[Function]) -> list[str]:
    """Entries of `Args:` that name no argument, which a renaming has left behind."""
    wrong = []
    for f in every:
        block = re.search(r"\nArgs:\n((?: {4}.*\n?|\n)+)", f.doc)
        for line in re.findall(r"^ {4}(\w[\w, ]*):", block.group(1), re.MULTILINE) if block else []:
            wrong += [f"{f.place}: {name}" for name in line.split(", ") if name not in f.arguments]
    return wrong


@pytest.mark.parametrize("room", ["xdecoder", "trainer"])
def test_functions_of_tensors_say_shapes_and_errors(root: Path, room: str) -> None:
    wrong = silent(of_room(root, room))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["xdecoder", "datasets", "trainer"])
def test_documented_arguments_exist(root: Path, room: str) -> None:
    wrong = of_no_argument(of_room(root, room))
    assert not wrong, "\n".join(wrong)


def test_these_tests_see_what_is_wrong() -> None:
    every = list(functions(EXAMPLE, "example"))
    assert [line.partition(" ")[2] for line in silent(every)] == ["bare: no shapes", "silent: no errors"]
    assert [line.partition(" ")[2] for line in of_no_argument(every)] == ["gone: y"]
