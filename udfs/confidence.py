"""Scores of an answer from the log-probabilities of its own tokens. Pure functions; null means not scored."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from schemas.scores import OF_TEXT, of_field

Span = tuple[int, int]
LogProbs = Sequence[float]
Named = dict[str, float]

# of a value that was answered and cannot be right
SURELY_WRONG: Final[Named] = dict.fromkeys(OF_TEXT, 0.0)


def probability(logprobs: LogProbs) -> float | None:
    """The product of a closed read's shares: at each step, the token's among those that the labels allow there.

    It is not p(label | label set): a share says nothing of what becomes of the siblings further on. Where labels begin
    alike that can differ much; `scores_of_labels` weighs whole labels, at the price of a read for each.
    """
    return math.exp(min(0.0, sum(logprobs))) if logprobs else None


def label_mass(masses: Sequence[float], steps: int) -> float | None:
    """The share that the model gave to the labels at all: the product of what each step left to them.

    Args:
        masses: per decoded step, the mass of the allowed tokens.
        steps: how many of them decide (a step that only ends the text does not).
    """
    return min(1.0, math.prod(masses[:steps])) if masses else None


def two_sided(p: float | None) -> float | None:
    """How sure a yes or no is, whichever of the two it was."""
    return None if p is None else max(p, 1.0 - p)


def lowest(parts: Sequence[float | None]) -> float | None:
    """The lowest part's score; null when a part has none or there is no part."""
    known = [part for part in parts if part is not None]
    return min(known) if known and len(known) == len(parts) else None


def together(parts: Sequence[float | None]) -> float | None:
    """The probability of all parts at once; null when a part has none or there is no part."""
    known = [part for part in parts if part is not None]
    return math.prod(known) if known and len(known) == len(parts) else None


def free_text(logprobs: LogProbs) -> Named:
    """The named scores of a free answer over the tokens that decide its value; empty when there are none.

    `probability` is the whole answer's: the product. It is ours, since it told right from wrong best on rows that were
    trained on; the mean is RefuelLLM-2's, the geometric mean Autolabel's. They stand beside it for later choice.
    """
    if not logprobs:
        return {}
    probabilities = [math.exp(min(0.0, value)) for value in logprobs]
    total = sum(logprobs)
    return {
        "probability": math.exp(min(0.0, total)),
        "mean_probability": math.fsum(probabilities) / len(probabilities),
        "geometric_mean": math.exp(min(0.0, total / len(logprobs))),
        "minimum": min(probabilities),
    }


def token_spans(pieces: Sequence[bytes]) -> list[Span]:
    """Where each token lies in the bytes of the whole."""
    spans, start = [], 0
    for piece in pieces:
        spans.append((start, start + len(piece)))
        start += len(piece)
    return spans


def within(spans: Sequence[Span], parts: Sequence[Span]) -> list[int]:
    """Indexes of the tokens that hold a byte of any part."""
    return [
        place
        for place, (start, end) in enumerate(spans)
        if any(start < part_end and part_start < end for part_start, part_end in parts)
    ]


def scores_of_fields(pieces: Sequence[bytes], logprobs: LogProbs, fields: Mapping[str, Span]) -> dict[str, Named]:
    """Each field's named scores, over the tokens that hold a byte of its span and no others; none without tokens.

    Under a grammar, what is forced has probability 1: the comma after a null, the hyphens of a date, the rest of an
    enumerated word. Keys are outside every span; what is forced inside counts, which changes neither product nor
    minimum, and draws the two means towards 1. No score is that of forced syntax alone: every field may be null, and
    the token at which null and value part (the colon's, or the one after it) is inside the span.
    """
    if not logprobs:
        return {name: {} for name in fields}
    spans = token_spans(pieces)
    return {name: free_text([logprobs[place] for place in within(spans, [own])]) for name, own in fields.items()}


def score_of_fields(pieces: Sequence[bytes], logprobs: LogProbs, fields: Mapping[str, Span]) -> float | None:
    """The probability of all fields at once: a token that ends one and begins the next counts once."""
    if not logprobs:
        return None
    decisive = within(token_spans(pieces), list(fields.values()))
    return math.exp(min(0.0, math.fsum(logprobs[place] for place in decisive)))


def by_field(scores: Mapping[str, Named]) -> Named:
    """Fields' scores as an answer keeps them, in one mapping."""
    return {of_field(name, kind): value for name, own in scores.items() for kind, value in own.items()}


def scores_of_labels(forced: Sequence[Sequence[float]], prior: Sequence[Sequence[float]] | None = None) -> list[float]:
    """Every label's p(label | label set), from one forced read per label: its whole probability over the sum of all.

    Args:
        forced: per label and step, the probability of its token under the whole vocabulary; one more for the end of
            the text where another label goes on.
        prior: per label and step, the log-probability to be subtracted, as in the label set.
    """
    priors = prior if prior is not None else [()] * len(forced)
    logs = [_log_product(steps) - math.fsum(shares[: len(steps)]) for steps, shares in zip(forced, priors, strict=True)]
    if max(logs) == -math.inf:
        # a model that gives no label anything prefers none
        return [1 / len(logs)] * len(logs)
    weights = [math.exp(one - max(logs)) for one in logs]
    return [weight / math.fsum(weights) for weight in weights]


def _log_product(steps: Sequence[float]) -> float:
    return math.fsum(map(math.log, steps)) if all(steps) else -math.inf


def mass_of_labels(forced: Sequence[Sequence[float]]) -> float:
    """The share that the model gave to the labels at all: the sum of their whole probabilities."""
    return min(1.0, math.fsum(map(math.prod, forced)))
