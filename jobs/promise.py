"""A promise about the rows of a frame: from which score on, and what a drawn sample of labels proves of it.

A frame is a fixed set of scored rows, of which some are drawn uniformly without replacement and judged by people.
Given how many of the drawn rows score at least so much, they are a uniform draw from the frame's rows that do, so that
the number of right ones among them is hypergeometric: the tests here are exact for every frame and sample size.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

MOST_CANDIDATES = 20
# the wrong answers that the two first thresholds tried can bear, and their shares of the level: the stricter one is for
# models that are hardly ever wrong where they are surest, the laxer one for those that err anywhere
STARTS = ((0, 0.7), (2, 0.3))
LARGEST_SHARE = max(share for _, share in STARTS)
LUCK = 1.0  # a start counts on so many standard deviations fewer drawn rows than their mean
MOST_LABELS = 1_000_000
STEP = 0.005  # of the precisions that a message tries


@dataclass(frozen=True)
class Candidate:
    """A threshold beside the frame and the sample.

    Attributes:
        rows: of the frame, that score at least so much.
        labelled: of those, the drawn ones.
        right: of those, the ones whose model answer was right.
    """

    threshold: float
    rows: int
    labelled: int
    right: int


@dataclass(frozen=True)
class Verdict:
    """What a sample proves.

    Attributes:
        tested: the candidates in the order in which they were tested.
        chosen: the laxest that passed; None where nothing may be written.
    """

    precision: float
    level: float
    candidates: tuple[Candidate, ...]
    tested: tuple[Candidate, ...]
    chosen: Candidate | None

    def best(self, level: float) -> tuple[Candidate, float] | None:
        """The highest precision that this sample would prove at a level, in steps, and from where on; for messages."""
        most = max((provable(one.rows, one.labelled, one.right, level) for one in self.candidates), default=0.0)
        for step in range(math.floor(most / STEP), 0, -1):
            # what a threshold would prove alone may not be reached by the order in which they are tested
            chosen = certify(self.candidates, precision=step * STEP, level=level).chosen
            if chosen is not None:
                return chosen, step * STEP
        return None

    def labels_missing(self, level: float) -> int | None:
        """How many more rows would have to be drawn for the promise at a level, if they were right as often as these.

        None where no candidate is right often enough.
        """
        own = level * LARGEST_SHARE
        counts = [(one, _needed_as_right(one, self.precision, own)) for one in self.candidates]
        drawn = max((one.labelled for one in self.candidates), default=0)
        rows = max((one.rows for one in self.candidates), default=0)
        missing = [
            math.ceil((needed - one.labelled) * rows / one.rows) for one, needed in counts if needed and needed > 0
        ]
        enough = [one for one in missing if 0 < one <= rows - drawn]
        return min(enough, default=None)


def level_of_look(assurance: float, look: int) -> float:
    """The level at which look number 1, 2, … at one frame is tested: all of them together keep 1 - assurance."""
    return (1.0 - assurance) * 6.0 / (math.pi**2 * look**2)


def p_value(rows: int, drawn: int, right: int, precision: float) -> float:
    """How likely so many right ones among the drawn are, were the frame's precision just below what is claimed.

    Args:
        rows: the frame's rows at or above the threshold.
        drawn: how many of them were drawn, uniformly without replacement.
        right: how many of the drawn were right.
    """
    # one fewer right row than the claim needs; a rounding error must not lower the claim
    most = math.ceil(precision * rows - 1e-9) - 1
    if right > min(drawn, most):
        return 0.0 if drawn else 1.0
    return _upper_tail(rows, most, drawn, right)


def _upper_tail(rows: int, marked: int, drawn: int, least: int) -> float:
    """P(at least so many marked ones among the drawn), from the largest possible number down."""
    at = min(drawn, marked)
    if rows - marked < drawn - at:
        return 1.0
    larger = max(drawn, marked)
    log = math.fsum(math.log((larger - step) / (rows - step)) for step in range(at))
    logs = [log]
    while at > least:
        # P(at - 1) from P(at)
        above = at * (rows - marked - drawn + at)
        if above <= 0:
            break
        log += math.log(above) - math.log((marked - at + 1) * (drawn - at + 1))
        logs.append(log)
        at -= 1
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(one - top) for one in logs))


def labels_needed(precision: float, level: float, *, errors: int = 0, rows: int | None = None) -> int:
    """How many labelled rows above a threshold prove a precision with so many wrong among them.

    Args:
        rows: of the frame above the threshold; None for a frame of any size.
    """
    frame = rows if rows is not None else 10**9
    low, most = errors + 1, min(frame, MOST_LABELS)

    def proves(labelled: int) -> bool:
        return p_value(frame, labelled, labelled - errors, precision) <= level

    # from below, since a test of so many labels takes so many steps
    high = min(low, most)
    while high < most and not proves(high):
        low, high = high + 1, min(2 * high, most)
    if high == most and not proves(high):
        return high + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle + 1, high)
    return low


def labels_to_start(precision: float, level: float) -> tuple[int, int]:
    """How many labelled rows above a threshold the two starts need: without a mistake, and with those that it bears."""
    strict, lax = (labels_needed(precision, level * share, errors=errors) for errors, share in STARTS)
    return strict, lax


def provable(rows: int, drawn: int, right: int, level: float) -> float:
    """The highest precision that a sample proves at a level, as a share of the frame's rows; 0 where it proves none."""
    low, high = 0, rows
    while low < high:
        middle = (low + high + 1) // 2
        if p_value(rows, drawn, right, middle / rows) <= level:
            low = middle
        else:
            high = middle - 1
    return low / rows if rows else 0.0


def certify(candidates: Sequence[Candidate], *, precision: float, level: float) -> Verdict:
    """Test candidates from strict to lax, from two of them that the scores alone choose, each until one fails.

    Each start has its share of the level, and what passes hands its own on to the next (Wiens' fallback procedure,
    Pharmaceutical Statistics 2003). Order, starts and shares are fixed before it is known which rows are right, and
    which of them were drawn, so that all tests together err with probability `level` at most.
    """
    ordered = tuple(sorted(candidates, key=lambda one: -one.threshold))
    shares: defaultdict[int, float] = defaultdict(float)
    for errors, share in STARTS:
        shares[_start(ordered, errors, precision, level * share)] += level * share
    tested: list[Candidate] = []
    chosen, own = None, 0.0
    for at, one in enumerate(ordered):
        own += shares[at]
        if own:
            tested.append(one)
            chosen, own = (one, own) if passes(one, precision, own) else (chosen, 0.0)
    return Verdict(precision, level, ordered, tuple(tested), chosen)


def passes(one: Candidate, precision: float, level: float) -> bool:
    """Whether the sample proves a candidate's precision, taken alone."""
    return one.labelled > 0 and p_value(one.rows, one.labelled, one.right, precision) <= level


def _start(ordered: Sequence[Candidate], errors: int, precision: float, level: float) -> int:
    """The strictest candidate that would bear so many wrong answers; where none does, the laxest."""
    for at, one in enumerate(ordered):
        drawn = _counted_on(one, ordered[-1])
        if drawn > errors and p_value(one.rows, drawn, drawn - errors, precision) <= level:
            return at
    return max(0, len(ordered) - 1)


def _counted_on(one: Candidate, whole: Candidate) -> int:
    """How many rows a draw from the whole gives a candidate, with little luck. What it did give may not decide."""
    # of purged rows it is not known which label they had, so that more may be counted than a label has rows
    drawn, share = min(whole.labelled, whole.rows), one.rows / max(1, whole.rows)
    variance = drawn * share * (1 - share) * (whole.rows - drawn) / max(1, whole.rows - 1)
    return max(0, math.floor(drawn * share - LUCK * math.sqrt(variance)))


def _needed_as_right(one: Candidate, precision: float, level: float) -> int | None:
    """How many labelled rows would prove a candidate that is right as often as in the sample."""
    if not one.labelled or one.right / one.labelled <= precision:
        return None
    share, labelled = one.right / one.labelled, one.labelled
    while labelled <= one.rows:
        if p_value(one.rows, labelled, math.floor(share * labelled), precision) <= level:
            return labelled
        labelled = max(labelled + 1, math.ceil(labelled * 1.05))
    return None
