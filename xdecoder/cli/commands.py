"""What is no question about pictures: serving, searching, labelling, exporting, and what there is."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from xdecoder import rooms, weights
from xdecoder.cli import completion
from xdecoder.cli.network import load
from xdecoder.cli.terminal import EXIT_ERROR, complain, show
from xdecoder.files import read_json, write_json

MOST_NAMED = 5  # pictures that could not be read, on the terminal


def track(options: argparse.Namespace) -> int:
    from xdecoder.cli import films

    for path in films.track(lambda: load(options), options, show):
        print(path, flush=True)
    return 0


def serve_mcp(options: argparse.Namespace) -> int:
    from xdecoder import editing
    from xdecoder.serving import mcp
    from xdecoder.serving.session import Limits, Session
    from xdecoder.serving.tools import Tools

    model = load(options)
    inpainter = editing.load_inpainter(options.inpainter, str(model.model.device)) if options.inpainter else None
    limits, config = Limits(seconds=options.seconds), editing.EditConfig(cosine=options.threshold)
    with tempfile.TemporaryDirectory(prefix="xdecoder-") as folder:
        mcp.serve(Tools(Session(model, Path(folder), options.root, limits), inpainter, config), options.http)
    return 0


def serve_http(options: argparse.Namespace) -> int:
    from xdecoder.serving import http

    config = http.ServerConfig(batch=options.batch, seconds=options.seconds)
    http.serve(load(options), options.host, options.port, config)
    return 0


def list_weights(options: argparse.Namespace) -> int:
    print(weights.listing())
    return 0


def complete(options: argparse.Namespace, commands: Mapping[str, argparse.ArgumentParser]) -> int:
    known = {
        name: [word for action in parser._actions for word in action.option_strings if word.startswith("--")]
        for name, parser in commands.items()
    }
    print(completion.script(options.shell, known, list(weights.PUBLISHED)), end="")
    return 0


def export_network(options: argparse.Namespace) -> int:
    import xdecoder
    from xdecoder.inference import export
    from xdecoder.types import Vocabulary

    model = xdecoder.load(options.checkpoint).model
    export.export(model, options.out, options.size)
    print(options.out)
    names = (*options.things, *options.stuff)
    if names:
        vocabulary = Vocabulary(names, (True,) * len(options.things) + (False,) * len(options.stuff))
        classes = options.out.with_suffix(".classes.npz")
        export.write_classes(model, vocabulary, classes)
        print(classes)
    return 0


def make_index(options: argparse.Namespace) -> int:
    from xdecoder.inference import index

    def tell(done: int, whole: int) -> None:
        show(f"[{done}/{whole}] pictures" if done < whole else "")

    regions = None if options.no_regions else index.WORTH
    count = index.build(load(options), options.folder, options.out, regions, tell)
    print(f"{options.out}: {count} pictures encoded")
    faults = list(read_json(options.out / index.FAULTS).values())
    for sentence in faults[:MOST_NAMED]:
        complain(ValueError(sentence))
    if len(faults) > MOST_NAMED:
        complain(ValueError(f"{options.out / index.FAULTS} names {len(faults)} pictures that could not be read"))
    return EXIT_ERROR if faults else 0


def search(options: argparse.Namespace) -> int:
    from xdecoder.inference import index

    model = load(options)
    found = index.load(options.index, model)
    for hit in index.search(model, found, options.text, options.count, options.regions, options.faiss):
        print(json.dumps({"picture": str(hit.path), "score": round(hit.score, 6), "box": hit.box}), flush=True)
        if options.out is not None:
            marked = model.refer(hit.path, [options.text], -1)
            marked.save(options.out / f"{hit.name}.png")  # a.jpg and a.png are two pictures
    return 0


def label(options: argparse.Namespace) -> int:
    def tell(left: int) -> None:
        show(f"{left} pictures left" if left else "")

    with rooms.opened("label"):
        labelling = import_module("datasets.labelling")  # annotations become masks there
        content = labelling.label_file(load(options), options.file, options.images, options.names, tell)
    write_json(options.out, content)
    print(options.out)
    return 0


def tell_file(options: argparse.Namespace) -> int:
    from xdecoder.inspection import inspect

    print(json.dumps(inspect(options.file), indent=1, default=str))
    return 0
