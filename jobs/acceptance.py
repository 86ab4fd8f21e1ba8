"""What an answer needs in order to be written: a least confidence, or a threshold that a promise has proved."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import lake
from jobs.calibration import Calibration
from jobs.people import newest
from jobs.texts import one_of
from schemas.accept import Promise
from schemas.job import EnrichJob
from schemas.tasks import AnyTask

PROMISED, CARRIED = "promised", "carried"


@dataclass(frozen=True)
class Rule:
    """What one column's answers need.

    Attributes:
        least: a confidence; None where every answer will do.
        thresholds: of the raw score, by label (None: of any label); None where nothing is promised. A label without a
            threshold is never written. They are the newest frame's, and rows outside all frames go by them, too.
        earlier: those of the frames before it, the oldest first.
        members: key and question of the rows that a promise is about, and `nth`, the place of the frame that makes it
            among all of these. No row is in two of them.
        holds_others: rows outside the frames go to review.
        frame_scores: how many of the newest frame's rows score at least so much, by threshold; what drift is measured
            by.
        share: the part of the newest frame's rows that its thresholds let through.
        stops_on_drift: whether a drift stops the run.
        people: key, inputs_hash and `said`, the JSON of what a person gave or found right for a row with these inputs,
            with the time when.
        spreads: what was said of one row holds for others with the same inputs.
        calibration: how a score becomes a confidence; None where it is taken as it is.
        remarks: what a person should know of it.
    """

    least: float | None = None
    thresholds: Mapping[str | None, float] | None = None
    earlier: tuple[Mapping[str | None, float], ...] = ()
    members: DataFrame | None = None
    holds_others: bool = False
    frame_scores: Mapping[float, int] = field(default_factory=dict)
    share: float = 0.0
    stops_on_drift: bool = False
    people: DataFrame | None = None
    spreads: bool = False
    calibration: Calibration | None = None
    remarks: tuple[str, ...] = ()

    def confidence(self, raw: Column, mass: Column, label: Column) -> Column:
        """What `x_confidence` says of an answer with this score."""
        return raw if self.calibration is None else self.calibration.confidence(raw, mass, label)

    def passes(self, raw: Column, mass: Column, label: Column, framed: Column) -> Column:
        """Whether an answer may be written; one without a score passes no bar.

        Args:
            framed: which frame the row is in; null where it is in none.
        """
        if self.thresholds is None:
            confidence = self.confidence(raw, mass, label)
            return F.lit(True) if self.least is None else F.coalesce(confidence >= self.least, F.lit(False))
        found = _reaches(self.thresholds, raw, label)
        for nth, thresholds in enumerate(self.earlier):
            found = F.when(framed == nth, _reaches(thresholds, raw, label)).otherwise(found)
        return found & framed.isNotNull() if self.holds_others else found

    def promised(self, framed: Column) -> Column:
        """What `x_meta.promise` says of an accepted answer: a promise is about rows of its frame alone."""
        if self.thresholds is None:
            return F.lit(None).cast("string")
        return F.when(framed.isNotNull(), F.lit(PROMISED)).otherwise(F.lit(CARRIED))

    def with_membership(self, rows: DataFrame, job: EnrichJob, at: int, asked: Column) -> DataFrame:
        """Add `_framed<at>`: which frame a row, as it stands and is asked now, is in; null for none."""
        name = f"_framed{at}"
        if self.members is None:
            return rows.withColumn(name, F.lit(None).cast("int"))
        members = self.members.select(
            F.col("key").alias(f"{name}_key"), F.col("question_id").alias(f"{name}_question"), F.col("nth").alias(name)
        )
        same = (lake.key_json(job.key) == F.col(f"{name}_key")) & (asked == F.col(f"{name}_question"))
        return rows.join(members, same, "left").drop(f"{name}_key", f"{name}_question")

    def with_people(self, rows: DataFrame, job: EnrichJob, at: int, inputs_hash: Column) -> DataFrame:
        """Add `_said<at>`: what a person said of a row's cell while its inputs were what they are now."""
        name = f"_said{at}"
        if self.people is None:
            return rows.withColumn(name, F.lit(None).cast("string"))
        people = self.people.select(
            F.col("key").alias(f"{name}_key"), F.col("inputs_hash").alias(f"{name}_inputs"), F.col("said").alias(name)
        )
        same = (lake.key_json(job.key) == F.col(f"{name}_key")) & (inputs_hash == F.col(f"{name}_inputs"))
        rows = rows.join(F.broadcast(people), same, "left").drop(f"{name}_key", f"{name}_inputs")
        if not self.spreads:
            return rows
        # of several words on equal inputs the newest; one on the row itself goes before it
        equal = newest(self.people, "inputs_hash").select(
            F.col("inputs_hash").alias(f"{name}_inputs"), F.col("said").alias(f"{name}_equal")
        )
        rows = rows.join(F.broadcast(equal), inputs_hash == F.col(f"{name}_inputs"), "left")
        return rows.withColumn(name, F.coalesce(name, f"{name}_equal")).drop(f"{name}_inputs", f"{name}_equal")


def _reaches(thresholds: Mapping[str | None, float], raw: Column, label: Column) -> Column:
    found = F.lit(False)
    for name, threshold in thresholds.items():
        reaches = F.coalesce(raw >= threshold, F.lit(False))
        found = found | (reaches if name is None else reaches & F.coalesce(one_of(label, [name]), F.lit(False)))
    return found


def plain_rules(job: EnrichJob) -> dict[str, Rule]:
    """What a job declares by itself, before anything was proved: a promise lets nothing pass yet."""
    return {task.name: plain_rule(job, task) for task in job.columns}


def plain_rule(job: EnrichJob, task: AnyTask) -> Rule:
    """One column's."""
    accept = job.accept_of(task)
    return Rule(thresholds={}) if isinstance(accept, Promise) else Rule(least=accept)


def shown_rules(job: EnrichJob) -> dict[str, Rule]:
    """What a preview goes by: it shows every answer of a column about which something is promised."""
    accepts = {task.name: job.accept_of(task) for task in job.columns}
    return {name: Rule(least=None if isinstance(accept, Promise) else accept) for name, accept in accepts.items()}
