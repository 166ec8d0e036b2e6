"""A plain HTTP interface with OpenAPI, for those who deploy: `xdecoder serve-http`."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import Base64Bytes, Field

from xdecoder.config import Config
from xdecoder.images import open_image
from xdecoder.inference.predictor import Picture, Predictor
from xdecoder.serving.batching import Batcher, QueueFullError
from xdecoder.serving.tools import Classes, Cosine, Phrases, Text, Threshold
from xdecoder.tasks import captioning, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor

try:
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, PlainTextResponse
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError:
    raise ValueError("the HTTP server needs FastAPI and more: pip install '.[serve]'") from None

log = logging.getLogger(__name__)


class ServerConfig(Config):
    """What the server takes at a time."""

    batch: int = Field(8, ge=1)
    """Requests that are computed together; 1 = one at a time."""

    waiting: int = Field(256, ge=1)
    """Requests that may wait; more are told to come back."""

    seconds: float = Field(60.0, gt=0)
    """Of one request, waiting included."""

    pixels: int = Field(40_000_000, ge=1)
    """Of one picture."""

    body_bytes: int = Field(50_000_000, ge=1)
    """Of one request."""


class Question(Config):
    """Asked of one picture."""

    image: Base64Bytes = Field(description="an encoded picture (JPEG, PNG, WebP, …), in base64")


class SegmentQuestion(Question):
    classes: Classes
    threshold: Threshold = 0.0


class PanopticQuestion(Question):
    things: tuple[Text, ...] = Field((), max_length=200, description="what is counted one by one")
    stuff: tuple[Text, ...] = Field((), max_length=200, description="what is one region a kind")
    threshold: Threshold | None = None


class InstancesQuestion(Question):
    classes: Classes
    threshold: Threshold = 0.4


class ReferQuestion(Question):
    phrases: Phrases
    threshold: Cosine | None = None


class CaptionQuestion(Question):
    beams: int = Field(1, ge=1, le=8)


class MatchQuestion(Question):
    texts: list[Text] = Field(min_length=1, max_length=200)


class AnswerQuestion(Question):
    question: Text


Json = dict[str, Any]
Ask = Callable[[Predictor, list[Picture], Any], list[Json]]


def _segment(model: Predictor, images: list[Picture], q: SegmentQuestion) -> list[Json]:
    """Give each pixel one of some classes."""
    return [result.to_json() for result in model.segment(images, q.classes, q.threshold)]


def _panoptic(model: Predictor, images: list[Picture], q: PanopticQuestion) -> list[Json]:
    """Segment a whole picture: things one by one, and each kind of stuff as one region."""
    return [result.to_json() for result in model.panoptic(images, q.things, q.stuff, q.threshold)]


def _instances(model: Predictor, images: list[Picture], q: InstancesQuestion) -> list[Json]:
    """Find each thing of some classes."""
    return [result.to_json() for result in model.instances(images, q.classes, q.threshold)]


def _refer(model: Predictor, images: list[Picture], q: ReferQuestion) -> list[Json]:
    """Find the region that each phrase means, or say that it is not there; the cosine of the two decides."""
    return [result.to_json() for result in model.refer(images, q.phrases, q.threshold)]


def _caption(model: Predictor, images: list[Picture], q: CaptionQuestion) -> list[Json]:
    """Describe a picture in a sentence."""
    return [{"caption": text} for text in model.caption(images, beams=q.beams)]


def _match(model: Predictor, images: list[Picture], q: MatchQuestion) -> list[Json]:
    """Compare a picture with texts."""
    return [{"cosines": cosines.tolist()} for cosines in model.match(images, q.texts)]


def _answer(model: Predictor, images: list[Picture], q: AnswerQuestion) -> list[Json]:
    """Answer a question in a word or two, where the network has an answer head."""
    return [{"answer": said.text, "score": said.score} for said in model.answer(images, q.question)]


@dataclass(frozen=True)
class Endpoint:
    question: type[Question]
    ask: Ask
    task: Descriptor  # which says how the picture is shown to the network


ENDPOINTS: dict[str, Endpoint] = {
    "segment": Endpoint(SegmentQuestion, _segment, segmentation.DESCRIPTOR),
    "panoptic": Endpoint(PanopticQuestion, _panoptic, segmentation.DESCRIPTOR),
    "instances": Endpoint(InstancesQuestion, _instances, segmentation.DESCRIPTOR),
    "refer": Endpoint(ReferQuestion, _refer, referring.DESCRIPTOR),
    "caption": Endpoint(CaptionQuestion, _caption, captioning.DESCRIPTOR),
    "match": Endpoint(MatchQuestion, _match, retrieval.DESCRIPTOR),
    "answer": Endpoint(AnswerQuestion, _answer, vqa.DESCRIPTOR),
}


@dataclass(frozen=True)
class Job:
    name: str  # of the endpoint
    question: Question
    image: Image.Image


class Metrics:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        shared: Json = {"namespace": "xdecoder", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered", ["endpoint", "status"], **shared)
        self.seconds = Histogram("request_seconds", "Time of a request, waiting included", ["endpoint"], **shared)
        self.batches = Histogram("batch_size", "Requests computed together", buckets=(1, 2, 4, 8, 16, 32), **shared)
        self.waiting = Gauge("waiting", "Requests that wait", **shared)


def build(predictor: Predictor, config: ServerConfig | None = None) -> FastAPI:
    """The application: POST /v1/… for each question, GET /healthz, /metrics, /docs and /openapi.json."""
    config, metrics = config or ServerConfig(), Metrics()

    def work(jobs: Sequence[Job]) -> list[Json | Exception]:
        metrics.batches.observe(len(jobs))
        return answer_together(predictor, jobs)

    batcher: Batcher[Job, Json] = Batcher(work, config.batch, config.waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.worker = asyncio.create_task(batcher.run())
        yield
        app.state.worker.cancel()
        with suppress(asyncio.CancelledError):
            await app.state.worker

    app = FastAPI(title="X-Decoder", description="One network for pixels, pictures and language.", lifespan=lifespan)
    app.add_middleware(BodyLimit, limit=config.body_bytes)

    for name, endpoint in ENDPOINTS.items():
        app.post(f"/v1/{name}", operation_id=name, summary=endpoint.ask.__doc__)(_handler(name, batcher, config, metrics))

    @app.get("/healthz", summary="Whether requests are being answered")
    async def health() -> JSONResponse:
        alive = not app.state.worker.done()
        return JSONResponse({"status": "ok" if alive else "stopped", "waiting": len(batcher)}, 200 if alive else 503)

    @app.get("/metrics", summary="Figures in Prometheus's form", response_class=PlainTextResponse)
    async def figures() -> Response:
        metrics.waiting.set(len(batcher))
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> JSONResponse:
        """FastAPI's own answer would repeat the request, picture and all."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"detail": f"{where or 'body'}: {first['msg']}"}, 422)

    return app


def answer_together(predictor: Predictor, jobs: Sequence[Job]) -> list[Json | Exception]:
    """The answer to each job, or what is wrong with it.

    Pictures are encoded together whatever is asked of them; those that are asked the same are asked as one.
    """
    pictures = [predictor.encode(job.image) for job in jobs]
    answers: list[Json | Exception] = [{}] * len(jobs)
    for task in dict.fromkeys(ENDPOINTS[job.name].task for job in jobs):
        numbers = [n for n, job in enumerate(jobs) if ENDPOINTS[job.name].task == task]
        try:
            predictor.look([pictures[n] for n in numbers], task)
        except Exception as error:
            for n in numbers:
                answers[n] = error
            continue
        groups: dict[tuple[str, str], list[int]] = {}
        for n in numbers:
            groups.setdefault((jobs[n].name, jobs[n].question.model_dump_json(exclude={"image"})), []).append(n)
        for (name, _), same in groups.items():
            for n, answer in zip(
                same, _asked(predictor, name, [pictures[n] for n in same], jobs[same[0]].question), strict=True
            ):
                answers[n] = answer
    return answers


def _asked(predictor: Predictor, name: str, pictures: list[Picture], question: Question) -> Sequence[Json | Exception]:
    try:
        return ENDPOINTS[name].ask(predictor, pictures, question)
    except Exception as error:
        return [error] * len(pictures)


def _handler(
    name: str, batcher: Batcher[Job, Json], config: ServerConfig, metrics: Metrics
) -> Callable[..., Awaitable[JSONResponse]]:
    async def answered(question: Question) -> tuple[Json, int]:
        try:
            async with asyncio.timeout(config.seconds):
                image = await asyncio.to_thread(open_image, io.BytesIO(question.image), config.pixels)
                return await batcher.submit(Job(name, question, image)), 200
        except QueueFullError as error:
            return {"detail": str(error)}, 503
        except TimeoutError:
            return {"detail": f"no answer within {config.seconds:g} seconds"}, 504
        except ValueError as error:
            return {"detail": str(error)}, 400
        except Exception:
            log.exception("request %s", name)
            return {"detail": "something went wrong on the server's side; its log says what"}, 500

    async def endpoint(question: Any) -> JSONResponse:
        start = time.perf_counter()
        content, status = await answered(question)
        metrics.seconds.labels(name).observe(time.perf_counter() - start)
        metrics.requests.labels(name, str(status)).inc()
        return JSONResponse(content, status, {"Retry-After": "1"} if status == 503 else None)

    endpoint.__annotations__["question"] = ENDPOINTS[name].question  # FastAPI reads the body's schema from here
    return endpoint


class BodyLimit:
    """Refuses requests of more than `limit` bytes before they are in memory."""

    def __init__(self, app: Any, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length = dict(scope.get("headers", ())).get(b"content-length", b"0")
        read = int(length) if length.isdigit() and int(length) > self.limit else 0

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            return message if read <= self.limit else {"type": "http.disconnect"}

        async def unless_refused(message: Any) -> None:
            if read <= self.limit:
                await send(message)

        if read <= self.limit:
            await self.app(scope, counted, unless_refused)
        if read > self.limit:
            refusal = JSONResponse({"detail": f"a request may have {self.limit} bytes"}, 413)
            await refusal(scope, receive, send)


def serve(predictor: Predictor, host: str, port: int, config: ServerConfig) -> None:
    """Serve until interrupted."""
    uvicorn.run(build(predictor, config), host=host, port=port, log_level="warning")
