"""The pocket network's rival in retrieval: a dual encoder as people write one, a GRU over words beside the same backbone.

python benchmarks/pocket_vse.py data.root=FOLDER [--seconds 17000]

Faghri et al. 2018 (VSE++): word embeddings, a GRU, a linear map of pooled features, the hinge on the hardest negative behind an
epoch of the sum over all. Features are frozen and computed once, so that all seconds go into pairs. The state that is best on
flickr8k_dev is measured on flickr8k_test.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pocket_common import LEARNT, learn, options, report
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from trainer.words import Pooled, pooled_features
from xdecoder.language.tokenizer import Tokenizer

WIDTH, WORD, BATCH, MARGIN = 512, 300, 128, 0.2
GENTLE = 200  # steps before only the hardest negatives count


class DualEncoder(nn.Module):
    """Pictures' features and sentences in one space."""

    def __init__(self, features: Tensor, merges: int) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(merges, 40)
        self.register_buffer("mean", features.mean(dim=(0, 1)))
        self.register_buffer("deviation", features.std(dim=(0, 1)).clamp(min=1e-3))
        self.image = nn.Linear(features.shape[-1], WIDTH)
        self.embedding = nn.Embedding(self.tokenizer.vocab_size, WORD)
        self.gru = nn.GRU(WORD, WIDTH, batch_first=True)

    def images(self, features: Tensor) -> Tensor:
        return F.normalize(self.image((features - self.mean) / self.deviation), dim=-1)

    def texts(self, sentences: list[str]) -> Tensor:
        ids = self.tokenizer.encode(sentences)
        lengths = (ids == self.tokenizer.end).int().argmax(dim=1) + 1
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        return F.normalize(self.gru(packed)[1][-1], dim=-1)


def hinge(cosines: Tensor, hardest: bool) -> Tensor:
    """How much wrong pairs come too near: of all of them, or of the worst of each picture and each text."""
    right = cosines.diag()
    off = ~torch.eye(len(cosines), dtype=torch.bool)
    to_text = (MARGIN + cosines - right[:, None]).clamp(min=0) * off
    to_image = (MARGIN + cosines - right[None]).clamp(min=0) * off
    return to_text.amax(1).sum() + to_image.amax(0).sum() if hardest else to_text.sum() + to_image.sum()


def pairs(learnt: Pooled) -> Iterator[tuple[Tensor, list[str]]]:
    """Endless batches of different pictures, a random view and caption of each."""
    while True:
        for rows in torch.randperm(len(learnt.features)).split(BATCH):
            views = torch.randint(learnt.features.shape[1], (len(rows),))
            texts = [own[int(torch.randint(len(own), ()))] for own in (learnt.captions[i] for i in rows.tolist())]
            yield learnt.features[rows, views], texts


@torch.inference_mode()
def recall(net: DualEncoder, pool: Pooled) -> dict[str, float]:
    """IR@1 and TR@1 in percent, as `trainer.words.recall` counts them."""
    net.eval()
    every = [text for texts in pool.captions for text in texts]
    owner = torch.tensor([i for i, texts in enumerate(pool.captions) for _ in texts])
    texts = torch.cat([net.texts(every[i : i + 256]) for i in range(0, len(every), 256)])
    cosines = net.images(pool.features[:, 0]) @ texts.T
    image = (cosines.argmax(0) == owner).float().mean()
    text = (owner[cosines.argmax(1)] == torch.arange(len(pool.features))).float().mean()
    return {"IR@1": 100 * image.item(), "TR@1": 100 * text.item()}


def main() -> None:
    given, config = options(__doc__, seconds=17000)
    model, root = config.model.build().eval(), config.data.root
    parts = [pooled_features(model, name, root, 224) for name in LEARNT]
    learnt = Pooled(torch.cat([part.features for part in parts]), tuple(texts for part in parts for texts in part.captions))
    dev, test = (pooled_features(model, name, root, 224, mirrored=False) for name in ("flickr8k_dev", "flickr8k_test"))
    net = DualEncoder(learnt.features, config.model.language.merges)
    best: dict[str, Any] = {"score": -1.0}
    seen = 0

    def loss(batch: tuple[Tensor, list[str]]) -> Tensor:
        nonlocal seen
        seen += 1
        return hinge(net.images(batch[0]) @ net.texts(batch[1]).T, seen > GENTLE)

    def choose(step: int) -> None:
        if step % 100 == 0 and (score := sum(recall(net, dev).values())) > best["score"]:
            best.update(score=score, step=step, state=copy.deepcopy(net.state_dict()))

    steps = learn(net, loss, pairs(learnt), given.seconds, rate=5e-4, decay=0.0, step_done=choose)
    net.load_state_dict(best["state"] if "state" in best else net.state_dict())
    report("VSE++", net, given.seconds, steps, {"best_step": best.get("step", steps), **recall(net, test)})


if __name__ == "__main__":
    main()
