"""A web page that asks networks about your pictures.

python demo/web.py [--checkpoint FILE …] [--host 127.0.0.1] [--port 7860]

Without --checkpoint it takes the network inside the package, or the one of `make quickstart`. It needs `pip install '.[web]'`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside the library are not installed

import xdecoder
from trainer import distributed
from trainer.commands import guarded
from xdecoder import shipped
from xdecoder.arguments import whole
from xdecoder.config import ConfigError
from xdecoder.inference.predictor import Predictor

QUICKSTART = ROOT / "runs/quickstart/model.pt"
LOCAL = ("127.0.0.1", "localhost", "::1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, load the networks and serve the page until it is interrupted; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: _main(arguments), debug="--debug" in arguments)


def _main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if (options.llm is None) != (options.model is None):
        raise ConfigError("--llm and --model come together: a server's address and a language model's name")
    if options.mcp and options.host not in LOCAL:
        raise ConfigError("--mcp: tools are for this machine alone, where all share one session; leave --host at 127.0.0.1")
    sources = options.checkpoint or [str(shipped.path() or QUICKSTART)]
    if sources == [str(QUICKSTART)] and not QUICKSTART.is_file():
        raise ConfigError("no network is named; add --checkpoint FILE, or run `make quickstart` first")
    try:
        from demo.page import chat_tab, layout, service
    except ImportError as error:
        raise ConfigError(f"the web page needs the package gradio: pip install '.[web]' ({error})") from None
    from demo.conversation import LanguageModel
    from xdecoder.serving.session import Session
    from xdecoder.serving.tools import Tools

    networks = _opened(sources)
    first = next(iter(networks.values()))
    with tempfile.TemporaryDirectory() as name:
        folder, talk, tools = Path(name), None, None
        if options.llm:
            language_model = LanguageModel(options.llm, options.model, os.environ.get("OPENAI_API_KEY"))
            talk = chat_tab.opener(first, language_model, folder)
        if options.mcp:
            tools = Tools(Session(first, Path(tempfile.mkdtemp(dir=folder))))
        page = layout.build(networks, folder, talk, tools is not None)
        service.serve(page, options.host, options.port, block=True, tools=tools)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A web page that asks networks about your pictures.")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        nargs="+",
        help="networks of ours or published ones, of which visitors may choose (default: the one inside, or quickstart's)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument("--port", type=whole(1, 65535), default=7860, help="(default: %(default)s)")
    parser.add_argument("--llm", metavar="ADDRESS", help="a server of OpenAI's kind, for a tab to talk in; see demo/chat.py")
    parser.add_argument("--model", metavar="NAME", help="of its language model")
    parser.add_argument(
        "--mcp", action="store_true", help="serve tools for language models at the page's address, /mcp (docs/tools.md)"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def _opened(sources: Sequence[str]) -> dict[str, Predictor]:
    """Networks by the names of their files, or as they were given where these are alike."""
    device = distributed.pick_device("auto", distributed.detect(os.environ))
    names = [Path(source).name for source in sources]
    distinct = names if len(set(names)) == len(names) else list(sources)
    return {name: xdecoder.load(source, device) for name, source in zip(distinct, sources, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
