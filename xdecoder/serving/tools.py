"""The tools: what may be asked about a picture, with typed arguments and typed results. Every door to them reads `TOOLS`."""

from __future__ import annotations

import base64
import binascii
import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import anyio
from PIL import Image
from pydantic import Field, create_model

from xdecoder import rle
from xdecoder.config import Config, parse
from xdecoder.defaults import LEAST_SCORE
from xdecoder.editing import EditConfig, Inpainter, Step
from xdecoder.inference.results import Drawable
from xdecoder.serving.session import Mask, Session
from xdecoder.tasks import captioning, referring, retrieval, segmentation, vqa

MOST_TEXTS = 200
MOST_LETTERS = 500  # of one text
MOST_UPLOAD = 60_000_000  # letters of an upload in base64

Text = Annotated[str, Field(min_length=1, max_length=MOST_LETTERS)]
ImageHandle = Annotated[str, Field(description="handle of a picture, such as img_1")]
MaskHandle = Annotated[str, Field(description="handle of a mask that another tool gave, such as img_1.mask_2")]
Classes = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS, description="class names, each a noun or two")]
Threshold = Annotated[float, Field(ge=0, le=1, description="least score of what is reported")]
Cosine = Annotated[
    float, Field(ge=-1, le=1, description="least similarity of a phrase and its region; by default what was fitted")
]
Phrases = Annotated[
    list[Text], Field(min_length=1, max_length=MOST_TEXTS, description="such as 'the cup on the left', one region each")
]


class Opened(Config):
    image: str
    width: int
    height: int


class Region(Config):
    name: str
    score: float | None
    """How sure the network is: a probability, or for phrases a cosine."""
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels."""
    share: float
    """Of the picture's pixels."""
    mask: str
    """Handle of the mask."""


class Regions(Config):
    found: bool
    message: str
    regions: tuple[Region, ...]
    absent: tuple[str, ...] = ()
    """What was asked for and is not in the picture."""


class Description(Config):
    text: str


class Answer(Config):
    text: str
    score: float


class Similarity(Config):
    text: str
    cosine: float


class Similarities(Config):
    texts: tuple[Similarity, ...]
    """Best first."""


class Finding(Config):
    image: str
    """The picture that fits best."""
    cosines: dict[str, float]
    regions: Regions


class Edited(Config):
    image: str
    """Handle of the new picture; the old one is unchanged."""
    width: int
    height: int
    edits: tuple[dict[str, Any], ...]


class MaskContent(Config):
    bbox: tuple[int, int, int, int]
    area: int
    segmentation: dict[str, Any]
    """COCO's compressed run lengths."""


class Known(Config):
    origin: str
    width: int
    height: int
    masks: int


class Info(Config):
    tools: tuple[str, ...]
    unavailable: dict[str, str]
    """Tools that this network cannot serve, and why."""
    pictures: dict[str, Known]
    limits: dict[str, float]


class Closed(Config):
    closed: str


Content = TypeVar("Content", bound=Config)


@dataclass(frozen=True)
class Reply(Generic[Content]):
    """What a tool says, and a picture where there is one."""

    content: Content
    image: Image.Image | None = None


class Tools:
    """The tools of one session. A method is a tool: its docstring, its type hints and its result's type are what callers see.

    Args:
        inpainter: paints new things for `edit`; None = only what needs no weights.
        config: when a phrase counts as found, here and in edits.
    """

    def __init__(self, session: Session, inpainter: Inpainter | None = None, config: EditConfig | None = None) -> None:
        self.session, self._inpainter, self._config = session, inpainter, config or EditConfig()
        self._turn = threading.Lock()

    def open(self, path: Annotated[str, Field(max_length=4096, description="below the server's root")]) -> Opened:
        """Open a picture file; every other tool takes the handle that this one gives."""
        return self._opened(self.session.open(path))

    def upload(
        self, data: Annotated[str, Field(max_length=MOST_UPLOAD, description="an encoded picture, in base64")]
    ) -> Opened:
        """Open a picture that is sent along; every other tool takes the handle that this one gives."""
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("data: not base64") from None
        return self._opened(self.session.upload(content))

    def describe(self, image: ImageHandle, mask: MaskHandle | None = None, phrase: Text | None = None) -> Description:
        """Describe a picture in a sentence, or the part of it that a mask shows or a phrase means."""
        picture = self.session.picture(image)
        region = None if mask is None else self._mask_of(image, mask)
        if phrase is not None and mask is not None:
            raise ValueError("describe: give a mask or a phrase, not both")
        if phrase is not None:
            found = picture.refer([phrase], self._config.cosine)
            region = found.masks[0].numpy()
            if not region.any():
                raise ValueError(f"nothing that {phrase!r} means was found (cosine {found.scores[0]:.2f})")
        return Description(text=picture.caption(region))

    def segment(self, image: ImageHandle, classes: Classes) -> Reply[Regions]:
        """Give each pixel one of some classes."""
        return self._seen(image, self.session.picture(image).segment(classes), classes)

    def panoptic(
        self,
        image: ImageHandle,
        things: Annotated[list[Text], Field(max_length=MOST_TEXTS, description="what is counted one by one")],
        stuff: Annotated[tuple[Text, ...], Field(max_length=MOST_TEXTS, description="what is one region, such as sky")] = (),
        threshold: Threshold | None = None,
    ) -> Reply[Regions]:
        """Segment a whole picture: things one by one, and stuff such as sky or grass as one region a kind."""
        return self._seen(image, self.session.picture(image).panoptic(things, stuff, threshold), [*things, *stuff])

    def instances(self, image: ImageHandle, classes: Classes, threshold: Threshold = LEAST_SCORE) -> Reply[Regions]:
        """Find each thing of some classes; use it to count."""
        return self._seen(image, self.session.picture(image).instances(classes, threshold), classes)

    def refer(self, image: ImageHandle, phrases: Phrases, threshold: Cosine | None = None) -> Reply[Regions]:
        """Find the one region that each phrase means, or say that it is not there."""
        found = self.session.picture(image).refer(phrases, self._config.cosine if threshold is None else threshold)
        least = "" if found.threshold is None else f", at least {found.threshold:.2f} is needed"
        return self._seen(image, found, phrases, f" (best cosine {max(found.scores.tolist()):.2f}{least})")

    def answer(self, image: ImageHandle, question: Text) -> Answer:
        """Answer a question about a picture in a word or two."""
        said = self.session.picture(image).answer(question)
        return Answer(text=said.text, score=said.score)

    def match(
        self, image: ImageHandle, texts: Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    ) -> Similarities:
        """Compare a picture with texts; the best text comes first."""
        cosines = self.session.picture(image).match(texts).tolist()
        ranked = sorted(zip(texts, cosines, strict=True), key=lambda pair: -pair[1])
        return Similarities(texts=tuple(Similarity(text=text, cosine=cosine) for text, cosine in ranked))

    def find(self, images: Annotated[list[ImageHandle], Field(min_length=1, max_length=64)], text: Text) -> Reply[Finding]:
        """Find the picture that fits a text best, and the region in it that the text means."""
        cosines = {image: self.session.picture(image).match([text]).item() for image in images}
        best = max(cosines, key=lambda image: cosines[image])
        reply = self.refer(best, [text])
        return Reply(Finding(image=best, cosines=cosines, regions=reply.content), reply.image)

    def edit(
        self,
        image: ImageHandle,
        instruction: Annotated[Text, Field(description="such as 'remove the left cup'")] | None = None,
        steps: Annotated[list[Step], Field(max_length=8, description="the same, already planned")] | None = None,
    ) -> Reply[Edited]:
        """Change a picture: remove, replace, recolour, blur, grey, keep only, restyle or add; gives the handle of a new one."""
        if (instruction is None) == (steps is None):
            raise ValueError("edit: give an instruction or steps, one of the two")
        asked = instruction if instruction is not None else steps or []
        result = self.session.picture(image).edit(asked, self._inpainter, self._config)
        handle = self.session.add(result.image, f"edit of {image}")
        told = result.to_json()
        return Reply(Edited(image=handle, width=told["width"], height=told["height"], edits=told["edits"]), result.image)

    def mask(self, mask: MaskHandle) -> MaskContent:
        """The pixels of a mask, as COCO's run lengths."""
        return MaskContent(**rle.describe(self.session.mask(mask)))

    def info(self) -> Info:
        """What the network can do, which pictures are open, and the limits."""
        session, missing = self.session, self.unavailable()
        pictures = {
            handle: Known(origin=entry.origin, width=entry.size[0], height=entry.size[1], masks=len(entry.masks))
            for handle, entry in session.entries.items()
        }
        names = tuple(name for name in TOOLS if name not in missing)
        return Info(tools=names, unavailable=missing, pictures=pictures, limits=session.limits.model_dump())

    def close(self, image: ImageHandle) -> Closed:
        """Forget a picture and its masks."""
        self.session.close(image)
        return Closed(closed=image)

    def unavailable(self) -> dict[str, str]:
        """Tools that this network cannot serve, and why."""
        predictor, missing = self.session.predictor, {}
        for name, task in TASK_OF.items():
            try:
                model = predictor.able(task)
                if task is vqa.DESCRIPTOR:
                    vqa.head_of(model)
            except ValueError as error:
                missing[name] = str(error)
        return missing

    def call(self, name: str, arguments: dict[str, Any]) -> Reply[Any]:
        """Run a tool by name; calls take turns.

        Raises:
            ValueError: in one sentence, for an unknown tool, wrong arguments and whatever the tool cannot do.
        """
        method, given = _read(name, arguments)
        with self._turn:
            return _reply(method(self, **given))

    async def call_within(self, name: str, arguments: dict[str, Any]) -> Reply[Any]:
        """As `call`, from an event loop and within the session's time.

        A call that is given up while it waits for its turn is not begun; one that runs comes to its end unheard.
        """
        method, given = _read(name, arguments)
        given_up = threading.Event()

        def work() -> Reply[Any] | None:
            with self._turn:
                return None if given_up.is_set() else _reply(method(self, **given))

        seconds = self.session.limits.seconds
        try:
            with anyio.fail_after(seconds):
                reply = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except TimeoutError:
            raise ValueError(f"{name} took more than {seconds:g} seconds and was given up") from None
        finally:
            given_up.set()
        assert reply is not None, "nobody gave it up"
        return reply

    def _opened(self, handle: str) -> Opened:
        width, height = self.session.entry(handle).size
        return Opened(image=handle, width=width, height=height)

    def _mask_of(self, image: str, mask: str) -> Mask:
        if mask.partition(".")[0] != image:
            raise ValueError(f"{mask[:80]!r} is no mask of {image}")
        return self.session.mask(mask)

    def _seen(self, image: str, result: Drawable, asked: Sequence[str], why: str = "") -> Reply[Regions]:
        """The regions of a result that have pixels, and what was asked for and is not there."""
        regions = []
        for known, mask in result.regions():
            score, pixels = known.get("score"), mask.numpy()
            if not pixels.any():
                continue
            box, share = rle.describe(pixels)["bbox"], round(float(pixels.mean()), 4)
            handle = self.session.add_mask(image, pixels)
            regions.append(Region(name=known["name"], score=score, box=box, share=share, mask=handle))
        what = ", ".join(asked)[:200]
        message = f"{len(regions)} found of: {what}" if regions else f"nothing was found of: {what}{why}"
        content = Regions(found=bool(regions), message=message, regions=tuple(regions), absent=result.absent)
        return Reply(content, result.draw() if regions else None)


@dataclass(frozen=True)
class Tool:
    """What callers see of a method of `Tools`."""

    name: str
    description: str
    arguments: type[Config]
    result: type[Config]
    method: Callable[..., Any]


def _tool(method: Callable[..., Any]) -> Tool:
    hints = get_type_hints(method, include_extras=True)
    result = hints.pop("return")
    defaults = {name: parameter.default for name, parameter in inspect.signature(method).parameters.items()}
    settings: Any = {
        name: (hint, ... if defaults[name] is inspect.Parameter.empty else defaults[name]) for name, hint in hints.items()
    }
    arguments = create_model(f"{method.__name__.title()}Arguments", __base__=Config, **settings)
    content = get_args(result)[0] if get_origin(result) is Reply else result
    return Tool(method.__name__, inspect.getdoc(method) or "", arguments, content, method)


TOOLS: dict[str, Tool] = {
    method.__name__: _tool(method)
    for method in (
        Tools.open,
        Tools.upload,
        Tools.describe,
        Tools.segment,
        Tools.panoptic,
        Tools.instances,
        Tools.refer,
        Tools.answer,
        Tools.match,
        Tools.find,
        Tools.edit,
        Tools.mask,
        Tools.info,
        Tools.close,
    )
}


TASK_OF = {
    "describe": captioning.DESCRIPTOR,
    "segment": segmentation.DESCRIPTOR,
    "panoptic": segmentation.DESCRIPTOR,
    "instances": segmentation.DESCRIPTOR,
    "refer": referring.DESCRIPTOR,
    "answer": vqa.DESCRIPTOR,
    "match": retrieval.DESCRIPTOR,
    "find": retrieval.DESCRIPTOR,
    "edit": referring.DESCRIPTOR,
}
"""What a network must be able to do for a tool."""


def _read(name: str, arguments: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    if name not in TOOLS:
        raise ValueError(f"{name[:80]!r} is no tool; there are {', '.join(TOOLS)}")
    settings = parse(TOOLS[name].arguments, arguments, name)
    return TOOLS[name].method, {key: getattr(settings, key) for key in settings.model_fields_set}


def _reply(said: Config | Reply[Any]) -> Reply[Any]:
    return said if isinstance(said, Reply) else Reply(said)
