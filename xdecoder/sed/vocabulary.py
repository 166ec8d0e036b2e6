"""Class names as SED reads them: each in all templates, which stay apart, with synonyms averaged; kept on disk by content."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xdecoder.files import atomic
from xdecoder.sed.clip import Clip

logger = logging.getLogger(__name__)

Templates = Literal["imagenet", "single", "none"]

_BATCH = 256  # texts at a time
_SYNONYMS = ", "  # between the names of one class


def templates(kind: Templates) -> tuple[str, ...]:
    """Sentences with {} for the name: CLIP's 80 of ImageNet in the order that belongs to the weights, one, or it alone."""
    if kind == "none":
        return ("{}",)
    if kind == "single":
        return ("a photo of a {}.",)
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


class TextEmbeddings:
    """Unit vectors of class names, computed once: remembered, and kept on disk where there is a folder for them.

    A file is named after the digest of all that it depends on (names, templates and the text encoder's weights), so vectors of
    other weights are never taken for these.

    Args:
        clip: whose text encoder reads the names.
        kind: the templates.
        folder: where files are kept; None: nowhere.
    """

    def __init__(self, clip: Clip, kind: Templates, folder: Path | None = None) -> None:
        self.clip, self.templates, self.folder = clip, templates(kind), folder
        self._known: dict[str, Tensor] = {}
        self._digest = ""
        self._state: tuple[int, ...] = ()

    def __call__(self, names: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Vectors (T, P, C) of T classes in P templates, without gradient.

        Args:
            names: a class each; synonyms are divided by a comma and a blank.
            progress: is told after each batch how many texts of how many are done.

        Raises:
            ValueError: for no names at all or a name that is empty.
        """
        refuse_bad_names(names)
        weights = self._weights_digest()
        key = _digest_of((weights, *self.templates, "", *names))
        if key not in self._known:
            self._known[key] = self._from_disk(key) if self._is_on_disk(key) else self._made(names, key, progress)
        return self._known[key]

    def _file(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.safetensors"

    def _is_on_disk(self, key: str) -> bool:
        file = self._file(key)
        return file is not None and file.is_file()

    def _from_disk(self, key: str) -> Tensor:
        file = self._file(key)
        assert file is not None
        try:
            return load_file(file)["text"].to(self.clip.model.logit_scale.device)
        except (SafetensorError, OSError, KeyError):
            raise ValueError(f"{file}: text embeddings that cannot be read; delete the file, it will be made anew") from None

    def _made(self, names: Sequence[str], key: str, progress: Callable[[int, int], None] | None) -> Tensor:
        device = self.clip.model.logit_scale.device.type
        # Remembered vectors must serve in training too, hence never as tensors of inference mode.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
            vectors = embed(self.clip, names, self.templates, progress)
        file = self._file(key)
        if file is not None:
            with atomic(file) as out:
                out.write(save({"text": vectors.cpu().contiguous()}))
        return vectors

    def _weights_digest(self) -> str:
        """Of the text encoder's weights; computed again only when one of them was replaced or written to."""
        parameters = self.clip.text_parameters()
        state = tuple(number for p in parameters for number in (p.data_ptr(), 0 if p.is_inference() else p._version))
        if state != self._state:
            self._known.clear()
            self._digest = _digest_of([_bytes(p) for p in parameters])
            self._state = state
        return self._digest


@torch.no_grad()
def embed(
    clip: Clip, names: Sequence[str], sentences: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Unit vectors (T, P, C) of names in sentences; of synonyms, the mean of their unit vectors, made unit again."""
    words = [_synonyms(name) for name in names]
    every = list(dict.fromkeys(word for each in words for word in each))
    place = {word: i for i, word in enumerate(every)}
    vectors = torch.stack(
        [_encode(clip, every, sentence, i, len(sentences), progress) for i, sentence in enumerate(sentences)], dim=1
    )
    means = [
        vectors[place[each[0]]] if len(each) == 1 else vectors[[place[word] for word in each]].mean(dim=0) for each in words
    ]
    return torch.stack([F.normalize(mean, dim=-1) if len(each) > 1 else mean for mean, each in zip(means, words, strict=True)])


def refuse_bad_names(names: Sequence[str]) -> None:
    """Raises ValueError for what cannot be a list of classes."""
    if not names:
        raise ValueError("at least one class name is needed, the list is empty")
    for number, name in enumerate(names):
        if not all(word.strip() for word in _synonyms(name)):
            where = f"class {number} of {len(names)}"
            raise ValueError(f"{where} is {name!r}: a name, or one of the synonyms that ', ' divides, is empty")


def _synonyms(name: str) -> list[str]:
    return name.split(_SYNONYMS)


def _encode(
    clip: Clip, words: Sequence[str], sentence: str, number: int, count: int, progress: Callable[[int, int], None] | None
) -> Tensor:
    """Unit vectors (W, C) of all words in one sentence; texts of like length share a batch."""
    texts = [sentence.replace("{}", word) for word in words]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result = clip.model.text_projection.new_empty(len(texts), clip.joint_width)
    for start in range(0, len(order), _BATCH):
        some = order[start : start + _BATCH]
        result[some] = F.normalize(clip.encode_texts([texts[i] for i in some]), dim=-1)
        if progress is not None:
            progress(number * len(texts) + start + len(some), count * len(texts))
    return result


def _digest_of(parts: Sequence[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()[:32]


def _bytes(tensor: Tensor) -> bytes:
    return (
        tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else str(float(tensor)).encode()
    )
