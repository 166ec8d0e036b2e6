"""The page's tab for a conversation with a language model, each visitor with pictures and a transcript of his own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo.conversation import Conversation, LanguageModel
from demo.page.desk import kindly
from demo.page.uploads import FORGED, open_shown, uploaded
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Limits, Session
from xdecoder.serving.tools import Tools

KEPT_SECONDS = 3600  # for so long a conversation may rest
MOST_LETTERS = 2_000  # of what a visitor says at a time
LIMITS = Limits(pictures=50, encoded_bytes=200_000_000, folder_bytes=50_000_000)

Shown = tuple[list[dict[str, str]], list[tuple[Image.Image, str]]]  # what was said, and the last turn's drawings


def opener(predictor: Predictor, language_model: LanguageModel, folder: Path) -> Callable[[], Conversation]:
    """Makes a conversation for each visitor, whose pictures lie in a folder of his own below `folder`."""

    def begin() -> Conversation:
        own = Path(tempfile.mkdtemp(dir=folder))
        return Conversation(language_model, Tools(Session(predictor, own, limits=LIMITS)))

    return begin


def turn(conversation: Conversation, text: str, upload: str | None) -> Shown:
    """Hand over the picture, if there is one, and say the text; what goes wrong becomes a line of the conversation."""
    images: list[tuple[Image.Image, str]] = []
    said = ""
    try:
        if upload is not None:
            handle = conversation.tools.session.add(open_shown(upload), "upload")
            said = f"(picture {handle}) "
            conversation.note(handle, "upload")
        if text.strip():
            images = [(image, tool) for tool, image in conversation.say(said + text.strip()[:MOST_LETTERS]).images]
    except ValueError as error:
        conversation.messages.append({"role": "assistant", "content": str(error)})
    return spoken(conversation), images


def spoken(conversation: Conversation) -> list[dict[str, str]]:
    """What person and language model said, without the tools' part; gradio reads markup even where it renders no Markdown."""
    return [
        {"role": message["role"], "content": escape(message["content"], quote=False)}
        for message in conversation.messages
        if message["role"] in ("user", "assistant") and message["content"]
    ]


def add(begin: Callable[[], Conversation]) -> None:
    """The tab's components; nothing that is said in it is read as markup."""
    state = gr.State(None, time_to_live=KEPT_SECONDS)
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=300):
            talk = gr.Chatbot(
                label="Conversation",
                height=420,
                render_markdown=False,
                sanitize_html=True,
                buttons=["copy_all"],
                placeholder="Hand over a picture, and ask.",
                elem_id="talk",
            )
            text = gr.Textbox(label="What do you want to know, or to change?", max_length=MOST_LETTERS, elem_id="said")
            button = gr.Button("Say", variant="primary", elem_id="say")
        with gr.Column(scale=4, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Picture",
                height=200,
                elem_id="chat-picture",
            )
            drawings = gr.Gallery(  # seen from the first drawing on; the last ones stay until there are others
                label="What the tools drew",
                height=300,
                columns=1,
                object_fit="contain",
                format="jpeg",
                visible=False,
                elem_id="drawn",
            )

    async def say(words: Any, upload: Any, conversation: Conversation | None) -> list[Any]:
        async def work() -> list[Any]:
            if not isinstance(words, str):
                raise ValueError(FORGED)
            path = None if upload is None else str(uploaded(upload))
            talking = conversation or begin()
            shown, images = await asyncio.to_thread(turn, talking, words, path)
            return [shown, gr.update(value=images, visible=True) if images else gr.skip(), None, "", talking]

        found: list[Any] = await kindly(work())
        return found

    def forget() -> list[Any]:
        """The button with the bin has emptied what is shown; the language model is to forget it too."""
        return [gr.update(value=[], visible=False), None]

    talk.clear(forget, None, [drawings, state], api_visibility="private")
    outputs = [talk, drawings, picture, text, state]
    gr.on([button.click, text.submit], say, [text, picture, state], outputs, preprocess=False, api_visibility="private")
