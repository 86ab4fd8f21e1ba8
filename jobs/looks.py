"""Looks at a frame: what the labels that people gave so far prove, tested once and kept on record."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from jobs import lake
from jobs.acceptance import Rule, plain_rule
from jobs.calibration import Calibration, Curve
from jobs.frames import Frame, framed_keys, latest_frame
from jobs.promise import Candidate, Verdict, certify, labels_needed, level_of_look
from jobs.store import Store
from jobs.texts import one_of
from schemas.accept import Promise
from schemas.job import EnrichJob
from schemas.tables import LOOKS, ddl
from schemas.tasks import Answer, AnyTask, Classify, Impute
from udfs.parse import dumps

RIGHT = "yes"  # every other verdict, a skipped row included, counts against the model


@dataclass(frozen=True)
class Labelled:
    """One drawn row that somebody judged."""

    score: float
    label: str | None
    right: bool


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


def rules_of(
    spark: SparkSession, store: Store, job: EnrichJob, fingerprints: dict[str, str], *, looks: bool
) -> dict[str, Rule]:
    """What each column's answers need now.

    Args:
        looks: test what has not been tested yet and put it on record; else the last test stands.
    """
    found = {task.name: _rule(spark, store, job, task, fingerprints[task.name], looks=looks) for task in job.columns}
    if store.exists(spark, "review"):
        found = {task.name: _with_people(spark, store, job, task, found[task.name]) for task in job.columns}
    for name, row in _calibrations(spark, store, job).items():
        rule, rows = found[name], row["rows"]
        if row["fingerprint"] == fingerprints[name]:
            curves = {label: Curve(kind, tuple(numbers)) for label, kind, numbers in json.loads(row["curves"])}
            told = f"{name}: confidences are calibrated on {rows:,} judged rows"
            calibration = Calibration(name, curves, rows)
        else:
            told = f"{name}: its calibration was made for another model or prompt and is not used; make a new one"
            calibration = None
        found[name] = replace(rule, calibration=calibration, remarks=(*rule.remarks, told))
    return found


def people_said(spark: SparkSession, store: Store, job: EnrichJob, task: AnyTask) -> DataFrame:
    """What people gave, or found right, for cells of a column: key, inputs, inputs_hash and `said`, as JSON.

    Whichever model or frame they looked at; the newest word on a row with these inputs counts.
    """
    mine = (F.col("target") == job.target_place.text) & (F.col("column") == task.name)
    said = F.coalesce("correction", F.when(F.col("verdict") == RIGHT, F.col("value")))
    rows = store.read(spark, "review").where(mine & F.col("inputs_hash").isNotNull()).withColumn("said", said)
    newest = Window.partitionBy("key", "inputs_hash").orderBy(F.col("reviewed_at").desc(), F.col("frame").desc())
    ranked = rows.where(F.col("said").isNotNull()).withColumn("nth", F.row_number().over(newest))
    return ranked.where("nth = 1").select("key", "inputs", "inputs_hash", "said")


def _with_people(spark: SparkSession, store: Store, job: EnrichJob, task: AnyTask, rule: Rule) -> Rule:
    rows, remarks = people_said(spark, store, job, task), rule.remarks
    if task.example_words is not None and isinstance(task, Classify | Impute | Answer):
        allowed = one_of(F.col("said"), [dumps(word) for word in (*task.example_words, None)])
        if refused := rows.where(~allowed).count():
            told = f"{task.name}: {refused} answers that people gave are none of the labels now, and are not written"
            remarks, rows = (*remarks, told), rows.where(allowed)
    return replace(rule, people=rows, remarks=remarks)


def _calibrations(spark: SparkSession, store: Store, job: EnrichJob) -> dict[str, Row]:
    """The newest calibration of each column."""
    names = [task.name for task in job.columns]
    mine = (F.col("target") == job.target_place.text) & F.col("column").isin(names)
    rows = store.read(spark, "calibrations").where(mine).orderBy("fitted_at").collect()
    return {row["column"]: row for row in rows}


def _rule(spark: SparkSession, store: Store, job: EnrichJob, task: AnyTask, fingerprint: str, *, looks: bool) -> Rule:
    promise = job.accept_of(task)
    if not isinstance(promise, Promise):
        return plain_rule(job, task)
    frame = latest_frame(spark, store, job, task.name, fingerprint)
    if frame is None:
        told = f"{task.name}: nothing is promised yet, so that every answer waits in review; once they are there, "
        return Rule(thresholds={}, remarks=(told + "`burnish review sample` draws rows for people to judge",))
    labels = labelled(spark, store, frame)
    digest = _digest(labels)
    records = store.read(spark, "looks").where((F.col("frame") == frame.name) & (F.col("column") == task.name))
    known = records.orderBy(F.col("look").desc()).collect()
    mine = [row for row in known if row["promise"] == promise.text]
    last = mine[0] if mine else None
    if looks and labels and (last is None or last["labels"] != digest):
        found = look_at(frame, labels, promise, number=len(known) + 1)
        told = tell(task.name, frame, found, promise)
        _record(spark, store, frame, promise, found, digest, told)
        return _ruled(spark, store, frame, found.thresholds, told, promise)
    if last is None:
        drawn = "no row of its frame is judged yet" if not labels else "the next run tests what was judged"
        return Rule(thresholds={}, remarks=(f"{task.name}: {drawn}; until then every answer waits in review",))
    more = "" if last["labels"] == digest else f"; {len(labels)} rows are judged now, which the next run tests"
    thresholds = dict(json.loads(last["thresholds"]))
    return _ruled(spark, store, frame, thresholds, last["told"] + more, promise)


def _ruled(
    spark: SparkSession,
    store: Store,
    frame: Frame,
    thresholds: dict[str | None, float],
    told: str,
    promise: Promise,
) -> Rule:
    return Rule(
        thresholds=thresholds,
        members=framed_keys(spark, store, frame.name, frame.column),
        holds_others=promise.carried == "review",
        frame_scores={threshold: rows for of, threshold, rows in frame.candidates if of is None},
        stops_on_drift=promise.on_drift == "stop",
        remarks=(told,),
    )


def labelled(spark: SparkSession, store: Store, frame: Frame) -> list[Labelled]:
    """The judged rows of a frame in the order of the draw, up to the first that nobody has judged.

    What was judged further on would be a choice of people's, and no draw.
    """
    rows = store.read(spark, "review").where((F.col("frame") == frame.name) & (F.col("column") == frame.column))
    found: list[Labelled] = []
    for row in rows.orderBy("place").select("score", "value", "verdict").collect():
        if row["verdict"] is None:
            break
        value = json.loads(row["value"]) if row["value"] is not None else None
        found.append(Labelled(row["score"], value if isinstance(value, str) else None, row["verdict"] == RIGHT))
    return found


def look_at(frame: Frame, labels: Sequence[Labelled], promise: Promise, *, number: int) -> Look:
    """Test a frame's candidates against what people said."""
    level = level_of_look(promise.assurance, number)
    groups: dict[str | None, list[Candidate]] = {}
    for of, threshold, rows in frame.candidates:
        if (of is not None) == promise.per_label:
            above = [one.right for one in labels if one.score >= threshold and of in (None, one.label)]
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
        return f"{column}: {promise.text} holds for {len(written)} of {len(look.verdicts)} labels, {of}"
    if written:
        (one,) = written.values()
        judged = f"{one.right} of {one.labelled} judged ones right"
        return f"{column}: {promise.text} holds from score {one.threshold:.4g} on, {of} ({judged})"
    told = f"{column}: no threshold proves {promise.text} with {look.labelled} judged rows; all answers wait in review."
    if promise.per_label:
        needed = labels_needed(promise.precision, look.level)
        return f"{told} A label needs {needed} judged rows without a mistake above its threshold"
    return told + _what_would(look, promise, frame)


def _what_would(look: Look, promise: Promise, frame: Frame) -> str:
    """The best that could be promised, and what it would take to promise what was asked."""
    verdict = look.verdicts.get(None)
    best = verdict.best() if verdict is not None else None
    if verdict is None or best is None or not best[1]:
        return f" At least {labels_needed(promise.precision, look.level)} judged rows above a threshold are needed"
    one, precision = best
    told = f" The best that could be promised is {precision:.3f}, for {one.rows / frame.rows:.0%} of the rows"
    missing = verdict.labels_missing()
    if missing is None:
        return told + "; no threshold was right often enough for more, however many are judged"
    return told + f"; about {missing} more judged rows would do, were they right as often"


def _record(
    spark: SparkSession, store: Store, frame: Frame, promise: Promise, look: Look, digest: str, told: str
) -> None:
    row: dict[str, Any] = {
        "frame": frame.name,
        "column": frame.column,
        "look": look.number,
        "promise": promise.text,
        "labels": digest,
        "labelled": look.labelled,
        "thresholds": json.dumps(list(look.thresholds.items()), ensure_ascii=False),
        "told": told,
        "looked_at": datetime.now(UTC),
    }
    frame_ = spark.createDataFrame([tuple(row[name] for name in LOOKS)], ddl(LOOKS))
    lake.append(frame_.coalesce(1), store.place("looks"))


def _digest(labels: Sequence[Labelled]) -> str:
    return hashlib.sha256(json.dumps([asdict(one) for one in labels]).encode()).hexdigest()
