"""The tab that asks about one picture."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from datasets.shapes import SHAPES, STUFF
from demo.page import viewer
from demo.page.answer import answer_place
from demo.page.desk import Desk, kindly
from demo.page.tasks import MAX_LENGTH, MAX_LETTERS, MAX_TEXTS, TASKS, Texts
from demo.page.uploads import FORGED, uploaded, waiting
from xdecoder.inference.predictor import Predictor

FIELDS = ("things", "stuff", "classes", "phrases", "sentences", "question", "threshold", "score", "cosine")
LEAST = {"threshold": 0.0, "score": 0.0, "cosine": -1.0}
"""Of those that are numbers, up to 1."""
OF_SCENES = Texts(
    things=", ".join(SHAPES),
    stuff=", ".join(STUFF),
    classes=", ".join((*SHAPES, *STUFF)),
    phrases="the orange ring\nthe large blue circle",
    sentences="a large blue circle before wood and brick\na small green cube before grass\nthree stars before water",
    question="what colour is the ring?",
)
OF_PHOTOGRAPHS = Texts(
    things="cup, spoon, person, cat, rocket",
    stuff="table, wall, sky, grass",
    classes="cup, spoon, person, cat, rocket, table, wall, sky, grass",
    phrases="the cup of coffee\nthe spoon on the saucer",
    sentences="a cup of coffee on a table\na cat that looks up\na rocket takes off",
    question="what is in the cup?",
)


def offered(network: Predictor) -> list[tuple[str, str]]:
    """Label and name of each task that a network can be asked."""
    return [(task.label, name) for name, task in TASKS.items() if task.available(network)]


def words_for(network: Predictor) -> Texts:
    """What stands in the fields at first: words that the network may know, and its own thresholds."""
    words, asked = OF_SCENES if network.limits else OF_PHOTOGRAPHS, network.tasks
    cosine = -1.0 if asked.referring.threshold is None else asked.referring.threshold
    return replace(words, threshold=asked.segmentation.postprocessing.object_threshold, cosine=cosine)


def texts_of(given: Sequence[Any]) -> Texts:
    """What stands in the fields, in the order of FIELDS."""
    if len(given) != len(FIELDS):
        raise ValueError(FORGED)
    return checked(dict(zip(FIELDS, given, strict=True)))


def checked(given: Mapping[str, Any]) -> Texts:
    """What a visitor, or a program, has sent for some of the fields."""
    for field, value in given.items():
        if field not in LEAST:
            right = isinstance(value, str)
        else:
            right = isinstance(value, (int, float)) and not isinstance(value, bool) and LEAST[field] <= value <= 1
        if not right:
            raise ValueError(FORGED)
    return Texts(**given)


async def asked(desk: Desk, network: Any, task: Any, upload: Any, texts: Texts, visitor: Any) -> Any:
    """The reply to a task about an uploaded picture; raises ValueError for what the visitor can mend."""
    if upload is None:
        raise ValueError("Choose a picture first.")
    if not isinstance(task, str) or task not in TASKS:
        raise ValueError(f"Choose one of the tasks {', '.join(TASKS)}.")
    name = desk.network(network)
    image = await asyncio.to_thread(waiting, uploaded(upload))
    answer = await desk.ask(name, TASKS[task].ask(image, texts), visitor)
    return await asyncio.to_thread(TASKS[task].show, answer, desk.networks[name], texts)


def add(desk: Desk, network: gr.Dropdown, scenes: Sequence[Path]) -> None:
    """The tab's components."""
    first = desk.networks[desk.network()]
    tasks = offered(first)
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=5, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Picture",
                height=190,
                elem_id="picture",
            )
            gallery = gr.HTML(
                _thumbnails(scenes),
                js_on_load="""element.addEventListener('click', event => {
                    const scene = event.target.closest('[data-scene]');
                    if (scene) trigger('choose', { number: Number(scene.dataset.scene) });
                });""",
                elem_id="scenes",
            )
            task = gr.Radio(tasks, value=tasks[0][1] if tasks else None, label="Task", elem_id="task")
            fields = _fields(words_for(first))
            button = gr.Button("Ask", variant="primary", elem_id="ask")
        with gr.Column(scale=7, min_width=300):
            answer = answer_place("answer")
    every = [fields[field] for field in FIELDS]

    async def ask(request: gr.Request, upload: Any, named: Any, chosen: Any, *given: Any) -> str:
        async def work() -> str:
            reply = await asked(desk, named, chosen, upload, texts_of(given), request.session_hash)
            return await asyncio.to_thread(viewer.answer, reply)

        return await kindly(work())

    def fit(chosen: Any) -> list[Any]:
        read = TASKS[chosen].fields if isinstance(chosen, str) and chosen in TASKS else ()
        return [gr.update(visible=field in read) for field in FIELDS]

    def change_network(named: Any) -> list[Any]:
        chosen = desk.networks[desk.network(named)]
        tasks, words = offered(chosen), words_for(chosen)
        shown = [gr.update(value=getattr(words, field)) for field in FIELDS]
        return [gr.update(choices=tasks, value=tasks[0][1] if tasks else None), *shown]

    def choose(event: gr.EventData) -> str:
        number = (event._data or {}).get("number")
        if not isinstance(number, int) or not 0 <= number < len(scenes):
            raise gr.Error(FORGED, print_exception=False)
        return str(scenes[number])

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    task.change(fit, task, every, queue=False, **quiet)
    network.change(change_network, network, [task, *every], queue=False, **quiet)
    gallery.choose(choose, None, picture, queue=False, **quiet)
    # Without preprocess, which would open the upload before `waiting` has looked at its header.
    inputs = [picture, network, task, *every]
    gr.on([button.click, fields["question"].submit], ask, inputs, answer, preprocess=False, api_visibility="private")


def _fields(words: Texts) -> dict[str, Any]:
    """One component a field; those of the first task are visible."""
    names = f"separated by commas, at most {MAX_TEXTS['class name']}"
    letters: dict[str, Any] = {"max_length": MAX_LETTERS + 1000}
    fields = {
        "things": gr.Textbox(words.things, label="Things, counted one by one", info=names, **letters),
        "stuff": gr.Textbox(words.stuff, label="Stuff, one region each", info=names, **letters),
        "classes": gr.Textbox(words.classes, label="Classes", info=names, lines=2, **letters),
        "phrases": gr.Textbox(
            words.phrases, label="Phrases", info=f"one a line, at most {MAX_TEXTS['phrase']}", lines=3, **letters
        ),
        "sentences": gr.Textbox(
            words.sentences, label="Sentences", info=f"one a line, at most {MAX_TEXTS['sentence']}", lines=3, **letters
        ),
        "question": gr.Textbox(words.question, label="Question", max_length=MAX_LENGTH),
        "threshold": gr.Slider(0, 1, words.threshold, step=0.05, label="Threshold", info="least score of a segment"),
        "score": gr.Slider(0, 1, words.score, step=0.05, label="Threshold", info="least score of a thing"),
        "cosine": gr.Slider(
            -1,
            1,
            words.cosine,
            step=0.001,
            label="Threshold",
            info="least similarity of a phrase and its region; -1 finds each",
        ),
    }
    for field, component in fields.items():
        component.elem_id = field
        component.visible = field in TASKS["panoptic"].fields
    return fields


def _thumbnails(scenes: Sequence[Path]) -> str:
    buttons = []
    for number, path in enumerate(scenes):
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail((160, 120))
        about = escape(f"Example {number + 1}: {path.stem}")
        shown = f'<img src="{viewer.jpeg(small)}" alt="{about}" title="{about}">'
        buttons.append(f'<button type="button" data-scene="{number}">{shown}</button>')
    return f'<div class="scenes" role="group" aria-label="Examples">{"".join(buttons)}</div>'
