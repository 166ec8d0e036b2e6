"""Samples that cannot be read: one among millions must not stop a month of training, a thousand must."""

from __future__ import annotations

import logging
from collections.abc import Iterable


class BadSamples:
    """Names each bad sample once, counts them, and stops when there are too many.

    Args:
        limit: how many different ones are borne; with 0 the first is an error.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.sentences: dict[str, None] = {}  # what was wrong, in the order of discovery

    @property
    def count(self) -> int:
        """Different bad samples so far, of this process."""
        return len(self.sentences)

    def add(self, sentences: Iterable[str]) -> None:
        """Take note of bad samples; raises ValueError for one more than the limit."""
        for sentence in sentences:
            if sentence in self.sentences:
                continue
            self.sentences[sentence] = None
            if self.limit == 0:
                raise ValueError(sentence)
            if self.count > self.limit:
                raise ValueError(f"more than {self.limit} samples cannot be read (data.max_bad_samples), the last: {sentence}")
            logging.getLogger(__name__).warning("skipped a sample: %s", sentence)
