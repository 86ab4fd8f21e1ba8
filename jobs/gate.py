"""The gate: a night's answers beside those of the last good run, before anything is written."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.cells import NOT_ASKED, CellFrame
from jobs.outcome import Published, changes
from jobs.status import last_runs
from schemas.errors import DataContractError
from schemas.gate import Gate
from schemas.job import EnrichJob
from schemas.tasks import has_labels

LEAST_ANSWERS = 50
MOST_RUNS = 50
MOST_LABELS = 200
MOST_DRIFT = 0.2  # of the rows outside a frame that may lie elsewhere among its quantiles
CHANCE = 0.001  # of a mix that differs so much by itself


@dataclass(frozen=True)
class Facts:
    """What one column's answers of one night look like; values that no model gave are left out."""

    answered: int = 0
    failed: int = 0
    nulls: int = 0
    changed: int = 0
    scored: int = 0
    confidence: float = 0.0
    mix: Mapping[str, int] = field(default_factory=dict)

    def share(self, count: int) -> float:
        """A count as a share of all answers and failures."""
        return count / max(1, self.answered + self.failed)


class GateShut(DataContractError):
    """A night's answers differ from the last good run's by more than the gate allows; nothing was written."""

    code = "gate"

    def __init__(self, complaints: Mapping[str, list[str]], *, is_drift: bool = False) -> None:
        """Name every column and what of it differs; `is_drift`: a promise is declared to stop then."""
        told = "; ".join(f"{name}: {', '.join(found)}" for name, found in complaints.items())
        super().__init__(
            f"the gate is shut, nothing was written: {told}",
            hint="after a look, `burnish run --publish-only` writes the answers as they are; nothing is asked again",
        )
        self.columns, self.is_drift = tuple(complaints), is_drift


@dataclass
class GateKeeper:
    """Looks at what is staged, once a publish.

    Attributes:
        is_open: somebody has looked: nothing is stopped, and the facts are put on record for the next night.
        holds: that answers were sent to review for what the gate found.
    """

    spark: SparkSession
    job: EnrichJob
    cells: CellFrame
    is_open: bool = False
    facts: dict[str, Facts] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    holds: bool = False

    def check(self, staged: DataFrame, counted: Published) -> None:
        """Compare with the frames of what is promised, and with the last good run.

        Args:
            staged: what is to be written.
            counted: the counts of it.

        Raises:
            GateShut: more differs than the gate allows, and it does not only warn.
        """
        self._check_drift(staged, counted)
        gate = self.job.gate
        if gate is None:
            return
        self.facts = facts_of(staged, self.cells)
        told = complaints(gate, self.facts, facts_before(self.spark, self.job))
        if not told or self.is_open:
            return
        shut = GateShut(told)
        if gate.otherwise != "warn":
            raise shut
        self.remarks.append(str(shut).replace("the gate is shut, nothing was written", "the gate warns"))

    def _check_drift(self, staged: DataFrame, counted: Published) -> None:
        found = {}
        for at, task in enumerate(self.cells.scope.tasks):
            rule = self.cells.rules[task.name]
            has_enough = counted.columns[task.name].touched >= LEAST_ANSWERS
            told = drift(staged, at, rule.frame_scores) if rule.thresholds and has_enough else ""
            if told:
                found[task.name] = told
                if rule.stops_on_drift and not self.is_open:
                    raise GateShut({task.name: [told]}, is_drift=True)
        self.remarks += [f"{name}: {told}; the promise is not about them" for name, told in found.items()]

    def held(self, shut: GateShut) -> CellFrame:
        """Return the cells with every answer of the columns that differ on its way to review.

        Raises:
            GateShut: the gate, or a promise, is declared to stop the run.
        """
        if shut.is_drift or self.job.gate is None or self.job.gate.otherwise != "review":
            raise shut
        self.holds = True
        self.remarks.append(str(shut).replace("nothing was written", "these answers wait in review"))
        # a night that was held is none to compare the next one with
        self.facts = {name: facts for name, facts in self.facts.items() if name not in shut.columns}
        held = {name: replace(self.cells.rules[name], thresholds={}, earlier=()) for name in shut.columns}
        return replace(self.cells, rules={**self.cells.rules, **held})


def facts_of(staged: DataFrame, cells: CellFrame) -> dict[str, Facts]:
    """Look at what is staged, in one pass, and one more for each column of labels."""
    sums, labels = [], {}
    for at, task in enumerate(cells.scope.tasks):
        cell = F.col(f"c{at}")
        asked = cell.isNotNull() & ~F.arrays_overlap(cell["notes"], F.array(*map(F.lit, NOT_ASKED)))
        answered = asked & cell["status"].isin("accepted", "unchanged", "review")
        proposed = F.coalesce(cell["new"], cell["proposed"])
        named = {
            "answered": F.count_if(answered),
            "failed": F.count_if(asked & (cell["status"] == "failed")),
            "nulls": F.count_if(answered & proposed.isNull()),
            "changed": F.count_if(answered & cell["old"].isNotNull() & changes(cell)),
            "scored": F.count_if(answered & cell["confidence"].isNotNull()),
            "confidence": F.coalesce(F.sum(F.when(answered, cell["confidence"])), F.lit(0.0)),
        }
        sums += [value.alias(f"{at}:{name}") for name, value in named.items()]
        if has_labels(task):
            counted = staged.where(answered & proposed.isNotNull()).groupBy(proposed.alias("label")).count()
            rows = counted.orderBy(F.col("count").desc(), "label").limit(MOST_LABELS).collect()
            labels[at] = {row["label"]: int(row["count"]) for row in rows}
    row = staged.agg(*sums).collect()[0].asDict()
    found = {}
    for at, task in enumerate(cells.scope.tasks):
        mine = {name.partition(":")[2]: value for name, value in row.items() if name.startswith(f"{at}:")}
        found[task.name] = Facts(**mine, mix=labels.get(at, {}))
    return found


def drift(staged: DataFrame, at: int, frame_scores: Mapping[float, int]) -> str:
    """Say whether the answers to rows outside a frame score otherwise than the frame's; nothing where they do not.

    That they do not proves nothing: another mistake may be made with the same confidence.
    """
    thresholds = sorted(frame_scores)
    cell = F.col(f"c{at}")
    others = staged.where(cell["framed"].isNull() & cell["raw_score"].isNotNull() & ~cell["noop"])
    place = F.lit(0)
    for threshold in thresholds:
        place = place + (cell["raw_score"] >= threshold).cast("int")
    now = {str(row["bin"]): int(row["count"]) for row in others.groupBy(place.alias("bin")).count().collect()}
    if sum(now.values()) < LEAST_ANSWERS:
        return ""
    reached = [frame_scores[threshold] for threshold in thresholds]
    before = {str(n): many - fewer for n, (many, fewer) in enumerate(itertools.pairwise([*reached, 0]), 1)}
    distance, chance = mix_distance(now, {name: count for name, count in before.items() if count})
    if distance <= MOST_DRIFT or chance >= CHANCE:
        return ""
    return f"{sum(now.values()):,} rows outside the frame score otherwise than its rows ({distance:.0%} lie elsewhere)"


def facts_before(spark: SparkSession, job: EnrichJob) -> dict[str, Facts]:
    """Each column's facts in the newest run that ended well and had answers enough."""
    found: dict[str, Facts] = {}
    for row, report in last_runs(spark, job, most=MOST_RUNS):
        if row["last"]["state"] != "done":
            continue
        for name, facts in (report.get("gate") or {}).items():
            if facts["answered"] + facts["failed"] >= LEAST_ANSWERS:
                found.setdefault(name, Facts(**facts))
    return found


def complaints(gate: Gate, now: Mapping[str, Facts], before: Mapping[str, Facts]) -> dict[str, list[str]]:
    """What of each column differs more than the gate allows; shares are told, no text of a cell but labels is."""
    found = {name: _differs(gate, now[name], before[name]) for name in now if name in before}
    return {name: told for name, told in found.items() if told}


def as_record(facts: Mapping[str, Facts]) -> dict[str, Any]:
    """Facts as a run's report keeps them."""
    return {name: asdict(one) for name, one in facts.items()}


def _differs(gate: Gate, now: Facts, before: Facts) -> list[str]:
    if now.answered + now.failed < LEAST_ANSWERS:
        return []
    told = []
    for what, count, allowed in (("failed", "failed", gate.failed_share), ("empty", "nulls", gate.null_share)):
        shares = [one.share(getattr(one, count)) for one in (before, now)]
        if shares[1] > shares[0] + allowed:
            told.append(f"{what} answers {shares[0]:.1%} → {shares[1]:.1%}")
    if now.scored and before.scored:
        means = [one.confidence / one.scored for one in (before, now)]
        if means[1] < means[0] - gate.confidence:
            told.append(f"mean confidence {means[0]:.2f} → {means[1]:.2f}")
    if now.share(now.changed) > gate.changed_share:
        told.append(f"{now.share(now.changed):.0%} of the answers change a value that stood there")
    distance, chance = mix_distance(now.mix, before.mix)
    if distance > gate.label_mix and chance < CHANCE:
        label = max(
            sorted({*now.mix, *before.mix}), key=lambda one: abs(_share(now.mix, one) - _share(before.mix, one))
        )
        told.append(
            f"{distance:.0%} of the answers have other labels, most of all {label!r}: "
            f"{_share(before.mix, label):.1%} → {_share(now.mix, label):.1%}"
        )
    return told


def mix_distance(now: Mapping[str, int], before: Mapping[str, int]) -> tuple[float, float]:
    """The total variation distance of two mixes of labels, and how likely chance alone makes one so large.

    The chance is of the two-sample chi-squared statistic, by Wilson and Hilferty's approximation.
    """
    totals = [sum(one.values()) for one in (now, before)]
    if not all(totals):
        return 0.0, 1.0
    labels = sorted({*now, *before})
    distance = sum(abs(_share(now, label) - _share(before, label)) for label in labels) / 2
    if len(labels) < 2:
        return distance, 1.0
    statistic = 0.0
    for label in labels:
        together = now.get(label, 0) + before.get(label, 0)
        for counts, total in zip((now, before), totals, strict=True):
            expected = together * total / sum(totals)
            statistic += (counts.get(label, 0) - expected) ** 2 / expected
    freedom = len(labels) - 1
    spread = 2 / (9 * freedom)
    normal = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return distance, 0.5 * math.erfc(normal / math.sqrt(2))


def _share(mix: Mapping[str, int], label: str) -> float:
    return mix.get(label, 0) / max(1, sum(mix.values()))
