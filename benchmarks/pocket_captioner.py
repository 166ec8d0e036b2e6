"""The pocket network's rival in captions: a GRU that looks at the same backbone's map, as in Show, Attend and Tell.

python benchmarks/pocket_captioner.py data.root=FOLDER [--seconds 17000]

Xu et al. 2015: additive attention over the places of the coarsest map. Maps are frozen and computed once, so that all seconds
go into words; all captions of a picture are learnt at a time, as ours are. Beams of three; scores by our evaluators.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pocket_common import LEARNT, captioned, learn, options, report
from torch import Tensor, nn

from datasets.evaluators.captioning import CaptionEvaluator
from xdecoder.language.tokenizer import Tokenizer
from xdecoder.model import XDecoder
from xdecoder.types import CaptionResult, Sample

WIDTH, WORD, BATCH, LONGEST, BEAMS = 512, 300, 32, 24, 3


class Captioner(nn.Module):
    """The next word from the words before it and what attention sees."""

    def __init__(self, channels: int, merges: int) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(merges, LONGEST + 2)
        self.embedding = nn.Embedding(self.tokenizer.vocab_size, WORD)
        self.see, self.ask, self.weigh = nn.Linear(channels, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.begin = nn.Linear(channels, WIDTH)
        self.cell = nn.GRUCell(WORD + channels, WIDTH)
        self.say = nn.Sequential(nn.Linear(WIDTH, WORD), nn.Dropout(0.3))

    def start(self, places: Tensor) -> Tensor:
        """The first state (N, WIDTH) from places (N, P, C)."""
        return self.begin(places.mean(dim=1)).tanh()

    def step(self, ids: Tensor, state: Tensor, places: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, V) of the next words, and the next state; seen: `see` of the places."""
        weights = self.weigh((seen + self.ask(state)[:, None]).tanh()).softmax(dim=1)
        state = self.cell(torch.cat([self.embedding(ids), (weights * places).sum(dim=1)], dim=-1), state)
        return self.say(state) @ self.embedding.weight.T, state

    def loss(self, batch: tuple[Tensor, list[str]]) -> Tensor:
        """Mean cross-entropy of the words of R captions of each of B pictures, B·R in all."""
        places, texts = batch
        places = F.dropout(places, 0.2, self.training)
        ids = self.tokenizer.encode(texts)
        lengths = (ids == self.tokenizer.end).int().argmax(dim=1)
        each = len(texts) // len(places)
        seen = self.see(places).repeat_interleave(each, dim=0)
        places = places.repeat_interleave(each, dim=0)
        state, total = self.start(places), places.new_zeros(())
        for place in range(int(lengths.max())):
            logits, state = self.step(ids[:, place], state, places, seen)
            wrong = F.cross_entropy(logits, ids[:, place + 1], reduction="none")
            total = total + (wrong * (place < lengths)).sum()
        return total / lengths.sum()

    @torch.inference_mode()
    def write(self, places: Tensor) -> str:
        """The caption of one picture (P, C), by beam search."""
        rows = places[None].expand(BEAMS, -1, -1)
        seen, state = self.see(rows), self.start(rows)
        texts = torch.full((BEAMS, 1), self.tokenizer.start)
        scores = torch.tensor([0.0] + [float("-inf")] * (BEAMS - 1))
        done: list[tuple[float, Tensor]] = []
        for length in range(1, LONGEST + 1):
            logits, state = self.step(texts[:, -1], state, rows, seen)
            best = (scores[:, None] + logits.log_softmax(-1)).flatten().topk(BEAMS)
            row, word = best.indices // logits.shape[1], best.indices % logits.shape[1]
            texts, state, scores = torch.cat([texts[row], word[:, None]], dim=1), state[row], best.values
            ended = word == self.tokenizer.end
            done += [(float(score) / length, text) for score, text in zip(scores[ended], texts[ended], strict=True)]
            scores = scores.masked_fill(ended, float("-inf"))
            if len(done) >= BEAMS:
                break
        done = done or [(0.0, texts[0])]
        return self.tokenizer.decode(max(done, key=lambda pair: pair[0])[1]).split(".")[0].strip()


@torch.inference_mode()
def maps_of(backbone: Any, samples: Sequence[Sample]) -> Tensor:
    """The places (N, P, C) of the coarsest map, in 16 bits."""
    found = []
    for i in range(0, len(samples), 32):
        shown = XDecoder.prepare([sample.image for sample in samples[i : i + 32]], torch.device("cpu"))
        found.append(backbone(shown)[-1].flatten(2).transpose(1, 2).half())
    return torch.cat(found)


def batches(maps: Tensor, samples: Sequence[Sample], captions: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Endless batches of pictures with so many captions each."""
    while True:
        for rows in torch.randperm(len(samples)).split(BATCH):
            own = [samples[i].captions for i in rows.tolist()]
            yield maps[rows].float(), [texts[k % len(texts)] for texts in own for k in range(captions)]


def score(net: Captioner, maps: Tensor, samples: Sequence[Sample], java: bool) -> dict[str, float]:
    """Caption scores of a set."""
    net.eval()
    evaluator = CaptionEvaluator(java)
    for places, sample in zip(maps, samples, strict=True):
        evaluator.update(CaptionResult(net.write(places.float())), sample)
    return evaluator.compute()


def main() -> None:
    given, config = options(__doc__, seconds=17000)
    model, root = config.model.build().eval(), config.data.root
    learnt = [sample for name in LEARNT for sample in captioned(name, root)]
    maps = maps_of(model.backbone, learnt)
    dev = captioned("flickr8k_dev", root)
    dev_maps = maps_of(model.backbone, dev)
    net = Captioner(maps.shape[-1], config.model.language.merges)
    best: dict[str, Any] = {"CIDEr": -1.0}

    def choose(step: int) -> None:
        if step % 500 == 0 and (found := score(net, dev_maps, dev, java=False)["caption_CIDEr"]) > best["CIDEr"]:
            best.update(CIDEr=found, step=step, state=copy.deepcopy(net.state_dict()))

    steps = learn(net, net.loss, batches(maps, learnt, captions=5), given.seconds, rate=5e-4, step_done=choose)
    net.load_state_dict(best.get("state", net.state_dict()))
    test = captioned("flickr8k_test", root)
    found = score(net, maps_of(model.backbone, test), test, java=True)
    report("CNN-GRU", net, given.seconds, steps, {"best_step": best.get("step", steps), **found})


if __name__ == "__main__":
    main()
