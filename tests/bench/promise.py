"""Whether the promise is kept: trials over simulated worlds, beside BARGAIN's bound and the best threshold there is.

A world is a frame of scored rows of which it is known which are right. A trial draws rows from it without replacement
and lets burnish choose a threshold; it keeps the promise where the frame's rows above that threshold are right often
enough, or where nothing is written.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.promise import MOST_CANDIDATES, Candidate, certify

ASSURANCE = 0.95
ROWS = 4_000
KINDS = ("calibrated", "over-confident", "useless", "discrete", "heavily tied", "rare errors")
CLASSES = (2, 10, 77)
DRAWN = (50, 100, 200, 1_000)
PRECISIONS = (0.8, 0.9, 0.97)
LEAST_ROWS = 100  # of a set, to be a frame
DRAWN_OF_REAL = (50, 100, 200)
LEAST_KEPT = 0.924  # of 1,000 trials at 0.95, corrected for the number of settings (binomial)

NO_ANSWERS = """promise_real: no answers to public sets are there. First write the sets, and have them answered:
export BURNISH_SUITE=FOLDER
python tests/suite/build.py $BURNISH_SUITE
burnish evaluate tests/suite/suite.yaml
burnish evaluate tests/suite/suite_full.yaml"""

Choice = Callable[[list[Candidate], float], Candidate | None]


@dataclass(frozen=True)
class World:
    """A frame: scores, which rows are right, and the candidates that its scores fix."""

    name: str
    scores: Any
    right: Any

    @property
    def thresholds(self) -> list[float]:
        """At most so many quantiles of the scores."""
        shares = np.linspace(0, 1, MOST_CANDIDATES, endpoint=False)
        return sorted(set(np.quantile(self.scores, shares, method="inverted_cdf").tolist()))


@dataclass(frozen=True)
class Outcome:
    """What the trials of one setting came to; `written` is the mean share of rows where something was written."""

    kept: int
    trials: int
    wrote: int
    written: float

    @property
    def share_kept(self) -> float:
        """Of all trials."""
        return self.kept / self.trials

    @property
    def bought(self) -> float:
        """The mean share of rows written, over all trials."""
        return self.wrote / self.trials * self.written


def world(kind: str, classes: int, *, rows: int = ROWS, seed: int = 0) -> World:
    """Make a frame of a kind."""
    draw = np.random.default_rng((seed, KINDS.index(kind), classes))
    least = 1 / classes
    p = least + (1 - least) * draw.beta(2.0, 0.7, rows)
    if kind == "rare errors":
        p = 1 - (1 - p) * 0.03
    if kind == "useless":
        p = np.full(rows, 0.85)
    right = draw.random(rows) < p
    scores = p
    if kind == "over-confident":
        scores = p**0.1
    if kind == "useless":
        scores = draw.random(rows)
    if kind == "discrete":
        scores = np.round(p, 1)
    if kind == "heavily tied":
        scores = np.where(p > np.quantile(p, 0.3), 1.0, np.round(p, 1))
    return World(f"{kind}, {classes} classes", scores, right)


def trials(
    frame: World, *, drawn: int, precision: float, number: int, choose: Choice | None = None, seed: int = 0
) -> Outcome:
    """Draw so many samples and count how often the promise is kept, and how much is written."""
    draw = np.random.default_rng((seed, drawn, round(1000 * precision)))
    order = np.argsort(-frame.scores, kind="stable")
    scores, right = frame.scores[order], frame.right[order]
    ends = [int(np.searchsorted(-scores, -one, side="right")) for one in frame.thresholds]
    good = np.concatenate([[0], np.cumsum(right)])
    kept = wrote = 0
    written = 0.0
    for _ in range(number):
        sample = np.sort(draw.choice(len(scores), min(drawn, len(scores)), replace=False))
        found = np.concatenate([[0], np.cumsum(right[sample])])
        counts = [int(np.searchsorted(sample, end)) for end in ends]
        candidates = [
            Candidate(threshold, end, count, int(found[count]))
            for threshold, end, count in zip(frame.thresholds, ends, counts, strict=True)
        ]
        if choose is None:
            chosen = certify(candidates, precision=precision, level=1 - ASSURANCE).chosen
        else:
            chosen = choose(candidates, precision)
        if chosen is None:
            kept += 1
            continue
        wrote += 1
        written += chosen.rows / len(scores)
        kept += bool(good[chosen.rows] >= precision * chosen.rows - 1e-9)
    return Outcome(kept, number, wrote, written / max(1, wrote))


def oracle(frame: World, precision: float) -> float:
    """The largest share of rows that a threshold may write, were all labels known."""
    order = np.argsort(-frame.scores, kind="stable")
    right = np.cumsum(frame.right[order])
    ends = [int((frame.scores >= one).sum()) for one in frame.thresholds]
    return max((end / len(order) for end in ends if right[end - 1] >= precision * end), default=0.0)


def bargain(candidates: list[Candidate], precision: float) -> Candidate | None:
    """One chain from our stricter start at the whole level, each candidate tested by BARGAIN's betting bound instead.

    Wealth grows by 1 + l (x - m), with m the target as drawing without replacement moves it, and the bet
    l = sqrt(2 ln(2 / a) / (i ln(i + 1) s^2)), at most 3/4 / m (ucbepic/BARGAIN, `betting_bounds.py`).
    """
    chosen = None
    chain = certify(candidates, precision=precision, level=1 - ASSURANCE)
    start = chain.candidates.index(chain.tested[0])
    for one in chain.candidates[start:]:
        if not _bets_pay(one, precision, 1 - ASSURANCE):
            break
        chosen = one
    return chosen


def _bets_pay(one: Candidate, target: float, level: float) -> bool:
    """Whether the wealth reaches 1/level; labels in an order drawn by chance."""
    order = np.random.default_rng(one.labelled).permutation(one.labelled) < one.right
    wealth, total, squares, before = 1.0, 0.0, 0.25, 0.5
    for at, label in enumerate(order, 1):
        mean = (one.rows * target - total) / (one.rows - (at - 1))
        if mean <= 0:
            return True
        bet = min(math.sqrt(2 * math.log(2 / level) / (at * math.log(at + 1) * squares / at)), 0.75 / mean)
        wealth *= 1 + bet * (float(label) - mean)
        if wealth >= 1 / level:
            return True
        total += float(label)
        before = (0.5 + total) / (at + 1)
        squares += (float(label) - before) ** 2
    return False


def real_worlds(spark: Any, suite: Path) -> Iterator[World]:
    """The embedded model's answers on public sets, each column a frame.

    Args:
        suite: where `burnish evaluate` has written, for `suite_full.yaml` (some sets whole) and `suite.yaml`.
    """
    whole = {path.parts[-3]: path for path in suite.glob("scores_full/*/smollm2/judged")}
    drawn = {path.parts[-3]: path for path in suite.glob("scores/*/smollm2/judged")}
    for _, folder in sorted((drawn | whole).items()):
        rows = spark.read.format("delta").load(str(folder)).where("confidence IS NOT NULL").collect()
        for column in sorted({row["column"] for row in rows}):
            mine = [row for row in rows if row["column"] == column]
            if len(mine) >= LEAST_ROWS:
                scored = np.array([[row["confidence"], row["right"]] for row in mine], dtype=float)
                yield World(f"{folder.parts[-3]}, {column}", scored[:, 0], scored[:, 1] > 0)


def promise_real(bench: Any) -> list[Any]:
    """The same over real answers: every public set that was evaluated, by rows drawn and precision."""
    from report import Table

    number, rows, broken, better = bench.size(1000, quick=20), [], 0, 0
    worlds = list(real_worlds(bench.spark, Path(os.environ.get("BURNISH_SUITE", ""))))
    if not worlds:
        # a table of nothing must not take the place of what was measured
        raise SystemExit(NO_ANSWERS)
    for frame, drawn, precision in itertools.product(worlds, DRAWN_OF_REAL, PRECISIONS):
        if drawn >= len(frame.scores):
            continue  # all judged: nothing is left to promise
        ours = trials(frame, drawn=drawn, precision=precision, number=number)
        theirs = trials(frame, drawn=drawn, precision=precision, number=max(1, number // 10), choose=bargain)
        broken += ours.share_kept < LEAST_KEPT
        better += ours.bought >= theirs.bought
        shares = (ours.share_kept, ours.wrote / number, ours.bought, theirs.bought, oracle(frame, precision))
        size = (f"{len(frame.scores):,}", f"{frame.right.mean():.3f}", f"{drawn:,}", f"{precision:g}")
        rows.append((frame.name, *size, *(f"{share:.3f}" for share in shares)))
    headings = ("set", "rows", "right", "drawn", "precision", "kept", "wrote", "rows written", "by BARGAIN", "oracle")
    note = (
        f"{number:,} trials a setting over what `burnish evaluate` left of tests/suite/suite.yaml and suite_full.yaml, "
        f"the sample included in the frame; assurance {ASSURANCE}; the columns as under `promise`."
    )
    summary = [
        (f"settings that kept it in {LEAST_KEPT:.1%} of trials or more", f"{len(rows) - broken} of {len(rows)}"),
        ("settings that wrote at least as much as by BARGAIN's bound", f"{better} of {len(rows)}"),
    ]
    return [Table(("promise over real answers", "found"), summary, ""), Table(headings, rows, note)]


def promise(bench: Any) -> list[Any]:
    """Every setting as a row; the last table says how many kept the promise."""
    from report import Table

    number = bench.size(1000, quick=20)
    rows = []
    broken = better = useful = asked = 0
    for kind, classes, drawn, precision in itertools.product(KINDS, CLASSES, DRAWN, PRECISIONS):
        frame = world(kind, classes)
        ours = trials(frame, drawn=drawn, precision=precision, number=number)
        theirs = trials(frame, drawn=drawn, precision=precision, number=max(1, number // 10), choose=bargain)
        best = oracle(frame, precision)
        broken += ours.share_kept < LEAST_KEPT
        better += ours.bought >= theirs.bought
        if kind == "calibrated" and drawn >= 200 and precision <= 0.9 and best >= 0.5:
            asked, useful = asked + 1, useful + (ours.wrote >= number / 2)
        shares = (ours.share_kept, ours.wrote / number, ours.bought, theirs.bought, best)
        rows.append((frame.name, f"{drawn:,}", f"{precision:g}", *(f"{share:.3f}" for share in shares)))
    headings = ("world", "drawn", "precision", "kept", "wrote", "rows written", "by BARGAIN's bound", "oracle")
    note = (
        f"{number:,} trials a setting, frames of {ROWS:,} rows, assurance {ASSURANCE}. *kept*: of all trials, those "
        "that wrote nothing included; *wrote*: trials that wrote something; *rows written*: mean share of the frame "
        "over all trials; *oracle*: the most that any candidate threshold may write, all labels known."
    )
    in_half = "calibrated, 200 or more drawn, precision to 0.9: wrote in at least half of the trials"
    summary = [
        (
            f"settings that kept the promise in {LEAST_KEPT:.1%} of trials or more",
            f"{len(rows) - broken} of {len(rows)}",
        ),
        ("settings that wrote at least as much as by BARGAIN's bound", f"{better} of {len(rows)}"),
        (in_half, f"{useful} of {asked}"),
    ]
    return [Table(("promise", "found"), summary, ""), Table(headings, rows, note)]
