"""The page's tab for a conversation with a language model, each visitor with pictures and a transcript of his own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answers import open_upload
from conversation import Conversation, LanguageModel
from PIL import Image

from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Limits, Session
from xdecoder.serving.tools import Tools

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
            handle = conversation.tools.session.add(open_upload(upload), "upload")
            said = f"(picture {handle}) "
            conversation.note(handle, "upload")
        if text.strip():
            images = [(image, tool) for tool, image in conversation.say(said + text.strip()[:MOST_LETTERS]).images]
    except ValueError as error:
        conversation.messages.append({"role": "assistant", "content": str(error)})
    return spoken(conversation), images


def spoken(conversation: Conversation) -> list[dict[str, str]]:
    """What person and language model said, without the tools' part."""
    return [
        {"role": message["role"], "content": message["content"]}
        for message in conversation.messages
        if message["role"] in ("user", "assistant") and message["content"]
    ]


def add(gr: Any, begin: Callable[[], Conversation], refuse_addresses: Callable[[Any], None]) -> None:
    """The tab's components; `refuse_addresses` keeps uploads from naming files elsewhere."""
    state = gr.State(None)
    with gr.Row():
        with gr.Column(scale=5):
            talk = gr.Chatbot(label="Conversation", height=420, elem_id="talk")
            text = gr.Textbox(label="What do you want to know, or to change?", max_length=MOST_LETTERS, elem_id="said")
            button = gr.Button("Say", variant="primary", elem_id="say")
        with gr.Column(scale=4):
            picture = gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=200)
            refuse_addresses(picture)
            drawings = gr.Gallery(label="What the tools drew", height=300, elem_id="drawn")

    def say(words: str, upload: dict[str, Any] | None, conversation: Conversation | None) -> list[Any]:
        conversation = conversation or begin()
        shown, images = turn(conversation, words, upload["path"] if upload else None)
        return [shown, images, None, "", conversation]

    outputs = [talk, drawings, picture, text, state]
    gr.on([button.click, text.submit], say, [text, picture, state], outputs, preprocess=False, api_visibility="private")
