"""The tab in which visitors mark objects: clicks, strokes and boxes in, masks out, round by round."""

from __future__ import annotations

import asyncio
import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from demo.page import board, viewer
from demo.page.answer import SCRIPT, answer_place
from demo.page.desk import Desk, kindly
from demo.page.replies import seen
from demo.page.rounds import Marked, Rounds
from demo.page.uploads import FORGED, open_shown, uploaded, waiting
from xdecoder.inference import formats
from xdecoder.inference.predictor import Predictor
from xdecoder.tasks import interactive

MARKING = (Path(__file__).parent / "marking.js").read_text(encoding="utf-8")
EXPORTS = {"coco": "objects.json", "polygons": "objects.geojson"}


def cannot(network: Predictor) -> str:
    """Why a network reads no strokes, in a sentence; empty for one that does."""
    try:
        interactive.strokes_of(network.able(interactive.DESCRIPTOR))
    except ValueError as error:
        return str(error)
    return ""


async def prompted(desk: Desk, network: Any, upload: Any, points: Any, labels: Any, box: Any, visitor: Any) -> dict[str, Any]:
    """One object of an uploaded picture by points and a box in its pixels, as JSON; nothing is remembered."""
    name, path = desk.network(network), uploaded(upload)
    right = isinstance(points, list) and isinstance(labels, list) and all(_are_numbers(each) for each in (box, *points))
    if not right or len(box) not in (0, 4):
        raise ValueError(FORGED)
    image = await asyncio.to_thread(waiting, path)

    def ask(model: Predictor) -> dict[str, Any]:
        session = model.encode(image).interact()
        if box:
            session.box(*box)
        if points:
            session.clicks(points, labels or [1] * len(points))
        elif not box:
            raise ValueError("prompt needs a point on the object or a box around it")
        return session.to_json()

    found: dict[str, Any] = await desk.ask(name, ask, visitor)
    return found


def _are_numbers(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(number, (int, float)) for number in given)


class Visit:
    """What the tab does with a visitor's picture: each call waits for its turn and gives the board as HTML."""

    def __init__(self, desk: Desk, rounds: Rounds) -> None:
        self._desk, self._rounds = desk, rounds

    async def begin(self, upload: Any, named: Any, request: gr.Request) -> str:
        """A picture is chosen: it is encoded, once."""

        async def work() -> str:
            if upload is None:
                return board.EMPTY
            name = self._desk.network(named)
            image = await asyncio.to_thread(open_shown, uploaded(upload))

            def encode(model: Predictor) -> Marked:
                picture = model.encode(image)
                picture.view(interactive.DESCRIPTOR)
                return self._rounds.begin(request.session_hash, name, picture)

            marked = await self._desk.ask(name, encode, request.session_hash)
            return await asyncio.to_thread(board.fresh, marked)

        found: str = await kindly(work())
        return found

    async def mark(self, event: gr.EventData, request: gr.Request) -> str:
        given = event._data if isinstance(event._data, dict) else {}
        return await self._round(
            request, lambda marked: marked.mark(*(given.get(key) for key in ("kind", "points", "positive", "width")))
        )

    async def select(self, event: gr.EventData, request: gr.Request) -> str:
        given = event._data if isinstance(event._data, dict) else {}
        return await self._round(request, lambda marked: marked.select(given.get("object")))

    async def new_object(self, request: gr.Request) -> str:
        return await self._round(request, Marked.new_object)

    async def undo(self, request: gr.Request) -> str:
        return await self._round(request, Marked.undo)

    async def reset(self, request: gr.Request) -> str:
        return await self._round(request, Marked.reset)

    async def find(self, upload: Any, request: gr.Request) -> str:
        """The current object in another picture."""

        async def work() -> str:
            if upload is None:
                raise ValueError("Choose the other picture first.")
            marked = self._rounds.of(request.session_hash)
            other = await asyncio.to_thread(open_shown, uploaded(upload))

            def look(model: Predictor) -> Any:
                return model.find_like(marked.picture, marked.object_mask(), [other])[0]

            reply = seen(await self._desk.ask(marked.network, look, request.session_hash))
            return await asyncio.to_thread(viewer.answer, reply)

        found: str = await kindly(work())
        return found

    async def export(self, event: gr.EventData, request: gr.Request) -> str:
        """The objects as a file, in a link that the browser follows."""
        kind = event._data.get("kind") if isinstance(event._data, dict) else None

        async def work() -> str:
            if kind not in EXPORTS:
                raise ValueError(FORGED)
            marked = self._rounds.of(request.session_hash)

            def tell(model: Predictor) -> dict[str, Any]:
                session = marked.session
                return formats.coco([("picture", session)]) if kind == "coco" else session.to_geojson()

            text = json.dumps(await self._desk.ask(marked.network, tell, request.session_hash), indent=1)
            data = base64.b64encode(text.encode()).decode()
            return f'<a download="{EXPORTS[kind]}" href="data:application/json;base64,{data}">{EXPORTS[kind]}</a>'

        found: str = await kindly(work())
        return found

    async def _round(self, request: gr.Request, change: Callable[[Marked], None]) -> str:
        """The board after a change; what was wrong is a toast, and the board stays."""
        try:
            marked = self._rounds.of(request.session_hash)
        except ValueError as error:
            gr.Warning(html.escape(str(error)))
            return board.EMPTY

        def work(model: Predictor) -> Any:
            said = ""
            try:
                change(marked)
            except ValueError as error:
                said = str(error)
            return marked.regions(), said

        async def answered() -> str:
            regions, said = await self._desk.ask(marked.network, work, request.session_hash)
            if said:
                gr.Warning(html.escape(said))
            return await asyncio.to_thread(board.after, marked, regions)

        found: str = await kindly(answered())
        return found


def add(desk: Desk, network: gr.Dropdown) -> None:
    """The tab's components; a network that reads no strokes says so in their place."""
    visit, why = Visit(desk, Rounds()), cannot(desk.networks[desk.network()])
    sentence = gr.HTML(_sentence(why), visible=bool(why), elem_id="no-strokes")
    with gr.Row(visible=not why, elem_classes="columns") as tools:
        with gr.Column(scale=5, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Picture to mark",
                height=170,
                elem_id="marked-picture",
            )
            buttons = gr.HTML(board.TOOLS, js_on_load=board.TOOLS_SCRIPT, elem_id="tools")
            exported = gr.HTML("", js_on_load="watch('value', () => element.querySelector('a')?.click());", elem_id="exported")
            other = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                label="Another picture",
                height=150,
                elem_id="other-picture",
            )
            find = gr.Button("Find this object in it", elem_id="find-like")
        with gr.Column(scale=7, min_width=300):
            canvas = gr.HTML(board.EMPTY, js_on_load=SCRIPT + MARKING, elem_id="board")
            found = answer_place("like", "What is like it in the other picture will stand here.")

    def change_network(named: Any) -> list[Any]:
        why = cannot(desk.networks[desk.network(named)])
        return [gr.update(value=_sentence(why), visible=bool(why)), gr.update(visible=not why), board.EMPTY]

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    network.change(change_network, network, [sentence, tools, canvas], queue=False, **quiet)
    gr.on([picture.change, network.change], visit.begin, [picture, network], canvas, preprocess=False, api_visibility="private")
    canvas.mark(visit.mark, None, canvas, **quiet)
    canvas.select_object(visit.select, None, canvas, **quiet)
    buttons.new_object(visit.new_object, None, canvas, **quiet)
    buttons.undo(visit.undo, None, canvas, **quiet)
    buttons.reset(visit.reset, None, canvas, **quiet)
    buttons.export(visit.export, None, exported, **quiet)
    find.click(visit.find, other, found, preprocess=False, api_visibility="private")


def _sentence(why: str) -> str:
    return f'<p class="sentence">{html.escape(why[:1].upper() + why[1:])}.</p>' if why else ""
