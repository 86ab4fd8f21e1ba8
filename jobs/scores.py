"""Scores of answers against truth: every figure as sums over rows, so that a bootstrap can draw rows anew."""

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.tasks import Answer, AnyTask, Clean, Extract, Match, Multilabel
from udfs.masked import Unteachable
from udfs.truth import answer_of, may_be_null

COVERAGES = (0.9, 0.8, 0.5)
ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Cell:
    """One question with its truth; values as JSON knows them.

    Attributes:
        before: what stood in a cell that is cleaned.
        scores: all that its answer is stored with, by name; `confidence` is one of them.
    """

    truth: Any
    value: Any = None
    is_answered: bool = False
    confidence: float | None = None
    label_mass: float | None = None
    before: str | None = None
    inputs: tuple[str | None, ...] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """How well one system answers one set.

    Attributes:
        measure: what `quality` is: accuracy, F1 of fields, of pairs, of repairs, or of words.
        quality: between 0 and 1; a question without an answer counts as wrong.
        low, high: the middle 95 % of bootstrap samples of `quality`.
        accuracy: of the answered rows; exact, but for the case, articles and punctuation of free answers.
        completion: share of the rows that have an answer.
        more: precision, recall, exact match, by name.
        coverage: accuracy of the surest 90, 80 and 50 % of the answered rows.
    """

    rows: int
    measure: str
    quality: float
    low: float
    high: float
    accuracy: float
    completion: float
    more: dict[str, float] = field(default_factory=dict)
    auroc: float | None = None
    coverage: dict[str, float] = field(default_factory=dict)
    label_mass: float | None = None
    seconds: float | None = None


def is_right(task: AnyTask, cell: Cell) -> bool:
    """Whether an answer is the truth; fields of an extract compare by their values without case and outer blanks."""
    if not cell.is_answered:
        return False
    if isinstance(task, Answer) and not task.options:
        return normalised(cell.value) == normalised(cell.truth)
    if isinstance(task, Extract):
        return all(_plain(cell.value.get(name)) == _plain(cell.truth.get(name)) for name in task.attributes)
    if isinstance(task, Multilabel):
        return set(cell.value) == set(cell.truth)
    return bool(cell.value == cell.truth)


def score(task: AnyTask, cells: Sequence[Cell], *, resamples: int, seed: int, seconds: float | None = None) -> Score:
    """Score one set of one task."""
    measure, sums, figure = _measured(task, cells)
    right = np.array([is_right(task, cell) for cell in cells], dtype=float)
    answered = np.array([cell.is_answered for cell in cells], dtype=float)
    low, high = _interval(sums, figure, resamples=resamples, seed=seed)
    more = _more(task, sums)
    return Score(
        rows=len(cells),
        measure=measure,
        quality=figure(sums.sum(0)),
        low=low,
        high=high,
        accuracy=_ratio(right.sum(), answered.sum()),
        completion=float(answered.mean()),
        more=more,
        auroc=auroc(right, cells),
        coverage=_coverage(right, cells),
        label_mass=_mean([cell.label_mass for cell in cells]),
        seconds=seconds,
    )


def auroc(right: Any, cells: Sequence[Cell]) -> float | None:
    """Whether right answers are surer than wrong ones; None where all are right or all are wrong."""
    from sklearn.metrics import roc_auc_score

    pairs = [(good, cell.confidence) for good, cell in zip(right, cells, strict=True) if cell.confidence is not None]
    if len({good for good, _ in pairs}) < 2:
        return None
    return float(roc_auc_score([good for good, _ in pairs], [confidence for _, confidence in pairs]))


def normalised(text: Any) -> str:
    """A text as SQuAD compares it: lower case, without punctuation, articles and spare blanks."""
    lowered = "".join(letter for letter in str(text or "").lower() if letter not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", lowered).split())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return Counter(map(_plain, value))
    return " ".join(value.lower().split()) if isinstance(value, str) else value


Figure = Callable[[Any], float]


def _measured(task: AnyTask, cells: Sequence[Cell]) -> tuple[str, Any, Figure]:
    """What a task is judged by: its name, sums per row, and how they become a figure."""
    if isinstance(task, Extract | Multilabel | Match | Clean):
        counters: dict[type, tuple[str, Callable[[Any, Cell], tuple[int, int, int]]]] = {
            Extract: ("field F1", _fields),
            Multilabel: ("label F1", _labels),
            Match: ("pair F1", _pair),
            Clean: ("repair F1", _repair),
        }
        measure, count = counters[type(task)]
        return measure, np.array([count(task, cell) for cell in cells], dtype=float), _f1
    if isinstance(task, Answer) and not task.options:
        words = [(_word_f1(cell), 1.0, float(is_right(task, cell))) for cell in cells]
        return "word F1", np.array(words, dtype=float), lambda sums: _ratio(sums[0], sums[1])
    hits = [(float(is_right(task, cell)), 1.0, 0.0) for cell in cells]
    return "accuracy", np.array(hits, dtype=float), lambda sums: _ratio(sums[0], sums[1])


def _fields(task: Extract, cell: Cell) -> tuple[int, int, int]:
    """Right, stated and true fields; each entry of a list counts."""
    right = stated = true = 0
    value = cell.value if cell.is_answered and isinstance(cell.value, dict) else {}
    for name in task.attributes:
        given, wanted = Counter(_listed(value.get(name))), Counter(_listed(cell.truth.get(name)))
        right += (given & wanted).total()
        stated += given.total()
        true += wanted.total()
    return right, stated, true


def _listed(value: Any) -> list[Any]:
    entries = value if isinstance(value, list) else [value]
    return [_plain(entry) for entry in entries if entry is not None]


def _labels(task: Multilabel, cell: Cell) -> tuple[int, int, int]:
    given = set(cell.value) if cell.is_answered else set()
    return len(given & set(cell.truth)), len(given), len(cell.truth)


def _pair(task: Match, cell: Cell) -> tuple[int, int, int]:
    says = cell.is_answered and cell.value is True
    return int(says and cell.truth is True), int(says), int(cell.truth is True)


def _repair(task: Clean, cell: Cell) -> tuple[int, int, int]:
    """Cells changed to what is right, cells changed, cells that were wrong."""
    changed = cell.is_answered and cell.value != cell.before
    return int(changed and cell.value == cell.truth), int(changed), int(cell.before != cell.truth)


def _word_f1(cell: Cell) -> float:
    if not cell.is_answered:
        return 0.0
    given, wanted = Counter(normalised(cell.value).split()), Counter(normalised(cell.truth).split())
    if not given or not wanted:
        return float(given == wanted)
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def _f1(sums: Any) -> float:
    return _ratio(2 * sums[0], sums[1] + sums[2])


def _more(task: AnyTask, sums: Any) -> dict[str, float]:
    total = sums.sum(0)
    if isinstance(task, Extract | Multilabel | Match | Clean):
        return {"precision": _ratio(total[0], total[1]), "recall": _ratio(total[0], total[2])}
    if isinstance(task, Answer) and not task.options:
        return {"exact match": _ratio(total[2], total[1])}
    return {}


def _interval(sums: Any, figure: Figure, *, resamples: int, seed: int) -> tuple[float, float]:
    drawer = np.random.default_rng(seed)
    figures = [figure(sums[drawer.integers(0, len(sums), len(sums))].sum(0)) for _ in range(resamples)]
    low, high = np.quantile(figures, (0.025, 0.975))
    return float(low), float(high)


def _coverage(right: Any, cells: Sequence[Cell]) -> dict[str, float]:
    sure = [(cell.confidence, good) for cell, good in zip(cells, right, strict=True) if cell.confidence is not None]
    ordered = [good for _, good in sorted(sure, key=lambda one: -one[0])]
    return {
        f"{share:.0%}": float(np.mean(ordered[: max(1, round(share * len(ordered)))])) for share in COVERAGES if ordered
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def read_value(text: str | None) -> Any:
    """An answer's canonical JSON as a value."""
    return None if text is None else json.loads(text)


def truth_of(task: AnyTask, text: str | None) -> tuple[Any] | None:
    """A truth as a value in a tuple; None where there is none."""
    if text is None and not may_be_null(task):
        return None
    try:
        return (json.loads(answer_of(task, text)),)
    except Unteachable:
        return None
