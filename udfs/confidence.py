"""Scores of an answer from the log-probabilities of its own tokens. Pure functions; null means not scored."""

import math
from collections.abc import Mapping, Sequence

Span = tuple[int, int]
LogProbs = Sequence[float]


def probability(logprobs: LogProbs) -> float | None:
    """The probability of a closed read's path, each token's being that among its siblings."""
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


def free_text(logprobs: LogProbs) -> dict[str, float]:
    """The named scores of a free answer over its value's own tokens; empty when there are none.

    The mean token probability is RefuelLLM-2's confidence and ours; the others stand beside it for later choice.
    """
    if not logprobs:
        return {}
    probabilities = [math.exp(min(0.0, value)) for value in logprobs]
    total = sum(logprobs)
    return {
        "mean_probability": math.fsum(probabilities) / len(probabilities),
        "geometric_mean": math.exp(min(0.0, total / len(logprobs))),
        "minimum": min(probabilities),
        "sum_logprob": total,
    }


def mean_probability(logprobs: LogProbs) -> float | None:
    """The mean token probability; null without tokens."""
    return free_text(logprobs).get("mean_probability")


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


def scores_of_fields(
    pieces: Sequence[bytes], logprobs: LogProbs, fields: Mapping[str, Sequence[Span]]
) -> dict[str, float | None]:
    """Each field's mean token probability, over the tokens that hold a byte of its value and no others."""
    if not logprobs:
        return dict.fromkeys(fields)
    spans = token_spans(pieces)
    return {
        name: mean_probability([logprobs[place] for place in within(spans, parts)]) for name, parts in fields.items()
    }


def scores_of_labels(
    paths: Sequence[Sequence[int]],
    forced: Sequence[Sequence[float]],
    prior: Sequence[Sequence[float]] | None = None,
) -> list[float]:
    """Every label's probability as the trie's decode would have given it, from one forced read per label.

    Args:
        paths: each label's tokens.
        forced: per label and step, the probability of its token under the whole vocabulary; one more for the end of
            the text where another label goes on.
        prior: per label and step, the log-probability to be subtracted, as in the label set.
    """
    weights: dict[tuple[int, ...], dict[int, float]] = {}
    keys = []
    for place, (path, steps) in enumerate(zip(paths, forced, strict=True)):
        key = (*path, *([-1] * (len(steps) - len(path))))
        keys.append(key)
        for step, mass in enumerate(steps):
            shift = prior[place][step] if prior is not None and step < len(prior[place]) else 0.0
            weights.setdefault(key[:step], {})[key[step]] = mass * math.exp(-shift)
    return [_along(key, weights) for key in keys]


def _along(key: tuple[int, ...], weights: Mapping[tuple[int, ...], Mapping[int, float]]) -> float:
    found = 1.0
    for step, token in enumerate(key):
        siblings = weights[key[:step]]
        total = math.fsum(siblings.values())
        # a model that gives none of the siblings anything prefers none of them
        found *= siblings[token] / total if total > 0 else 1 / len(siblings)
    return found
