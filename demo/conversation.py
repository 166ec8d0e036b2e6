"""A language model that looks at pictures through the tools of `xdecoder.serving`, by way of any OpenAI-compatible server."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from xdecoder.files import write_json
from xdecoder.serving.tools import TOOLS, Tools

MOST_ROUNDS = 8  # of tool calls in one turn
MOST_CALLS = 16  # in one answer
MOST_HISTORY = 24_000  # letters of what is sent again with every request, about 6 000 tokens
MOST_RESULT = 6_000  # letters of one tool's result
MOST_ANSWER = 4_000_000  # bytes of a server's answer
WITHHELD = ("open", "upload", "mask", "close")  # what the person does, or is of no use in words

RULES = """\
You answer questions about pictures and edit them. You cannot see them: use the tools, and say only what they report. Name
pictures and masks by their handles, such as img_1 and img_1.mask_2, and only by those that you were told. If a tool reports an
error or found nothing, say so or try other words. Answer briefly."""

Message = dict[str, Any]


@dataclass(frozen=True)
class LanguageModel:
    """Chat completions of a server that speaks OpenAI's protocol."""

    address: str  # up to /v1
    name: str
    key: str | None = None
    seconds: float = 120.0  # of one answer, from the first byte sent to the last one read

    def complete(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Message:
        """The next message: its `content`, and its `tool_calls` where there are some.

        Raises:
            ValueError: in one sentence, for a server that cannot be reached, hangs, refuses or answers in another form.
        """
        body = {"model": self.name, "messages": list(messages), "tools": list(tools), "temperature": 0}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        address = f"{self.address.rstrip('/')}/chat/completions"
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"--llm: expected an address such as http://127.0.0.1:8000/v1, not {self.address!r}")
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as response:
                text = _read(response, time.monotonic() + self.seconds)
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(300).decode(errors="replace").split())
            raise ValueError(f"the language model's server refused with {error.code}: {said}") from None
        except TimeoutError:
            raise ValueError(f"the language model's server gave no answer within {self.seconds:g} seconds") from None
        except (OSError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                reason = f"no answer within {self.seconds:g} seconds"
            raise ValueError(f"the language model's server at {self.address} cannot be asked ({reason})") from None
        return _message(text)


@dataclass
class Turn:
    """What became of one thing that a person said."""

    text: str
    images: list[tuple[str, Image.Image]] = field(default_factory=list)  # tool and drawing, in order


class Conversation:
    """What was said so far, by whom, and which tools were called.

    Args:
        tools: of a session of its own.
    """

    def __init__(self, language_model: LanguageModel, tools: Tools) -> None:
        self.language_model, self.tools = language_model, tools
        self.messages: list[Message] = []  # all of them; what is sent is cut
        self._about: dict[str, str] = {}

    def show(self, data: bytes, name: str) -> str:
        """Hand over a picture; returns its handle. Raises ValueError if it is none."""
        handle = self.tools.session.upload(data)
        self.note(handle, name)
        return handle

    def say(self, text: str) -> Turn:
        """Answer a person; the tools' drawings come along.

        Raises:
            ValueError: where the server failed; what was said and done until then stays in the transcript.
        """
        self.messages.append({"role": "user", "content": text})
        images: list[tuple[str, Image.Image]] = []
        for _ in range(MOST_ROUNDS):
            message = self.language_model.complete(self._sent(), self._offered())
            calls = message.get("tool_calls") or []
            self.messages.append(message)
            if not calls:
                return Turn(message["content"] or "The language model said nothing.", images)
            for call in calls:
                self.messages.append(self._call(call, images))
        sentence = f"The language model called tools {MOST_ROUNDS} times without coming to an answer."
        self.messages.append({"role": "assistant", "content": sentence})
        return Turn(sentence, images)

    def save(self, path: str | Path) -> None:
        """Write the transcript as JSON."""
        pictures = {handle: about for handle, about in self._about.items() if handle in self.tools.session.entries}
        write_json(path, {"model": self.language_model.name, "pictures": pictures, "messages": self.messages})

    def _call(self, call: dict[str, Any], images: list[tuple[str, Image.Image]]) -> Message:
        """The message that answers one tool call, be it with an error."""
        name = call["function"]["name"]
        content: dict[str, Any]
        try:
            if name in WITHHELD or name not in TOOLS:
                raise ValueError(f"{name[:80]!r} is no tool; there are {', '.join(self._names())}")
            arguments = _arguments(call["function"]["arguments"])
            reply = self.tools.call(name, arguments)
            content = reply.content.model_dump(mode="json")
            if reply.image is not None:
                images.append((name, reply.image))
            if name == "edit":
                self.note(content["image"], f"edit of {arguments['image']}")
        except ValueError as error:
            content = {"error": str(error)}
        text = json.dumps(content)
        if len(text) > MOST_RESULT:
            text = json.dumps({"error": f"the result has {len(text)} letters, which is too long; ask about less"})
        return {"role": "tool", "tool_call_id": call["id"], "content": text}

    def note(self, handle: str, name: str) -> None:
        """Let the language model know of a picture of the session: what it is called and what it shows."""
        caption = self.tools.call("describe", {"image": handle}).content.text
        width, height = self.tools.session.entry(handle).size
        self._about[handle] = f"{name}, {width} × {height} pixels, described as: {caption}"

    def _names(self) -> list[str]:
        missing = self.tools.unavailable()
        return [name for name in TOOLS if name not in WITHHELD and name not in missing]

    def _offered(self) -> list[dict[str, Any]]:
        shown = [TOOLS[name] for name in self._names()]
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.arguments.model_json_schema(),
                },
            }
            for tool in shown
        ]

    def _sent(self) -> list[Message]:
        pictures = "\n".join(f"{handle}: {about}" for handle, about in self._about.items()) or "none yet"
        return [{"role": "system", "content": f"{RULES}\n\nPictures:\n{pictures}"}, *cut(self.messages, MOST_HISTORY)]


def cut(messages: Sequence[Message], letters: int) -> list[Message]:
    """The last turns that have so many letters between them, and the last one in any case.

    A turn begins where a person speaks, so that a tool's result never loses the call that it belongs to.
    """
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
    sizes = [len(json.dumps(message)) for message in messages]
    fitting = [start for start in starts if sum(sizes[start:]) <= letters]
    return list(messages[(fitting or starts[-1:] or [0])[0] :])


def _read(response: Any, deadline: float) -> str:
    """All that comes before the deadline; a server may also hang by sending a letter now and then."""
    parts, size = [], 0
    while part := response.read1(65536):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > MOST_ANSWER:
            raise ValueError(f"the language model's answer has more than {MOST_ANSWER} bytes")
    return b"".join(parts).decode(errors="replace")


def _message(text: str) -> Message:
    """The assistant's message of a chat completion, with nothing in it but what we know."""
    try:
        said = json.loads(text)["choices"][0]["message"]
        content, calls = said.get("content"), said.get("tool_calls") or []
        known = [
            {
                "id": str(call.get("id") or f"call_{number}"),
                "type": "function",
                "function": {
                    "name": str(call["function"]["name"]),
                    "arguments": call["function"].get("arguments") or "{}",
                },
            }
            for number, call in enumerate(calls[:MOST_CALLS])
        ]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        said = " ".join(text.split())[:80]
        raise ValueError(f"the language model's server answered in a form that is no chat completion: {said!r}") from None
    message = {"role": "assistant", "content": content if isinstance(content, str) else None}
    return message | ({"tool_calls": known} if known else {})


def _arguments(given: Any) -> dict[str, Any]:
    """What a tool is called with: JSON text, or, as some servers have it, an object."""
    try:
        arguments = json.loads(given) if isinstance(given, str) else given
    except json.JSONDecodeError as error:
        raise ValueError(f"the arguments are not JSON ({error})") from None
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments are no JSON object but {type(arguments).__name__}")
    return arguments
