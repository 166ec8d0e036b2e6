"""Whoever says nothing gets the same answer everywhere."""

from __future__ import annotations

import inspect

from demo.page.tasks import Texts
from xdecoder.cli.parser import parser_of_all
from xdecoder.inference import drawing
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.questions import InstancesQuestion, PanopticQuestion, ReferQuestion
from xdecoder.serving.tools import Tools


def default_of(function: object, name: str = "threshold") -> object:
    assert callable(function)
    return inspect.signature(function).parameters[name].default


def said_by_nobody(command: str, *classes: str) -> object:
    line = [command, "a.png", *classes, "--checkpoint", "model.pt"]
    threshold: object = parser_of_all().parse_args(line).threshold
    return threshold


def test_instances() -> None:
    python = [default_of(f) for f in (Picture.instances, Predictor.instances, Tools.instances, drawing.draw_instances)]
    others = [InstancesQuestion(classes=("a",)).threshold, Texts().score, said_by_nobody("instances", "--classes", "a")]
    assert {*python, *others} == {0.5}


def test_panoptic() -> None:
    """The network's own threshold: as it was measured."""
    python = [default_of(f) for f in (Picture.panoptic, Predictor.panoptic, Tools.panoptic)]
    others = [PanopticQuestion(things=("a",)).threshold, Texts().threshold, said_by_nobody("panoptic", "--things", "a")]
    assert {*python, *others} == {None}


def test_refer() -> None:
    """What was fitted to the network."""
    python = [default_of(f) for f in (Picture.refer, Predictor.refer, Picture.refer_all, Tools.refer)]
    others = [ReferQuestion(phrases=("a",)).threshold, Texts().cosine, said_by_nobody("refer", "--phrases", "a")]
    assert {*python, *others} == {None}


def test_segment() -> None:
    assert {default_of(Picture.segment), default_of(Predictor.segment), said_by_nobody("segment", "--classes", "a")} == {0.0}
