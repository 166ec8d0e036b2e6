"""Queries and the nouns of a caption: what no annotated region explains should still be named (section 3.3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xdecoder.losses.contrastive import cosine_logits


@dataclass(frozen=True)
class Named:
    """Texts and the word that each stands for; equal words are one concept, whatever the sentence around them."""

    vectors: Tensor  # (N, D)
    words: tuple[str, ...]  # N


def noun_loss(
    queries: Float[Tensor, "B Q D"],
    matched: Sequence[Int[Tensor, " _"]],
    classes: Sequence[Named],
    nouns: Sequence[Named],
    logit_scale: Tensor,
    detach_unmatched: bool = False,
) -> Tensor:
    """Contrast of queries with words: matched queries with their class, unmatched ones with the picture's nouns.

    Args:
        queries: (B, Q, D).
        matched: per picture (N,), the queries that answer for annotated regions.
        classes: per picture N texts, the regions' classes.
        nouns: per picture the texts of its caption's nouns, and the caption itself.
        detach_unmatched: keep the gradient of the unmatched queries out.
    """
    rows = [queries[b, query] for b, query in enumerate(matched)]
    vectors = [texts.vectors for texts in classes]
    words = [word for texts in classes for word in texts.words]
    for b, (query, noun) in enumerate(_match_nouns(queries, matched, nouns, logit_scale)):
        rows.append(queries[b, query].detach() if detach_unmatched else queries[b, query])
        vectors.append(nouns[b].vectors[noun])
        words += [nouns[b].words[n] for n in noun.tolist()]
    if not words:
        return (queries.sum() + torch.cat(vectors).sum() + logit_scale.sum()) * 0  # reaches what it always reaches
    return _word_contrast(torch.cat(rows), torch.cat(vectors), words, logit_scale)


@torch.no_grad()
def _match_nouns(
    queries: Tensor, matched: Sequence[Tensor], nouns: Sequence[Named], logit_scale: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Per picture its free queries and the nouns they are best at among the batch's; as many pairs as there are of either."""
    from scipy.optimize import linear_sum_assignment  # here, since it takes a second

    likely = cosine_logits(queries, torch.cat([texts.vectors for texts in nouns]), logit_scale).softmax(dim=-1)
    own = likely.split([len(texts.words) for texts in nouns], dim=-1)
    pairs = []
    for b, taken in enumerate(matched):
        free = torch.ones(queries.shape[1], dtype=torch.bool, device=queries.device)
        free[taken] = False
        numbers = free.nonzero()[:, 0]
        row, noun = linear_sum_assignment(-own[b][b, numbers].float().nan_to_num().cpu().numpy())
        pairs.append((numbers[torch.from_numpy(row).to(numbers.device)], torch.from_numpy(noun).to(numbers.device)))
    return pairs


def _word_contrast(rows: Tensor, vectors: Tensor, words: Sequence[str], logit_scale: Tensor) -> Tensor:
    """0.7 query→word plus 0.3 word→query cross-entropy; row n says words[n].

    A word that stands more than once is represented by its last text, and its queries share it as a target.
    """
    last = {word: n for n, word in enumerate(words)}
    place = {word: column for column, word in enumerate(last)}
    logits = cosine_logits(rows, vectors[list(last.values())], logit_scale)
    said = torch.tensor([place[word] for word in words], device=rows.device)
    wanted = torch.zeros_like(logits)
    wanted[torch.arange(len(words), device=rows.device), said] = 1
    to_words = -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()
    to_queries = -(wanted / wanted.sum(dim=0) * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return 0.7 * to_words + 0.3 * to_queries
