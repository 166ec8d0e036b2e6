"""A plain HTTP interface with OpenAPI, for those who deploy: `xdecoder serve-http`."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import Base64Bytes, Field, create_model

from xdecoder.config import Config
from xdecoder.images import open_image
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.batching import Batcher, QueueFullError
from xdecoder.serving.questions import ENDPOINTS, Asked, Json, answer_together

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


class Body(Config):
    """What a request holds beside the question."""

    image: Base64Bytes = Field(description="an encoded picture (JPEG, PNG, WebP, …), in base64")


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

    def work(jobs: Sequence[Asked]) -> list[Json | Exception]:
        metrics.batches.observe(len(jobs))
        return [
            answer if isinstance(answer, Exception) else ENDPOINTS[job.name].told(answer)
            for job, answer in zip(jobs, answer_together(predictor, jobs), strict=True)
        ]

    batcher: Batcher[Asked, Json] = Batcher(work, config.batch, config.waiting)

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


def _handler(
    name: str, batcher: Batcher[Asked, Json], config: ServerConfig, metrics: Metrics
) -> Callable[..., Awaitable[JSONResponse]]:
    async def answered(question: Any) -> tuple[Json, int]:
        try:
            async with asyncio.timeout(config.seconds):
                image = await asyncio.to_thread(open_image, io.BytesIO(question.image), config.pixels)
                return await batcher.submit(Asked(name, question, image)), 200
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

    asked = ENDPOINTS[name].question
    endpoint.__annotations__["question"] = create_model(
        asked.__name__, __base__=(asked, Body)
    )  # FastAPI reads the body's schema from here
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
