"""The page: its first line, which says what the network knows, and a tab for each way to ask."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from datasets.prepare.painting import compose, paint
from datasets.shapes import SEEN
from demo.conversation import Conversation
from demo.page import api, ask_tab, chat_tab, find_tab, interactive_tab
from demo.page.desk import Desk
from demo.page.uploads import refuse_addresses
from xdecoder.inference.predictor import Predictor
from xdecoder.tasks import retrieval

KEPT_SECONDS = 3600  # for so long uploads lie in the server's temporary folder
PHOTOGRAPHS = Path(__file__).resolve().parent.parent / "photos"
SCENES = 4


def build(
    networks: Mapping[str, Predictor], folder: Path, talk: Callable[[], Conversation] | None = None, tools: bool = False
) -> gr.Blocks:
    """The page.

    Args:
        networks: by name; the first is asked until a visitor chooses another.
        folder: for the examples' pictures.
        talk: begins a visitor's conversation with a language model, where there is one.
        tools: whether tools for language models are served beside the page, which it then says.
    """
    desk = Desk(networks)
    first = desk.networks[desk.network()]
    with gr.Blocks(title="X-Decoder", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        api.add(desk)  # first, so that nothing else has taken their names
        with gr.Row(elem_id="top"):
            title = gr.HTML(_title(desk.network(), first, tools), elem_id="title")
            network = gr.Dropdown(
                list(networks),
                value=desk.network(),
                label="Network",
                show_label=False,
                container=False,
                visible=len(networks) > 1,
                scale=0,
                min_width=220,
                elem_id="network",
            )
        with gr.Tab("One picture"):
            ask_tab.add(desk, network, examples(folder, first))
        with gr.Tab("Interactive"):
            interactive_tab.add(desk, network)
        if any(_compares(each) for each in networks.values()):
            with gr.Tab("Find a picture"):
                find_tab.add(desk, network)
        if talk is not None:
            with gr.Tab("Conversation"):
                chat_tab.add(talk)
        network.change(
            lambda name: _title(desk.network(name), desk.networks[desk.network(name)], tools),
            network,
            title,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    refuse_addresses(page)
    return page


def _title(name: str, network: Predictor, tools: bool) -> str:
    """What is asked here, and what it knows."""
    weights = sum(parameter.numel() for parameter in network.model.parameters()) / 1e6
    known = network.model.protocol.knowledge or "which does not say what it was taught"
    limits = f" — {network.limits}" if network.limits else ""
    about = (
        f"<b>{escape(name)}</b>, {escape(network.model.config.name)}, {weights:.1f} million weights, {escape(known + limits)}."
    )
    served = " Tools for language models are at <code>/mcp</code>." if tools else ""
    return f'<div class="title"><h1>X-Decoder</h1><p>{about}{served}</p></div>'


def _compares(network: Predictor) -> bool:
    try:
        network.able(retrieval.DESCRIPTOR)
    except ValueError:
        return False
    return True


def examples(folder: Path, network: Predictor) -> list[Path]:
    """Photographs and scenes drawn for the page, first what the network knows."""
    drawn = []
    for number in range(SCENES):
        rng = np.random.default_rng(number)
        scene, stencils = compose(rng, 256, SEEN, SEEN)
        path = folder / f"scene {number + 1}.png"
        Image.fromarray(paint(rng, scene, stencils).pixels).save(path)
        drawn.append(path)
    # Copies, since gradio hands out files of the folder where it was started, and of the temporary one.
    photographs = [Path(shutil.copy(path, folder)) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    return drawn + photographs if network.limits else photographs + drawn
