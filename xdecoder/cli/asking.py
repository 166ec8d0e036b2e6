"""Questions about pictures, one after the other: what is asked, and where the answers go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder.cli.network import load
from xdecoder.cli.photos import Photo, images_of, named_images, read_region
from xdecoder.cli.terminal import EXIT_ERROR, complain, progress, show
from xdecoder.files import FILM_SUFFIXES, atomic, write_json

if TYPE_CHECKING:  # torch takes seconds to import; `xdecoder --help` does without
    from PIL.Image import Image

    from xdecoder.inference.picture import Picture
    from xdecoder.inference.predictor import Predictor
    from xdecoder.inference.results import Drawable, Regions, Several


@dataclass(frozen=True)
class Answer:
    """What is said of a picture: JSON, and a drawing where there is one."""

    content: dict[str, Any]
    draw: Callable[..., Image] | None = None
    result: Drawable | None = None  # what other formats are made of
    names: Sequence[str] = ()  # what was asked for: YOLO's numbers of classes


Ask = Callable[["Predictor", "list[Picture]", argparse.Namespace], "list[Answer]"]
Fault = Callable[[ValueError], None]


def each_image(options: argparse.Namespace) -> int:
    """Ask about the pictures. One that cannot be read is told of and does not keep the others from their answers."""
    photos = images_of(named_images(options), options.urls)
    if options.resume and options.out is not None:
        photos = [photo for photo in photos if not any(_file(options, photo, kind).is_file() for kind in ("json", "jsonl"))]
    if not photos:
        return 0
    model = load(options)
    status, saved = 0, []

    def fault(error: ValueError) -> None:
        nonlocal status
        if len(photos) == 1:
            raise error
        status = complain(error)

    films = [photo for photo in photos if isinstance(photo.path, Path) and photo.path.suffix.lower() in FILM_SUFFIXES]
    waiting = progress([photo for photo in photos if photo not in films])
    while some := list(islice(waiting, options.batch)):
        for photo, answer in _answers(model, _opened(model, some, fault), options, fault):
            _tell(photo, answer, options)
            if answer.result is not None and "coco" in options.save:
                saved.append((str(photo.path), answer.result))
    for film in films:
        try:
            _tell_film(model, film, options)
        except ValueError as error:
            fault(error)
    if saved and options.out is not None:
        from xdecoder.inference import formats

        write_json(options.out / "coco.json", formats.coco(saved))
        print(options.out / "coco.json", flush=True)
    return status


def _tell_film(model: Predictor, photo: Photo, options: argparse.Namespace) -> None:
    from xdecoder.cli import films

    assert isinstance(photo.path, Path)
    target = None if options.out is None else options.out / photo.name
    for path in films.ask(model, photo.path, target, options, show):
        print(path, flush=True)


def _opened(model: Predictor, photos: Sequence[Photo], fault: Fault) -> list[tuple[Photo, Picture]]:
    """The photos that can be read, ready to be asked about."""
    found = []
    for photo in photos:
        try:
            found.append((photo, model.encode(photo.content())))
        except ValueError as error:
            fault(error)
    return found


def _answers(
    model: Predictor, opened: Sequence[tuple[Photo, Picture]], options: argparse.Namespace, fault: Fault
) -> Iterator[tuple[Photo, Answer]]:
    """What is said of pictures that are asked about together; where one of them is at fault, only that one goes without."""
    if not opened:
        return
    try:
        answers: list[Answer] = options.ask(model, [picture for _, picture in opened], options)
    except ValueError as error:
        if len(opened) == 1:
            fault(error)
            return
        for one in opened:
            yield from _answers(model, [one], options, fault)
        return
    yield from zip((photo for photo, _ in opened), answers, strict=True)


def retrieve(options: argparse.Namespace) -> int:
    """Rank the pictures, read one after the other; the best one is answered with the region that the text means."""
    photos = images_of(named_images(options), options.urls)
    model = load(options)
    status, scores = 0, {}
    best: tuple[float, Photo, Picture] | None = None
    for photo in progress(photos):
        try:
            picture = model.encode(photo.content())
            scores[photo] = score = picture.match([options.text]).item()
        except ValueError as error:
            status = complain(error)
            continue
        if best is None or score > best[0]:
            best = (score, photo, picture)
    if best is None:
        return EXIT_ERROR
    order = sorted(scores, key=lambda photo: -scores[photo])
    ranking = [{"picture": str(photo.path), "score": round(scores[photo], 6)} for photo in order]
    found = best[2].refer([options.text])
    _tell(best[1], Answer({"text": options.text, "ranking": ranking, **found.to_json()}, found.draw), options)
    return status


def _tell(photo: Photo, answer: Answer, options: argparse.Namespace) -> None:
    content = {"picture": str(photo.path), **answer.content}
    show("")  # or the line of progress would stand before what is printed
    if options.out is None:
        print(json.dumps(content), flush=True)
        return
    files = [_file(options, photo, "json")]
    write_json(files[0], content)
    if answer.draw is not None and "png" in options.save:
        files.append(_file(options, photo, "png"))
        with atomic(files[-1]) as file:
            style = {"labels": not options.no_labels, "opacity": options.opacity, "keep_colors": options.keep_colors}
            answer.draw(overlay_only=options.overlay, **style).save(file, "PNG")
    if answer.result is not None:
        files += _other_formats(photo, answer.result, answer.names, options)
    print(*files, sep="\n", flush=True)


def _file(options: argparse.Namespace, photo: Photo, suffix: str) -> Path:
    """Where an answer goes below --out."""
    target: Path = options.out / photo.name
    return target.with_name(f"{target.name}.{suffix}")


def _other_formats(photo: Photo, result: Drawable, names: Sequence[str], options: argparse.Namespace) -> list[Path]:
    """Write what --save names besides our own; the files."""
    from xdecoder.inference import formats

    files = []
    if "geojson" in options.save:
        files.append(_file(options, photo, "geojson"))
        write_json(files[-1], formats.geojson(result))
    if "labelstudio" in options.save:
        files.append(_file(options, photo, "labelstudio.json"))
        write_json(files[-1], formats.label_studio(str(photo.path), result))
    if "yolo" in options.save:
        files += [_file(options, photo, "txt"), options.out / "classes.txt"]
        for path, text in zip(files[-2:], (formats.yolo(result, names), "".join(f"{name}\n" for name in names)), strict=True):
            with atomic(path, "w") as file:
                file.write(text)
    return files


def segment(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.segment(pictures, options.classes, threshold=options.threshold, tile=options.tile)
    return [Answer(result.to_json(), result.draw, result, options.classes) for result in found]


def panoptic(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.panoptic(pictures, options.things, options.stuff, threshold=options.threshold, tile=options.tile)
    return [Answer(result.to_json(), result.draw, result, [*options.things, *options.stuff]) for result in found]


def instances(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.instances(pictures, options.classes, threshold=options.threshold)
    return [Answer(result.to_json(), result.draw, result, options.classes) for result in found]


def refer(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found: Sequence[Several | Regions]
    if options.all:
        found = model.refer_all(pictures, options.phrases, options.threshold)
    else:
        found = model.refer(pictures, options.phrases, options.threshold, together=options.together or None)
    return [Answer(result.to_json(), result.draw, result, options.phrases) for result in found]


def everything(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.everything(pictures, options.names)
    return [Answer(result.to_json(), result.draw, result, options.names) for result in found]


def caption(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    region = None if options.region is None else read_region(options.region)
    sentences = model.caption(pictures, region=[region] * len(pictures), beams=options.beams)
    return [Answer({"caption": sentence}) for sentence in sentences]


def answer(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.answer(pictures, options.question)
    return [Answer({"question": options.question, "answer": each.text, "score": each.score}) for each in found]


def edit(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    from xdecoder import editing

    inpainter = editing.load_inpainter(options.inpainter, str(model.model.device)) if options.inpainter else None
    config = editing.EditConfig(cosine=options.threshold)
    edited = [picture.edit(options.instruction, inpainter, config) for picture in pictures]
    return [Answer({"instruction": options.instruction, **each.to_json()}, partial(_image, each.image)) for each in edited]


def _image(image: Image, **_: Any) -> Image:
    return image
