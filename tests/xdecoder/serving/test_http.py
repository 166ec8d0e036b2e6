"""The HTTP interface, asked as a client asks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder.inference.predictor import Predictor

pytest.importorskip("fastapi", reason="the HTTP server needs FastAPI (pip install '.[serve]')")
pytest.importorskip("prometheus_client", reason="the HTTP server needs prometheus_client (pip install '.[serve]')")

from fastapi.testclient import TestClient

from xdecoder.serving import http
from xdecoder.serving.http import ServerConfig
from xdecoder.serving.questions import ENDPOINTS

QUESTIONS: dict[str, dict[str, Any]] = {
    "segment": {"classes": ["cat", "sky"]},
    "panoptic": {"things": ["cat"], "stuff": ["sky"], "threshold": 0},
    "instances": {"classes": ["cat", "dog"], "threshold": 0},
    "refer": {"phrases": ['the "left" cat,\nand its bowl']},
    "caption": {"beams": 2},
    "match": {"texts": ["a cat", "two dogs"]},
    "answer": {"question": "what is this?"},
}


def picture(seed: int = 0, width: int = 60) -> str:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, width, 3), dtype=np.uint8)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(http.build(predictor, ServerConfig(body_bytes=100_000, pixels=10_000))) as client:
        yield client


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_answered_as_the_predictor_answers(client: TestClient, predictor: Predictor, name: str) -> None:
    response = client.post(f"/v1/{name}", json={"image": picture(), **QUESTIONS[name]})
    assert response.status_code == 200
    image = predictor.encode(io.BytesIO(base64.b64decode(picture())))
    question = ENDPOINTS[name].question.model_validate(QUESTIONS[name])
    (answer,) = ENDPOINTS[name].ask(predictor, [image], question)
    expected = ENDPOINTS[name].told(answer)
    told = response.json()
    assert told.keys() == expected.keys()
    if "regions" in told:
        assert [r["segmentation"] for r in told["regions"]] == [r["segmentation"] for r in expected["regions"]]
    else:
        assert str(told)[:12] == str(expected)[:12]


def test_openapi_describes_the_questions(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {f"/v1/{name}" for name in QUESTIONS} | {"/healthz", "/metrics"} == set(schema["paths"])
    body = schema["components"]["schemas"]["ReferQuestion"]
    assert body["required"] == ["image", "phrases"] and body["properties"]["phrases"]["maxItems"] == 200
    assert client.get("/docs").status_code == 200


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}
    client.post("/v1/caption", json={"image": picture()})
    client.post("/v1/caption", json={"image": "abcd"})
    said = client.get("/metrics")
    assert said.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'xdecoder_requests_total{endpoint="caption",status="200"} 1.0',
        'xdecoder_requests_total{endpoint="caption",status="400"} 1.0',
        'xdecoder_request_seconds_count{endpoint="caption"} 2.0',
        "xdecoder_batch_size_sum 1.0",
        "xdecoder_waiting 0.0",
    ):
        assert line in said.text.splitlines()


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"image": "abcd", "phrases": ["a"]}, 400, "the file: the picture is damaged or incomplete"),
        ({"image": picture(width=300), "phrases": ["a"]}, 400, "too large a picture, 300 × 40; at most 10000 pixels"),
        ({"image": "???", "phrases": ["a"]}, 400, "the file: the picture is damaged or incomplete"),
        ({"image": picture(), "phrases": []}, 422, "phrases: "),
        ({"image": picture(), "phrases": ["x" * 2000]}, 422, "phrases.0: String should have at most 500 characters"),
        ({"image": picture(), "phrases": ["a"], "colour": 1}, 422, "colour: "),
        ({"image": "A" * 200_000, "phrases": ["a"]}, 413, "a request may have 100000 bytes"),
    ],
)
def test_mistakes_are_told_in_a_sentence(client: TestClient, body: dict[str, Any], status: int, sentence: str) -> None:
    response = client.post("/v1/refer", json=body)
    assert response.status_code == status
    assert sentence in response.json()["detail"] and len(response.text) < 400


def test_a_body_without_a_length_is_counted(client: TestClient) -> None:
    response = client.post("/v1/refer", content=(b" " * 10_000 for _ in range(20)))
    assert response.status_code == 413


def test_a_question_that_the_network_cannot_answer() -> None:
    with TestClient(http.build(Predictor(tiny_model()))) as client:
        response = client.post("/v1/answer", json={"image": picture(), "question": "why?"})
        assert response.status_code == 400 and "cannot answer questions" in response.json()["detail"]


def test_many_clients_at_once_get_what_each_asked_for(client: TestClient, predictor: Predictor) -> None:
    def ask(number: int) -> dict[str, Any]:
        classes = ["cat", "sky"] if number % 3 else ["dog", "sea", "hill"]
        response = client.post("/v1/segment", json={"image": picture(number), "classes": classes})
        assert response.status_code == 200
        return {"number": number, "classes": classes, **response.json()}

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    for answer in answers:
        image = Image.open(io.BytesIO(base64.b64decode(picture(answer["number"]))))
        expected = predictor.segment(image, answer["classes"]).to_json()
        assert [r["area"] for r in answer["regions"]] == [r["area"] for r in expected["regions"]]
    figures = client.get("/metrics").text
    batches = float(figures.split("xdecoder_batch_size_count ")[1].split()[0])
    assert batches < 16, "some waited and were answered together"


def test_who_waits_too_long_is_told(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    def slow(*arguments: object, **settings: object) -> list[str]:
        time.sleep(0.5)
        return [""]

    monkeypatch.setattr(predictor, "caption", slow)
    with TestClient(http.build(predictor, ServerConfig(seconds=0.1))) as client:
        response = client.post("/v1/caption", json={"image": picture()})
        assert response.status_code == 504 and response.json()["detail"] == "no answer within 0.1 seconds"
