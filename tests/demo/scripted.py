"""A language model's server on this machine that says what a script says."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


def call(name: str, arguments: Any) -> dict[str, Any]:
    """What the server says when it wants a tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": name, "arguments": text}}]}


class Script(ThreadingHTTPServer):
    """Answers requests one after the other with what it was given: a message, raw bytes, or a status."""

    daemon_threads = True

    def __init__(self, answers: Sequence[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.asked = list(answers), []

    asked: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast(Script, self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
        answer = server.answers.pop(0)
        if answer == "hang":
            time.sleep(1.0)
            return
        status = answer if isinstance(answer, int) else 200
        data = answer if isinstance(answer, bytes) else json.dumps({"choices": [{"message": answer}]}).encode()
        self.send_response(status)
        self.end_headers()
        if answer == 429:
            data = b'{"error": "slow\ndown"}'
        for part in [data[i : i + 1] for i in range(len(data))] if data.startswith(b"drip") else [data]:
            self.wfile.write(part)
            self.wfile.flush()
            time.sleep(0.1 if data.startswith(b"drip") else 0)

    def log_message(self, *arguments: object) -> None:
        pass
