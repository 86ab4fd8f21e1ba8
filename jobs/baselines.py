"""What any model must beat: the most frequent answer, and a linear model over words and letters."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jobs.scores import Cell
from schemas.fields import Example, ExamplePool
from schemas.suite import Baseline
from schemas.tasks import AnyTask, Match, has_labels
from udfs.nearest import Nearest

Texts = Sequence[Sequence[str | None]]
RETRIEVAL = "retrieval"


def baseline(
    kind: Baseline, task: AnyTask, known: Sequence[tuple[Sequence[str | None], Any]], asked: Texts
) -> list[Cell] | None:
    """Answer questions from labelled ones; None where the baseline has no way to. Truths are left to the caller.

    Args:
        known: inputs and truth of rows to learn from.
        asked: inputs of the rows to answer.
    """
    if not known or not (has_labels(task) or isinstance(task, Match)):
        return None
    if kind == "majority":
        (value, count), *_ = Counter(truth for _, truth in known).most_common(1)
        return [Cell(None, value, is_answered=True, confidence=count / len(known)) for _ in asked]
    return _linear(known, asked) if has_labels(task) else None


def retrieved(task: AnyTask, asked: Texts) -> list[Cell] | None:
    """Answer as the most similar labelled row does, where a task is shown similar rows at all."""
    if not isinstance(task.examples, ExamplePool):
        return None
    near = Nearest(task.examples)
    return [_as_cell(near.best(inputs)) for inputs in asked]


def _as_cell(found: tuple[Example, float] | None) -> Cell:
    if found is None:
        return Cell(None)
    output = found[0].output
    return Cell(None, list(output) if isinstance(output, tuple) else output, is_answered=True, confidence=found[1])


def _linear(known: Sequence[tuple[Sequence[str | None], Any]], asked: Texts) -> list[Cell] | None:
    """TF-IDF of word pairs and of two to five letters, and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    truths = ["" if truth is None else truth for _, truth in known]
    if len(set(truths)) < 2:
        return None
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=10, max_iter=1000))
    model.fit([_joined(inputs) for inputs, _ in known], truths)
    shares = model.predict_proba([_joined(inputs) for inputs in asked])
    return [
        Cell(None, model.classes_[row.argmax()] or None, is_answered=True, confidence=float(row.max()))
        for row in shares
    ]


def _joined(inputs: Sequence[str | None]) -> str:
    return "\n".join(text or "" for text in inputs)
