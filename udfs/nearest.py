"""What of a large stock one row is shown: the labelled rows and the labels whose words are most like its own.

Likeness is the cosine of TF-IDF vectors over words and word beginnings, fitted on the labelled rows alone, so that the
same pinned table gives the same examples everywhere. A row that stands in the table itself is never its own example.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.fields import Example, ExamplePool
from schemas.tasks import Classify
from udfs.extras import need

MOST_CANDIDATES = 100
CANDIDATES_EACH = 5  # for each example that is wanted
KNOWN_POOLS = 8
ALIKE = 0.5  # how much likeness to the row counts against likeness to what is chosen already


class Nearest:
    """Chooses from one pool."""

    def __init__(self, pool: ExamplePool) -> None:
        """Index the pool, unless this process has done so.

        Raises:
            EnvironmentProblem: scikit-learn is not installed.
        """
        self._pool = pool
        self._texts = [_joined(row.inputs) for row in pool.rows]
        self._index = _index(pool)

    def of(self, values: Sequence[str | None]) -> list[Example]:
        """Return a question's examples, the most similar last: next to the row, where it counts most."""
        likeness, ordered = self._ordered(values)
        wanted = self._pool.k
        if self._pool.select == "diverse":
            chosen = self._diverse(ordered[: min(MOST_CANDIDATES, CANDIDATES_EACH * wanted)], likeness)
        else:
            chosen = ordered[:wanted]
        return [self._pool.rows[place].example for place in reversed(chosen)]

    def best(self, values: Sequence[str | None]) -> tuple[Example, float] | None:
        """Return the example of the most similar row, and how similar it is between 0 and 1."""
        likeness, ordered = self._ordered(values)
        return (self._pool.rows[ordered[0]].example, float(likeness[ordered[0]])) if ordered else None

    def _ordered(self, values: Sequence[str | None]) -> tuple[Any, list[int]]:
        """Every labelled row's likeness, and the rows by it; a row's equals are not among them."""
        vectorizer, vectors = self._index
        text = _joined(values)
        likeness = (vectors @ vectorizer.transform([text]).T).toarray().ravel()
        likeness[[place for place, other in enumerate(self._texts) if other == text]] = -1.0
        # equal ones in the order of the pool, whatever the machine's sort does
        places = np.lexsort((np.arange(len(likeness)), -likeness))
        return likeness, [int(place) for place in places if likeness[place] >= 0]

    def _diverse(self, candidates: list[int], likeness: Any) -> list[int]:
        """Maximal marginal relevance, with no label much more often than another."""
        vectors = self._index[1]
        labels = [str(self._pool.rows[place].example.output) for place in candidates]
        most_each = -(-self._pool.k // max(1, len(set(labels))))
        between = (vectors[candidates] @ vectors[candidates].T).toarray() if candidates else np.zeros((0, 0))
        chosen: list[int] = []
        seen: Counter[str] = Counter()
        while len(chosen) < min(self._pool.k, len(candidates)):
            left = [at for at in range(len(candidates)) if at not in chosen]
            fair = [at for at in left if seen[labels[at]] < most_each] or left
            best = max(fair, key=lambda at: ALIKE * likeness[candidates[at]] - _closest(between, at, chosen))
            chosen.append(best)
            seen[labels[best]] += 1
        return sorted((candidates[at] for at in chosen), key=lambda place: -likeness[place])


def _closest(between: Any, at: int, chosen: list[int]) -> float:
    return (1 - ALIKE) * max((float(between[at, other]) for other in chosen), default=0.0)


class NearestLabels:
    """Chooses the labels that a row's prompt lists: those whose words, descriptions included, are most like its own."""

    def __init__(self, task: Classify) -> None:
        """Index the labels.

        Raises:
            EnvironmentProblem: scikit-learn is not installed.
        """
        self._task = task
        self._labels = dict(task.labels) if isinstance(task.labels, dict) else {}
        self._most = min(task.preselect or len(self._labels), len(self._labels))
        self._index = _labels_index(tuple(self._labels.items()))

    def of(self, values: Sequence[str | None]) -> list[str]:
        """Return a row's labels in declared order."""
        vectorizer, vectors = self._index
        likeness = (vectors @ vectorizer.transform([_joined(values)]).T).toarray().ravel()
        # equal ones in declared order, whatever the machine's sort does
        nearest = set(np.lexsort((np.arange(len(likeness)), -likeness))[: self._most].tolist())
        return [label for place, label in enumerate(self._labels) if place in nearest]

    def task_for(self, values: Sequence[str | None]) -> Classify:
        """The task as a row's prompt shows it."""
        return self._listing(self.of(values))

    def longest(self) -> Classify:
        """The task with as many labels as a prompt lists, the longest: no row's prompt takes more room."""
        by_length = sorted(self._labels, key=lambda label: -len(label) - len(self._labels[label]))
        return self._listing(by_length[: self._most])

    def _listing(self, names: Sequence[str]) -> Classify:
        labels = {name: self._labels[name] for name in names}
        return self._task.model_copy(update={"labels": labels, "preselect": None})


@lru_cache(maxsize=KNOWN_POOLS)
def _labels_index(labels: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    vectorizer = _vectorizer()
    told = [f"{label.replace('_', ' ')} {description}" for label, description in labels]
    return vectorizer, vectorizer.fit_transform(told)


def check_installed() -> None:
    """Refuse to start without scikit-learn.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    need(
        "sklearn",
        extra="evaluate",
        what="similar and diverse examples and preselected labels",
        instead="do without them; on a cluster every executor needs it, too",
    )


def _joined(values: Sequence[str | None]) -> str:
    return "\n".join(value or "" for value in values)


def _index(pool: ExamplePool) -> tuple[Any, Any]:
    return _indexed(pool.digest, _Hidden(pool))


class _Hidden:
    """A pool as an argument that takes no part in the look-up: its digest stands beside it."""

    def __init__(self, pool: ExamplePool) -> None:
        self.pool = pool

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)


@lru_cache(maxsize=KNOWN_POOLS)
def _indexed(digest: str, hidden: _Hidden) -> tuple[Any, Any]:
    vectorizer = _vectorizer()
    return vectorizer, vectorizer.fit_transform([_joined(row.inputs) for row in hidden.pool.rows])


def _vectorizer() -> Any:
    check_installed()
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32)
