"""Scores of the same answers side by side: how well each tells right from wrong."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from jobs.calibration import measured

HEADINGS = (
    "set", "system", "score", "AUROC", "to the column's own", "95 %", "calibration error", "Brier",
    "risk-coverage", "not scored",
)  # fmt: skip
Array = Any


@dataclass(frozen=True)
class Compared:
    """One score of one set's answers.

    Attributes:
        is_own: it is the one that the column's confidence is.
        scored, not_scored: how many answers have it, and which share has not.
        auroc: whether right answers score higher than wrong ones; None where all are right or all are wrong.
        ece: calibration error over ten bins of equal mass.
        aurc: area under the risk-coverage curve: the mean share of wrong ones among the surest, over all coverages.
        difference: of AUROC to the column's own score, on the answers that have both.
        low, high: the middle 95 % of that difference, over bootstrap samples of these answers.
    """

    score: str
    is_own: bool
    scored: int
    not_scored: float
    auroc: float | None = None
    ece: float | None = None
    brier: float | None = None
    aurc: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def may_be_equal(self) -> bool:
        """Whether the column's own score may tell as much, or tells more."""
        return self.difference is None or self.difference <= 0 or (self.low is not None and self.low <= 0)


def compare(
    right: Sequence[bool], scores: Mapping[str, Sequence[float | None]], own: str, *, resamples: int, seed: int
) -> list[Compared]:
    """Measure every score of the same answers, each beside the column's own.

    Args:
        right: whether each answer is right.
        scores: by name, one figure for each answer; None where it was not scored.
        own: the name of the column's own score.
    """
    truth = np.array(right, dtype=float)
    columns = {name: np.array(values, dtype=float) for name, values in scores.items()}
    found = []
    for name, values in columns.items():
        known = ~np.isnan(values)
        one: dict[str, Any] = {"scored": int(known.sum()), "not_scored": float(1 - known.mean()) if len(known) else 0.0}
        if known.any():
            figures = measured(values[known], truth[known])
            one |= {figure: figures[figure] for figure in ("auroc", "ece", "brier")}
            one["aurc"] = risk_coverage_area(values[known], truth[known])
        both = known & ~np.isnan(columns[own])
        if name != own:
            pair = (values[both], columns[own][both])
            one |= _difference(*pair, truth[both], resamples=resamples, seed=seed)
        found.append(Compared(name, name == own, **one))
    return found


def risk_coverage_area(values: Array, right: Array) -> float:
    """The share of wrong answers among the k surest, as a mean over all k; equal scores in any order are as likely."""
    order = np.argsort(-values, kind="stable")
    wrong, starts = 1 - right[order], _starts(values[order])
    sizes = np.diff([*starts, len(wrong)])
    expected = np.repeat(np.add.reduceat(wrong, starts) / sizes, sizes)
    return float(np.mean(np.cumsum(expected) / np.arange(1, len(wrong) + 1)))


def _difference(values: Array, own: Array, right: Array, *, resamples: int, seed: int) -> dict[str, float]:
    """How much more of AUROC one score has than another on the same answers, with the interval of paired samples."""
    if not 0 < right.sum() < len(right):
        return {}
    drawer = np.random.default_rng(seed)
    drawn = drawer.multinomial(len(right), np.full(len(right), 1 / len(right)), size=resamples)
    weights = np.vstack([np.ones_like(right), drawn])
    found = _aurocs(values, right, weights) - _aurocs(own, right, weights)
    # a sample of right ones or of wrong ones alone says nothing
    low, high = np.nanquantile(found[1:], (0.025, 0.975))
    return {"difference": float(found[0]), "low": float(low), "high": float(high)}


def _aurocs(values: Array, right: Array, weights: Array) -> Array:
    """AUROC under each row of weights: how often a right answer scores higher than a wrong one, a tie as half."""
    order = np.argsort(values, kind="stable")
    starts = _starts(values[order])
    good = np.add.reduceat((weights * right)[:, order], starts, axis=1)
    bad = np.add.reduceat((weights * (1 - right))[:, order], starts, axis=1)
    below = np.cumsum(bad, axis=1) - bad / 2
    pairs = good.sum(1) * bad.sum(1)
    return np.where(pairs > 0, (good * below).sum(1) / np.where(pairs > 0, pairs, 1), np.nan)


def _starts(ordered: Array) -> Array:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


@dataclass(frozen=True)
class Beside:
    """What was compared of one system on one set."""

    name: str
    task: str
    system: str
    scores: tuple[Compared, ...]


@dataclass(frozen=True)
class Comparison:
    """The scores of a suite's answers."""

    parts: tuple[Beside, ...] = ()

    def render(self) -> Table:
        """Return the table for a terminal."""
        table = Table(title="scores of the same answers; * is the column's own", title_justify="left")
        for at, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if at < 3 else "right")
        for row in self._rows():
            table.add_row(*row)
        return table

    def write(self, folder: Path) -> None:
        """Write the figures as `confidences.json` and `confidences.md`."""
        text = json.dumps([asdict(one) for one in self.parts], indent=2, ensure_ascii=False)
        (folder / "confidences.json").write_text(text + "\n", encoding="utf-8")
        lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self._rows()]
        (folder / "confidences.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for part in self.parts:
            for one in part.scores:
                name = f"{one.score} *" if one.is_own else one.score
                yield (part.name, part.system, name, *told(one))


def told(one: Compared) -> tuple[str, ...]:
    """A score's figures as texts: AUROC, difference, its interval, calibration error, Brier, area, share not scored."""
    interval = "" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"
    difference = "" if one.difference is None else f"{one.difference:+.3f}"
    rest = (_figure(one.ece), _figure(one.brier), _figure(one.aurc))
    return (_figure(one.auroc), difference, interval, *rest, f"{one.not_scored:.1%}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
