"""The tools for language models, over the Model Context Protocol: `xdecoder serve-mcp`."""

from __future__ import annotations

import base64
import io
import json
import logging
from typing import Any

from PIL import Image
from pydantic import PrivateAttr

from xdecoder.serving.tools import TOOLS, Tools
from xdecoder.serving.tools import Tool as Described

try:
    from fastmcp import FastMCP
    from fastmcp.exceptions import ToolError
    from fastmcp.tools import Tool, ToolResult
    from mcp.types import ImageContent, TextContent
except ImportError:
    raise ValueError("the tool server needs the package fastmcp: pip install '.[serve]'") from None

INSTRUCTIONS = """\
Look at pictures with these tools instead of imagining what they show. `open` or `upload` gives a handle such as img_1, which
every other tool takes; a handle keeps its meaning until it is closed. Tools that find regions say so when they found nothing.
"""
HOST = "127.0.0.1"  # this server knows no visitors but those of its own machine

log = logging.getLogger(__name__)


class SessionTool(Tool):
    """One of the session's tools, as fastmcp wants it."""

    _tools: Tools = PrivateAttr()

    @classmethod
    def of(cls, tools: Tools, described: Described) -> SessionTool:
        tool = cls(
            name=described.name,
            description=described.description,
            parameters=described.arguments.model_json_schema(),
            output_schema=described.result.model_json_schema(mode="serialization"),
        )
        tool._tools = tools
        return tool

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Structured content first and the picture second; raises ToolError with one sentence."""
        try:
            reply = await self._tools.call_within(self.name, arguments)
        except ValueError as error:
            raise ToolError(str(error)) from None
        except Exception:
            log.exception("tool %s", self.name)
            raise ToolError("something went wrong on the server's side; its log says what") from None
        content = reply.content.model_dump(mode="json")
        blocks: list[TextContent | ImageContent] = [TextContent(type="text", text=json.dumps(content))]
        if reply.image is not None:
            blocks.append(ImageContent(type="image", data=_png(reply.image), mime_type="image/png"))
        return ToolResult(content=blocks, structured_content=content)


def build(tools: Tools) -> FastMCP:
    """The server; tools that the network cannot serve are left out."""
    missing = tools.unavailable()
    offered = [SessionTool.of(tools, described) for name, described in TOOLS.items() if name not in missing]
    return FastMCP("xdecoder", instructions=INSTRUCTIONS, tools=offered)


def serve(tools: Tools, port: int | None = None) -> None:
    """Serve until interrupted: over standard input and output, or over HTTP at http://127.0.0.1:port/mcp."""
    if port is None:
        build(tools).run("stdio", show_banner=False)
    else:
        build(tools).run("http", show_banner=False, host=HOST, port=port)


def _png(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode("ascii")
