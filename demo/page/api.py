"""Named endpoints for programs: `gradio_client.Client(address).predict(picture=handle_file(...), api_name="/refer")`.

Each gives the JSON that the page shows, and its errors are sentences.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio import FileData

from demo.page.ask_tab import asked, checked, offered
from demo.page.desk import Desk, kindly
from demo.page.find_tab import found
from demo.page.interactive_tab import prompted
from xdecoder.defaults import LEAST_SCORE

Json = dict[str, Any]


def add(desk: Desk) -> None:
    """The endpoints; a network that cannot answer says so when it is asked."""

    async def ask(task: str, picture: Any, network: Any, request: gr.Request, **texts: Any) -> Json:
        async def work() -> Json:
            given = checked({name: value for name, value in texts.items() if value is not None})
            content: Json = (await asked(desk, network, task, picture, given, request.session_hash)).content
            return content

        return await kindly(work())

    async def panoptic(
        picture: FileData, things: str, request: gr.Request, stuff: str = "", threshold: float | None = None, network: str = ""
    ) -> Json:
        """Things one by one, and stuff; names are separated by commas. No threshold: the network's own."""
        return await ask("panoptic", picture, network, request, things=things, stuff=stuff, threshold=threshold)

    async def semantic(picture: FileData, classes: str, request: gr.Request, network: str = "") -> Json:
        """A class for each pixel; names are separated by commas."""
        return await ask("semantic", picture, network, request, classes=classes)

    async def instances(
        picture: FileData, things: str, request: gr.Request, threshold: float = LEAST_SCORE, network: str = ""
    ) -> Json:
        """Each thing of some classes; names are separated by commas."""
        return await ask("instances", picture, network, request, things=things, score=threshold)

    async def refer(
        picture: FileData, phrases: str, request: gr.Request, threshold: float | None = None, network: str = ""
    ) -> Json:
        """What each phrase means, one a line. Threshold: least similarity, -1 to 1; none: the network's own."""
        return await ask("refer", picture, network, request, phrases=phrases, cosine=threshold)

    async def caption(picture: FileData, request: gr.Request, network: str = "") -> Json:
        """A sentence about the picture."""
        return await ask("caption", picture, network, request)

    async def caption_region(picture: FileData, phrase: str, request: gr.Request, network: str = "") -> Json:
        """A sentence about what a phrase means."""
        return await ask("caption_region", picture, network, request, phrases=phrase)

    async def match(picture: FileData, sentences: str, request: gr.Request, network: str = "") -> Json:
        """How well each sentence fits the picture, one a line."""
        return await ask("match", picture, network, request, sentences=sentences)

    async def answer(picture: FileData, question: str, request: gr.Request, network: str = "") -> Json:
        """An answer to a question."""
        return await ask("answer", picture, network, request, question=question)

    async def find(pictures: list[FileData], text: str, request: gr.Request, network: str = "") -> Json:
        """The picture that fits a text best, and in it what the text means."""

        async def work() -> Json:
            return (await found(desk, network, pictures, text, request.session_hash)).content

        return await kindly(work())

    async def prompt(
        picture: FileData,
        request: gr.Request,
        points: list[list[float]] = [],  # noqa: B006 (gradio writes defaults into its schema)
        labels: list[int] = [],  # noqa: B006
        box: list[float] = [],  # noqa: B006
        network: str = "",
    ) -> Json:
        """One object by points (x, y), each with 1 = of it or 0 = not of it, and a box x0, y0, x1, y1, in pixels."""
        return await kindly(prompted(desk, network, picture, points, labels, box, request.session_hash))

    async def networks() -> Json:
        """What networks there are, and what they can be asked."""
        return {name: [task for _, task in offered(network)] for name, network in desk.networks.items()}

    for endpoint in (panoptic, semantic, instances, refer, caption, caption_region, match, answer, find, prompt, networks):
        gr.api(endpoint, api_name=endpoint.__name__)
