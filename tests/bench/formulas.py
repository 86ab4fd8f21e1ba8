"""Other projects' confidence formulas on the tokens of an answer, as their code has them, what is odd included."""

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

MOST_OPTIONS = 9  # of docetl's menu, whose answers are single digits
LEAST_PROBABILITY = 1e-300
BARE = string.punctuation + string.whitespace


@dataclass(frozen=True)
class Spoken:
    """One decoded token: its text, its log-probability, and what was likeliest in its place."""

    text: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()


def autolabel(tokens: Sequence[Spoken]) -> float:
    """The geometric mean over all tokens that have a text (refuel-ai/autolabel, `confidence.py`, since 61b5891)."""
    kept = [one for one in tokens if one.text.strip() not in ("", "<unk>", "\\n")]
    if not kept:
        return 0.0
    # a figure above zero is taken for a probability already
    product = math.prod(one.logprob if one.logprob > 0 else math.exp(one.logprob) for one in kept)
    return float(product ** (1 / len(kept)))


def autolabel_keys(tokens: Sequence[Spoken], keys: Sequence[str]) -> dict[str, float]:
    """The same per key of a JSON answer, over the tokens after its colon up to the one where the next key begins.

    The text is put together anew: quotes, commas and braces count, what is merged with the colon's token does not, the
    first place that looks like a key is taken for it, and a key that is not found so has 0.
    """
    text = "".join(one.text for one in tokens)
    marks = {key: f'"{key}":' for key in keys}
    places = {key: text.find(mark) for key, mark in marks.items()}
    found = {}
    for key, place in places.items():
        if place < 0:
            found[key] = 0.0
            continue
        first = _token_at(tokens, place + len(marks[key]) - 1) + 1
        later = [other for other in places.values() if other > place]
        last = _token_at(tokens, min(later)) if later else len(tokens)
        found[key] = autolabel(tokens[first:last])
    return found


def _token_at(tokens: Sequence[Spoken], character: int) -> int:
    """The token that holds a character of the text."""
    end = 0
    for place, one in enumerate(tokens):
        end += len(one.text)
        if character < end:
            return place
    return len(tokens)


def docetl(logprobs: Sequence[float]) -> float:
    """The squashed distance between the likeliest option and the least likely one (docetl's `api.py`)."""
    if len(logprobs) == 1:
        return min(math.exp(logprobs[0]), 0.99)
    return 1 / (1 + math.exp(-(max(logprobs) - min(logprobs)) / 3))


def tlm(tokens: Sequence[Spoken]) -> float:
    """The arithmetic mean of the tokens' probabilities, each with its variants' (cleanlab/tlm's "perplexity").

    A variant is a likely token that differs by case, blanks and punctuation alone. Without tokens it is 0.5.
    """
    if not tokens:
        return 0.5
    return math.fsum(map(_with_variants, tokens)) / len(tokens)


def _with_variants(token: Spoken) -> float:
    own = _bare(token.text)
    same = [lp for text, lp in token.likeliest if own and text != token.text and _bare(text) == own]
    return min(1.0, math.fsum(map(math.exp, (token.logprob, *same))))


def _bare(text: str) -> str:
    return text.strip(BARE).casefold()


def logs(probabilities: Sequence[float]) -> list[float]:
    """Logarithms, of what is next to nothing too."""
    return [math.log(max(one, LEAST_PROBABILITY)) for one in probabilities]
