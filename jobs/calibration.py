"""Calibration: maps from scores to the probability of being right, fitted on judged rows, applied by Catalyst.

Three forms: *beta* (Kull et al. 2017), a logistic curve over the logarithms of the score and of what is missing to 1;
*isotonic*, a rising line between knots; *both*, a logistic curve over the score and the labels' mass. What is told of a
calibration is measured on rows that it was not fitted on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.texts import one_of

KINDS = ("beta", "isotonic", "both")
EDGE = 1e-6  # scores nearer to 0 and 1 are taken for so much
FOLDS = 5
LEAST_ROWS = 50
LEAST_OF_A_KIND = 5  # right ones, and wrong ones
LEAST_PER_LABEL = 50
BINS = 10
Array = Any


@dataclass(frozen=True)
class Scored:
    """One judged row: its score, the mass of the labels if there are any, the answer's label, whether it is right."""

    score: float
    mass: float | None
    label: str | None
    right: bool


@dataclass(frozen=True)
class Curve:
    """One map from scores to probabilities: `beta` and `both` hold weights, `isotonic` pairs of score and value."""

    kind: str
    numbers: tuple[float, ...]

    def value(self, score: float, mass: float | None) -> float:
        """The probability that an answer of this score is right."""
        if self.kind == "isotonic":
            half = len(self.numbers) // 2
            return float(np.interp(score, self.numbers[:half], self.numbers[half:]))
        return 1 / (1 + math.exp(-float(np.dot(self.numbers, [*_features(self.kind, score, mass), 1.0]))))

    def column(self, score: Column, mass: Column) -> Column:
        """The same of columns; null where there is no score."""
        if self.kind == "isotonic":
            half = len(self.numbers) // 2
            return _between(score, self.numbers[:half], self.numbers[half:])
        inside = _clipped(score)
        if self.kind == "beta":
            parts = [F.log(inside), -F.log(1 - inside)]
        else:
            parts = [_logit(inside), _logit(_clipped(F.coalesce(mass, F.lit(1.0))))]
        total = F.lit(self.numbers[-1])
        for weight, part in zip(self.numbers, parts, strict=False):
            total = total + F.lit(weight) * part
        return 1 / (1 + F.exp(-total))


@dataclass(frozen=True)
class Calibration:
    """A column's curves: one for all answers, and those of labels with rows enough for their own.

    Attributes:
        told: what was measured on rows that were not fitted on.
    """

    column: str
    curves: Mapping[str | None, Curve]
    rows: int
    told: dict[str, Any] = field(default_factory=dict)

    def confidence(self, score: Column, mass: Column, label: Column) -> Column:
        """The calibrated confidence of an answer."""
        found = F.when(score.isNull(), F.lit(None).cast("double"))
        for name, curve in self.curves.items():
            if name is not None:
                found = found.when(one_of(label, [name]), curve.column(score, mass))
        return found.otherwise(self.curves[None].column(score, mass))

    def value(self, row: Scored) -> float:
        """The calibrated confidence of one row."""
        return self.curves.get(row.label, self.curves[None]).value(row.score, row.mass)


def rows_missing(rows: Sequence[Scored]) -> int:
    """How many more judged rows a calibration needs, where right and wrong go on as they do; 0 where it can be made."""
    right = sum(row.right for row in rows)
    fewest = min(right, len(rows) - right)
    if len(rows) >= LEAST_ROWS and fewest >= LEAST_OF_A_KIND:
        return 0
    share = max(fewest, 0.5) / max(1, len(rows))
    return max(LEAST_ROWS - len(rows), math.ceil((LEAST_OF_A_KIND - fewest) / share), 1)


def calibrate(column: str, rows: Sequence[Scored], *, seed: int = 0) -> Calibration:
    """Fit each form, keep the one with the least cross-fitted log loss, and measure it by the same folds.

    A label with rows enough gets a curve of its own, of the form that is best for it.
    """
    right = np.array([row.right for row in rows], dtype=float)
    kind, values, losses = _best(rows, seed)
    curves: dict[str | None, Curve] = {None: fit(kind, rows)}
    for label, places in _by_label(rows).items():
        mine = [rows[at] for at in places]
        if len(mine) >= LEAST_PER_LABEL and not rows_missing(mine):
            form, values[places], _ = _best(mine, seed)
            curves[label] = fit(form, mine)
    told = measured(values, right) | {"kind": kind, "log_loss_of_kinds": losses}
    told["before"] = measured(np.array([row.score for row in rows]), right)
    return Calibration(column, curves, len(rows), told)


def _best(rows: Sequence[Scored], seed: int) -> tuple[str, Array, dict[str, float]]:
    """The form with the least log loss on rows that it was not fitted on, its values of them, and all losses."""
    folds, right = _folds(rows, seed), np.array([row.right for row in rows], dtype=float)
    tried = {kind: _cross_fitted(kind, rows, folds) for kind in KINDS if kind != "both" or _has_mass(rows)}
    losses = {kind: log_loss(found, right) for kind, found in tried.items()}
    kind = min(losses, key=lambda one: losses[one])
    return kind, tried[kind], losses


def _by_label(rows: Sequence[Scored]) -> dict[str, list[int]]:
    """The places of the rows of each label."""
    found: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        if row.label is not None:
            found.setdefault(row.label, []).append(at)
    return dict(sorted(found.items()))


def fit(kind: str, rows: Sequence[Scored]) -> Curve:
    """Fit one form to rows of which some are right and some are wrong."""
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    right = np.array([row.right for row in rows], dtype=float)
    if kind == "isotonic":
        found = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE, out_of_bounds="clip").fit([r.score for r in rows], right)
        return Curve(kind, (*map(float, found.X_thresholds_), *map(float, found.y_thresholds_)))
    features = np.array([_features(kind, row.score, row.mass) for row in rows])
    used = list(range(features.shape[1]))
    while True:
        model = LogisticRegression(C=100.0).fit(features[:, used], right)
        weights = dict(zip(used, model.coef_[0], strict=True))
        # a map that falls where the score rises is none
        falling = [at for at in used if weights[at] < 0]
        if not falling or len(used) == 1:
            break
        used = [at for at in used if at not in falling] or used[:1]
    numbers = [max(0.0, float(weights.get(at, 0.0))) for at in range(features.shape[1])]
    return Curve(kind, (*numbers, float(model.intercept_[0])))


def measured(values: Array, right: Array) -> dict[str, Any]:
    """AUROC, calibration error over bins of equal mass, Brier score, log loss, and the reliability curve."""
    from sklearn.metrics import roc_auc_score

    bins = []
    for part in np.array_split(np.argsort(values, kind="stable"), min(BINS, len(values))):
        low, high = wilson(int(right[part].sum()), len(part))
        bins.append(
            {
                "rows": len(part),
                "confidence": float(values[part].mean()),
                "right": float(right[part].mean()),
                "low": low,
                "high": high,
            }
        )
    both = 0 < right.sum() < len(right)
    return {
        "rows": len(right),
        "auroc": float(roc_auc_score(right, values)) if both else None,
        "ece": sum(one["rows"] * abs(one["confidence"] - one["right"]) for one in bins) / len(right),
        "brier": float(np.mean((values - right) ** 2)),
        "log_loss": log_loss(values, right),
        "reliability": bins,
    }


def log_loss(values: Array, right: Array) -> float:
    """The mean negative log-likelihood."""
    inside = np.clip(values, EDGE, 1 - EDGE)
    return float(-np.mean(right * np.log(inside) + (1 - right) * np.log(1 - inside)))


def wilson(right: int, rows: int, *, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not rows:
        return 0.0, 1.0
    share, spread = right / rows, z * z / rows
    middle, wide = share + spread / 2, z * math.sqrt(share * (1 - share) / rows + spread / (4 * rows))
    return (middle - wide) / (1 + spread), (middle + wide) / (1 + spread)


def _cross_fitted(kind: str, rows: Sequence[Scored], folds: Array) -> Array:
    values = np.empty(len(rows))
    for fold in range(FOLDS):
        curve = fit(kind, [row for row, mine in zip(rows, folds, strict=True) if mine != fold])
        for at in np.flatnonzero(folds == fold):
            values[at] = curve.value(rows[at].score, rows[at].mass)
    return values


def _folds(rows: Sequence[Scored], seed: int) -> Array:
    """A fold for each row, right and wrong ones dealt out evenly."""
    draw, folds = np.random.default_rng(seed), np.empty(len(rows), dtype=int)
    right = np.array([row.right for row in rows])
    for kind in (True, False):
        mine = draw.permutation(np.flatnonzero(right == kind))
        folds[mine] = np.arange(len(mine)) % FOLDS
    return folds


def _has_mass(rows: Sequence[Scored]) -> bool:
    return all(row.mass is not None for row in rows)


def _features(kind: str, score: float, mass: float | None) -> list[float]:
    inside = min(max(score, EDGE), 1 - EDGE)
    if kind == "beta":
        return [math.log(inside), -math.log(1 - inside)]
    other = min(max(1.0 if mass is None else mass, EDGE), 1 - EDGE)
    return [math.log(inside / (1 - inside)), math.log(other / (1 - other))]


def _clipped(value: Column) -> Column:
    return F.least(F.greatest(value, F.lit(EDGE)), F.lit(1 - EDGE))


def _logit(value: Column) -> Column:
    return F.log(value / (1 - value))


def _between(score: Column, places: Sequence[float], values: Sequence[float]) -> Column:
    """The line between knots."""
    found = F.when(score <= places[0], F.lit(values[0]))
    for at in range(1, len(places)):
        wide = places[at] - places[at - 1]
        slope = (values[at] - values[at - 1]) / wide if wide > 0 else 0.0
        found = found.when(score <= places[at], F.lit(values[at - 1]) + (score - F.lit(places[at - 1])) * F.lit(slope))
    return found.otherwise(F.lit(values[-1]))
