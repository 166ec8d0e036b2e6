"""The tab that finds, among several pictures, the one that a text means."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr
import torch

from demo.page import viewer
from demo.page.answer import answer_place
from demo.page.desk import Desk, kindly
from demo.page.replies import Reply, seen
from demo.page.tasks import MAX_LENGTH, lines_in
from demo.page.uploads import FORGED, uploaded, waiting
from xdecoder.inference.predictor import Predictor
from xdecoder.inference.results import Found
from xdecoder.tasks.retrieval import shares

MOST_IMAGES = 16  # of a search


async def found(desk: Desk, network: Any, uploads: Any, text: Any, visitor: Any) -> Reply:
    """The reply to a search; raises ValueError for what the visitor can mend."""
    if not isinstance(text, str) or not isinstance(uploads, (list, tuple, type(None))):
        raise ValueError(FORGED)
    if not uploads or len(uploads) > MOST_IMAGES:
        raise ValueError(f"Choose some pictures first, at most {MOST_IMAGES}.")
    sentence = lines_in(text, "sentence")[0]
    name = desk.network(network)
    paths = [uploaded(upload) for upload in uploads]
    images = await asyncio.to_thread(lambda: [waiting(path) for path in paths])

    def find(model: Predictor) -> Found:
        return model.find(images, sentence)

    return await asyncio.to_thread(shown, await desk.ask(name, find, visitor), desk.networks[name], sentence)


def shown(result: Found, network: Predictor, text: str) -> Reply:
    """The best picture with what the text means in it, and how well each fits."""
    trust = shares(network.model, torch.tensor(result.ranking.scores))
    reply = seen(result.region).headed(
        f"Picture {result.index + 1} of {len(result.ranking.order)} fits best.",
        text=text,
        best=result.index + 1,
        cosines=list(result.ranking.scores),
    )
    bars = tuple((f"picture {i + 1}", trust[i]) for i in result.ranking.order)
    return Reply(reply.headline, reply.content, reply.picture, reply.regions, bars)


def add(desk: Desk, network: gr.Dropdown) -> None:
    """The tab's components."""
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=300):
            files = gr.File(
                file_count="multiple",
                file_types=["image"],
                type="filepath",
                label=f"Pictures, at most {MOST_IMAGES}",
                height=220,
                elem_id="pictures",
            )
            text = gr.Textbox(label="Text", value="a large red star", max_length=MAX_LENGTH, elem_id="text")
            button = gr.Button("Find", variant="primary", elem_id="find")
        with gr.Column(scale=7, min_width=300):
            answer = answer_place("found")

    async def find(uploads: Any, named: Any, words: Any, request: gr.Request) -> str:
        async def work() -> str:
            return await asyncio.to_thread(viewer.answer, await found(desk, named, uploads, words, request.session_hash))

        return await kindly(work())

    gr.on([button.click, text.submit], find, [files, network, text], answer, preprocess=False, api_visibility="private")
