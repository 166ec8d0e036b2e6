"""The place where an answer is shown."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from demo.page import viewer

SCRIPT = (Path(__file__).parent / "viewer.js").read_text(encoding="utf-8")


def answer_place(name: str, waiting: str = "Ask, and the answer will stand here.") -> gr.HTML:
    """An empty answer, alive in the browser; `name` is the element's id, and `waiting` stands there until there is one."""
    return gr.HTML(viewer.empty(waiting), elem_id=name, js_on_load=SCRIPT)
