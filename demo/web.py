"""A web page that asks a network about your pictures.

python demo/web.py [--checkpoint FILE] [--host 127.0.0.1] [--port 7860]

Without --checkpoint it takes the network of `make quickstart`. It needs `pip install '.[web]'`.
"""

from __future__ import annotations

import argparse
import html
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "demo"):  # the rooms beside the library are not installed
    sys.path.insert(0, str(folder))

import answers
import chat_tab
import numpy as np
from answers import Ask, Reply, Texts, open_upload
from conversation import Conversation, LanguageModel
from PIL import Image

import xdecoder
from datasets.prepare.painting import compose, paint
from datasets.shapes import SEEN, SHAPES, STUFF
from trainer import distributed
from trainer.commands import guarded
from xdecoder import shipped
from xdecoder.config import ConfigError
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Session
from xdecoder.serving.tools import Tools
from xdecoder.tasks import captioning, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor

QUICKSTART = ROOT / "runs/quickstart/model.pt"
UPLOAD_LIMIT = "40mb"
WAITING = 32  # visitors in the queue; one more is told to come back
KEPT_SECONDS = 3600  # for so long uploads and answers lie in the server's temporary folder
MOST_IMAGES = 16  # of a search
EXAMPLES = 6
FORGED = "This is not what the page sends; reload it and ask again."
COMMAS = "separated by commas"
FIELDS = ("things", "stuff", "classes", "phrases", "sentences", "question", "threshold")

Choice = tuple[Ask, tuple[str, ...], Descriptor]
TASKS: dict[str, Choice] = {
    "Panoptic": (answers.panoptic, ("things", "stuff", "threshold"), segmentation.DESCRIPTOR),
    "Semantic": (answers.semantic, ("classes",), segmentation.DESCRIPTOR),
    "Instances": (answers.instances, ("things", "threshold"), segmentation.DESCRIPTOR),
    "Referring": (answers.refer, ("phrases",), referring.DESCRIPTOR),
    "Caption": (answers.caption, (), captioning.DESCRIPTOR),
    "Caption of a region": (answers.caption_region, ("phrases",), captioning.DESCRIPTOR),
    "Match texts": (answers.match, ("sentences",), retrieval.DESCRIPTOR),
    "Question": (answers.answer, ("question",), vqa.DESCRIPTOR),
}
"""Each task of one picture: what it asks, the fields that it reads, and what a network must be able to do for it."""

CSS = """
.gradio-container { max-width: 1180px !important; margin: auto; }
.headline { font-size: 1.25rem; min-height: 2rem; }
footer { display: none !important; }
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, load the network and serve the page until it is interrupted; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: _main(arguments), debug="--debug" in arguments)


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="A web page that asks a network about your pictures.")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="a network of ours or a published one (default: the one inside, or quickstart's)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=7860, help="(default: %(default)s)")
    parser.add_argument("--llm", metavar="ADDRESS", help="a server of OpenAI's kind, for a tab to talk in; see demo/chat.py")
    parser.add_argument("--model", metavar="NAME", help="of its language model")
    parser.add_argument(
        "--mcp", type=_port, metavar="PORT", help="serve tools for language models beside the page (docs/tools.md)"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    options = parser.parse_args(arguments)
    if (options.llm is None) != (options.model is None):
        raise ConfigError("--llm and --model come together: a server's address and a language model's name")
    source = options.checkpoint or shipped.path() or QUICKSTART
    if source == QUICKSTART and not QUICKSTART.is_file():
        raise ConfigError("no network is named; add --checkpoint FILE, or run `make quickstart` first")
    predictor = xdecoder.load(source, distributed.pick_device("auto", distributed.detect(os.environ)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        talk = None
        if options.llm:
            language_model = LanguageModel(options.llm, options.model, os.environ.get("OPENAI_API_KEY"))
            talk = chat_tab.opener(predictor, language_model, folder)
        if options.mcp:
            _serve_tools(predictor, folder, options.mcp)
        serve(build(predictor, Path(source).name, folder, talk), options.host, options.port, block=True)
    return 0


def _serve_tools(predictor: Predictor, folder: Path, port: int) -> None:
    """Tools beside the page, for this machine alone, as long as the page is served."""
    from xdecoder.serving import mcp

    tools = Tools(Session(predictor, Path(tempfile.mkdtemp(dir=folder))))
    threading.Thread(target=mcp.serve, args=(tools, port), daemon=True).start()


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 65535, not {text!r}")
    return int(text)


def serve(page: Any, host: str, port: int | None, block: bool) -> str:
    """Open the page to visitors; returns its address."""
    import gradio as gr

    _, address, _ = page.queue(max_size=WAITING, default_concurrency_limit=1).launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not block,
        quiet=not block,
        share=False,
        ssr_mode=False,
        max_file_size=UPLOAD_LIMIT,
        css=CSS,
        theme=gr.themes.Soft(primary_hue="indigo", font=["system-ui", "sans-serif"]),
        footer_links=[],
    )
    return str(address)


def build(predictor: Predictor, name: str, folder: Path, talk: Callable[[], Conversation] | None = None) -> Any:
    """The page.

    Args:
        name: of the network, shown in the title.
        folder: for the examples' pictures.
        talk: begins a visitor's conversation with a language model, where there is one.
    """
    try:
        import gradio as gr
    except ImportError:
        raise ConfigError("the web page needs the package gradio: pip install '.[web]'") from None

    tasks = {name: entry for name, entry in TASKS.items() if can_do(predictor, entry[2])}
    with gr.Blocks(title="X-Decoder", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(f"# X-Decoder\nOne network for pixels, pictures and language. You are asking **{name}**.")
        with gr.Tab("One picture"):
            _one_image(gr, predictor, tasks, examples(folder))
        if can_do(predictor, retrieval.DESCRIPTOR):
            with gr.Tab("Find a picture"):
                _find(gr, predictor)
        if talk is not None:
            with gr.Tab("Conversation"):
                chat_tab.add(gr, talk, _refuse_addresses)
    return page


def can_do(predictor: Predictor, task: Descriptor) -> bool:
    """Whether the network can be asked this; questions need one that was taught to answer them."""
    try:
        model = predictor.able(task)
        if task is vqa.DESCRIPTOR:
            vqa.head_of(model)
    except ValueError:
        return False
    return True


def _one_image(
    gr: Any, predictor: Predictor, tasks: dict[str, tuple[Ask, tuple[str, ...], Descriptor]], shown: list[list[str]]
) -> None:
    with gr.Row():
        with gr.Column(scale=4):
            picture = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Photo", height=290, elem_id="picture"
            )
            _refuse_addresses(picture)
            task = gr.Radio(list(tasks), value="Panoptic", label="Task", elem_id="task")
            fields = _fields(gr, predictor.tasks.segmentation.postprocessing.object_threshold)
            button = gr.Button("Ask", variant="primary", elem_id="ask")
        with gr.Column(scale=6):
            outputs = _outputs(gr, "")

    def ask(upload: dict[str, Any] | None, chosen: str, *given: Any) -> list[Any]:
        def work() -> Reply:
            if upload is None:
                raise ValueError("Choose a picture first.")
            if not isinstance(chosen, str) or chosen not in tasks:
                raise ValueError(f"Choose one of the tasks {', '.join(tasks)}.")
            return tasks[chosen][0](predictor, open_upload(_path(upload)), _texts(given))

        return _shown(gr, _kindly(work))

    def fit(chosen: str) -> list[Any]:
        return [gr.update(visible=field in tasks[chosen][1]) for field in FIELDS]

    every = [fields[field] for field in FIELDS]
    task.change(fit, task, every, queue=False, show_progress="hidden", api_visibility="private")
    # Without preprocess, which would open the upload before open_upload has looked at its header.
    gr.on(
        [button.click, fields["question"].submit],
        ask,
        [picture, task, *every],
        outputs,
        preprocess=False,
        show_progress_on=outputs[0],
        api_visibility="private",
    )
    gallery = gr.Dataset(
        components=[picture], samples=shown, label="Generated scenes: choose one, then Ask", elem_id="examples", type="index"
    )
    gallery.click(lambda number: shown[number][0], gallery, picture, queue=False, api_visibility="private")


def _find(gr: Any, predictor: Predictor) -> None:
    with gr.Row():
        with gr.Column(scale=4):
            files = gr.File(file_count="multiple", file_types=["image"], type="filepath", label="Pictures", elem_id="pictures")
            _refuse_addresses(files)
            text = gr.Textbox(label="Text", value="a large red star", max_length=answers.MAX_LENGTH, elem_id="text")
            button = gr.Button("Find", variant="primary", elem_id="find")
        with gr.Column(scale=6):
            outputs = _outputs(gr, "found-")

    def find(uploads: list[dict[str, Any]] | None, words: str) -> list[Any]:
        def work() -> Reply:
            paths = [_path(upload) for upload in uploads or ()]
            if not isinstance(words, str):
                raise ValueError(FORGED)
            if not 0 < len(paths) <= MOST_IMAGES:
                raise ValueError(f"Choose some pictures first, at most {MOST_IMAGES}.")
            return answers.find(predictor, [open_upload(path) for path in paths], words)

        return _shown(gr, _kindly(work))

    gr.on([button.click, text.submit], find, [files, text], outputs, preprocess=False, api_visibility="private")


def _fields(gr: Any, threshold: float) -> dict[str, Any]:
    """One component a field; those of the first task are visible."""
    every = {"max_length": answers.MAX_LETTERS + 1000}
    fields = {
        "things": gr.Textbox(", ".join(SHAPES), label="Things, counted one by one", info=COMMAS, lines=2, **every),
        "stuff": gr.Textbox(", ".join(STUFF), label="Stuff, one region each", info=COMMAS, **every),
        "classes": gr.Textbox(", ".join((*SHAPES, *STUFF)), label="Classes", info=COMMAS, lines=2, **every),
        "phrases": gr.Textbox("the orange ring\nthe large blue circle", label="Phrases", info="one a line", lines=3, **every),
        "sentences": gr.Textbox(
            "a large blue circle before wood and brick\na small green cube before grass\nthree stars before water",
            label="Sentences",
            info="one a line",
            lines=3,
            **every,
        ),
        "question": gr.Textbox("what colour is the ring?", label="Question", max_length=answers.MAX_LENGTH),
        "threshold": gr.Slider(0.05, 0.95, threshold, step=0.05, label="Threshold", info="how sure the network must be"),
    }
    for field, component in fields.items():
        component.elem_id = field
        component.visible = field in TASKS["Panoptic"][1]
    return fields


def _outputs(gr: Any, prefix: str) -> list[Any]:
    """Where a reply is shown; `prefix` makes the elements' names differ between two such places."""
    headline = gr.HTML("Ask, and the answer will stand here.", elem_id=f"{prefix}headline", elem_classes="headline")
    scores = gr.Label(label="How well they fit", show_heading=False, visible=False, elem_id=f"{prefix}scores")
    with gr.Tabs(visible=False) as tabs:
        with gr.Tab("Regions"):
            regions = gr.AnnotatedImage(label="Point at a name below the picture", elem_id=f"{prefix}regions")
        with gr.Tab("Drawing"):
            drawing = _downloadable(gr, f"{prefix}drawing")
        with gr.Tab("Overlay"):
            overlay = _downloadable(gr, f"{prefix}overlay")
    with gr.Accordion("JSON", open=False, visible=False, elem_id=f"{prefix}json") as box:
        code = gr.Code(language="json", label="Masks are COCO's run lengths", max_lines=16, interactive=False)
    return [headline, scores, tabs, regions, drawing, overlay, box, code]


def _downloadable(gr: Any, name: str) -> Any:
    return gr.Image(
        format="png", image_mode=None, show_label=False, interactive=False, buttons=["download", "fullscreen"], elem_id=name
    )


def _shown(gr: Any, reply: Reply) -> list[Any]:
    found = bool(reply.regions)
    annotated = gr.AnnotatedImage((reply.picture, list(reply.regions)), color_map=dict(reply.colours)) if found else None
    return [
        f"<strong>{html.escape(reply.headline)}</strong>",  # it holds words of visitors
        gr.Label(dict(reply.scores), visible=bool(reply.scores)),
        gr.Tabs(visible=found),
        annotated,
        reply.drawing if found else None,
        reply.overlay if found else None,
        gr.Accordion(visible=True),
        reply.json,
    ]


def _path(upload: Any) -> str:
    """Where an upload lies; its form is checked, since nobody keeps a visitor from sending what the page would not."""
    if not isinstance(upload, dict) or not isinstance(upload.get("path"), str):
        raise ValueError(FORGED)
    return str(upload["path"])


def _texts(given: Sequence[Any]) -> Texts:
    """What stands in the fields, in the order of FIELDS, of which only the threshold is a number."""
    *texts, threshold = given
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool) and 0 <= threshold <= 1
    if len(given) != len(FIELDS) or not number or not all(isinstance(text, str) for text in texts):
        raise ValueError(FORGED)
    return Texts(**dict(zip(FIELDS, given, strict=True)))


def _kindly(work: Callable[[], Reply]) -> Reply:
    """The reply, or a sentence on what the visitor can mend; what only we can mend goes to the log."""
    try:
        return work()
    except ValueError as error:
        said = str(error)
    except Exception:
        traceback.print_exc()
        said = "Something went wrong on our side; the log of this page says what."
    return Reply(said, {"error": said})


def _refuse_addresses(component: Any) -> None:
    """Gradio refuses paths outside its folder of uploads by itself, but would fetch addresses."""
    import gradio as gr

    move = component.async_move_resource_to_block_cache

    async def local_only(path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("Upload the picture itself rather than its address.", print_exception=False)
        return await move(path)

    component.async_move_resource_to_block_cache = local_only


def examples(folder: Path) -> list[list[str]]:
    """Scenes drawn for the page: a row with a file each."""
    rows = []
    for number in range(EXAMPLES):
        rng = np.random.default_rng(number)
        scene, stencils = compose(rng, 256, SEEN, SEEN)
        path = folder / f"scene{number}.png"
        Image.fromarray(paint(rng, scene, stencils).pixels).save(path)
        rows.append([str(path)])
    return rows


if __name__ == "__main__":
    sys.exit(main())
