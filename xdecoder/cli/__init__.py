"""The command `xdecoder`: the library's only edge to the shell."""

from xdecoder.cli.command import main

__all__ = ["main"]
