"""Serves the page, its API, and on request tools for language models, at one address."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Mount

from demo.page.uploads import FORGED
from xdecoder.serving.tools import Tools

UPLOAD_LIMIT = "40mb"
WAITING = 256  # events of the browser, most of which wait for the desk
SESSIONS = 64  # visitors of whom gradio remembers what it showed them
STYLE = Path(__file__).parent / "page.css"
SENTENCES = {
    404: "Not found.",
    413: f"A file may have {UPLOAD_LIMIT.upper()}.",
    500: "Something went wrong on our side; the log of this page says what.",
    503: "Too many are asking at once; try again later.",
}


def serve(page: gr.Blocks, host: str, port: int | None, block: bool, tools: Tools | None = None) -> str:
    """Open the page to visitors; returns its address.

    Args:
        port: None = a free one.
        block: stay until interrupted.
        tools: for language models, at /mcp.
    """
    options: dict[str, Any] = {"middleware": [Middleware(OwnWords)]}
    if tools is not None:
        options |= _tools_at("/mcp", tools)
    _, address, _ = page.queue(max_size=WAITING, default_concurrency_limit=None).launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not block,
        quiet=not block,
        share=False,
        ssr_mode=False,
        max_file_size=UPLOAD_LIMIT,
        css_paths=[STYLE],
        theme=theme(),
        footer_links=[],
        state_session_capacity=SESSIONS,
        app_kwargs=options,
    )
    return str(address)


def theme() -> gr.themes.Base:
    """Gradio's soft one, with colours whose contrast is enough to read them (WCAG 2 AA)."""
    soft = gr.themes.Soft(primary_hue="indigo", spacing_size="sm", font=["system-ui", "sans-serif"])
    darker = {
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "checkbox_label_background_fill_selected": "*primary_600",
    }
    return soft.set(**darker, block_label_text_color="*primary_900", block_title_text_color="*primary_900")


def _tools_at(path: str, tools: Tools) -> dict[str, Any]:
    """What FastAPI needs to serve them.

    Gradio's own `mcp_server` asks for the package mcp below 2, and fastmcp 4, which our tools are served with, for 2 or later.
    """
    from xdecoder.serving import mcp

    app = mcp.build(tools).http_app(path="/")

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with app.lifespan(app):
            yield

    return {"routes": [Mount(path, app)], "lifespan": lifespan}


class OwnWords:
    """Refusals of the server in our words: those of its libraries tell what is inside, and repeat what was sent."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused: dict[str, Any] = {}
        begun = False

        async def reworded(message: Any) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused.update(message)
            elif not refused:
                await send(message)
            elif not message.get("more_body"):
                await self._refuse(refused, send)

        if scope["type"] != "http" or scope["path"].startswith("/mcp"):
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, reworded)
        except Exception:
            traceback.print_exc()
            if begun:
                raise
            await self._refuse({"status": 500}, send)

    async def _refuse(self, start: dict[str, Any], send: Any) -> None:
        said = SENTENCES.get(start["status"], FORGED)
        body = json.dumps({"detail": said, "error": said}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": start["status"], "headers": headers})
        await send({"type": "http.response.body", "body": body})
