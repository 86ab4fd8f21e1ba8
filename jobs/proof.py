"""What the labels that people gave so far prove of a frame, and what it would take to prove more."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Row

from jobs.frames import Frame
from jobs.people import found_right
from jobs.promise import Candidate, Verdict, certify, labels_to_start, level_of_look
from schemas.accept import Promise

MOST_TOLD = 5  # labels of which it is told what is missing


@dataclass(frozen=True)
class Labelled:
    """One drawn row that somebody judged; of a row that was purged since, only that it was drawn is known."""

    score: float
    label: str | None
    right: bool

    def reaches(self, threshold: float, label: str | None) -> bool:
        """Whether it counts at a threshold of a label (None: of any); a purged row does everywhere, as a mistake."""
        return self.score >= threshold and (label in (None, self.label) or self == PURGED)


PURGED = Labelled(math.inf, None, right=False)


@dataclass(frozen=True)
class Look:
    """One test of a frame: its number, and what it found by label (None: all rows)."""

    number: int
    level: float
    verdicts: dict[str | None, Verdict]
    labelled: int

    @property
    def thresholds(self) -> dict[str | None, float]:
        """Where something may be written, and from which score on."""
        return {label: one.chosen.threshold for label, one in self.verdicts.items() if one.chosen is not None}


def judged_row(row: Row) -> Labelled:
    """A drawn row as somebody judged it; who says yes and corrects it all the same, as SQL lets them, has said no."""
    value = json.loads(row["value"]) if row["value"] is not None else None
    right = found_right(row["verdict"], row["value"], row["correction"])
    return Labelled(row["score"], value if isinstance(value, str) else None, right)


def look_at(frame: Frame, labels: Sequence[Labelled], promise: Promise, *, number: int) -> Look:
    """Test a frame's candidates against what people said."""
    level = level_of_look(promise.assurance, number)
    groups: dict[str | None, list[Candidate]] = {}
    for of, threshold, rows in frame.candidates:
        if (of is not None) == promise.per_label:
            above = [one.right for one in labels if one.reaches(threshold, of)]
            groups.setdefault(of, []).append(Candidate(threshold, rows, len(above), sum(above)))
    each = level / max(1, len(groups)) if promise.joint else level
    verdicts = {of: certify(found, precision=promise.precision, level=each) for of, found in groups.items()}
    return Look(number, each, verdicts, len(labels))


def tell(column: str, frame: Frame, look: Look, promise: Promise) -> str:
    """What a look proved, or what is missing, as a sentence."""
    written = {label: one.chosen for label, one in look.verdicts.items() if one.chosen is not None}
    rows = sum(one.rows for one in written.values())
    of = f"{rows / frame.rows:.0%} of the frame's {frame.rows:,} rows"
    if promise.per_label and written:
        told = f"{column}: {promise.text} holds for {len(written)} of {len(look.verdicts)} labels, {of}"
    elif written:
        (one,) = written.values()
        judged = f"{one.right} of {one.labelled} judged ones right"
        return f"{column}: {promise.text} holds from score {one.threshold:.4g} on, {of} ({judged})"
    else:
        told = (
            f"{column}: no threshold proves {promise.text} with {look.labelled} judged rows; all answers wait in review"
        )
    # another look is tested at its own, stricter level
    then = level_of_look(promise.assurance, look.number + 1)
    then = then / max(1, len(look.verdicts)) if promise.joint else then
    if not promise.per_label:
        return told + _what_would(look.verdicts.get(None), frame.rows, then, promise.precision)
    failed = {label: one for label, one in look.verdicts.items() if label not in written}
    largest = sorted(failed, key=lambda label: -_rows_of(failed[label]))
    told += "".join(
        f". {label}:" + _what_would(failed[label], frame.rows, then, promise.precision).removeprefix(".")
        for label in largest[:MOST_TOLD]
    )
    return told + (f". {len(failed) - MOST_TOLD} more labels wait, too" if len(failed) > MOST_TOLD else "")


def _rows_of(verdict: Verdict) -> int:
    return max((one.rows for one in verdict.candidates), default=0)


def _what_would(verdict: Verdict | None, rows: int, then: float, precision: float) -> str:
    """The best that could be promised at the next look, and what it would take to promise what was asked."""
    needed, _ = labels_to_start(precision, then)
    best = verdict.best(then) if verdict is not None else None
    if verdict is None or best is None:
        return f". {needed} judged rows above a threshold without a mistake are needed"
    one, provable = best
    told = f". The best that could be promised is {provable:.3f}, for {one.rows / rows:.0%} of the rows"
    missing = verdict.labels_missing(then)
    if missing is None:
        return told + "; no threshold was right often enough for more, however many are judged"
    return told + f"; about {missing} more judged rows would do, were they right as often"
