"""Source files as trees, for tests that read our own code."""

from __future__ import annotations

import ast

from xdecoder.memory import without_collector


def tree_of(source: str, name: str = "<source>") -> ast.Module:
    """Source code as a tree.

    CPython 3.11 counts in one place for all threads how deep a tree is. If the garbage collector finalizes something while a
    tree is made, Python code runs in between, such as that of a server thread which prints an error; the count is wrong then,
    and the interpreter says `SystemError: AST constructor recursion depth mismatch`.
    """
    with without_collector():
        return ast.parse(source, name)
