"""Edit by instruction: plan → ground → mask → paint → check."""

from __future__ import annotations

from xdecoder.editing.edit import Edit, EditConfig, Edited, edit
from xdecoder.editing.grammar import parse_instruction
from xdecoder.editing.painters import Inpainter, load_inpainter
from xdecoder.editing.plan import PLAN_SCHEMA, Step, read_plan

__all__ = [
    "PLAN_SCHEMA",
    "Edit",
    "EditConfig",
    "Edited",
    "Inpainter",
    "Step",
    "edit",
    "load_inpainter",
    "parse_instruction",
    "read_plan",
]
