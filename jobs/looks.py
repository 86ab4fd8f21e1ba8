"""Looks at a frame: when the labels so far are tested, what was found on record, and the rules that follow."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.acceptance import Rule, plain_rule
from jobs.calibration import Calibration, Curve
from jobs.chosen import identity, is_same_question
from jobs.draws import ORDER, drawn_rows
from jobs.frames import Frame, framed_rows, frames_of, members_of, standing_frames
from jobs.people import columns_spoken_of, is_allowed, people_said
from jobs.proof import PURGED, Labelled, Look, judged_row, look_at, tell
from jobs.store import Store
from schemas.accept import Promise
from schemas.job import EnrichJob
from schemas.tables import LOOKS

JUDGED = ("place", "key", "score", "value", "verdict", "correction")


def rules_of(
    spark: SparkSession, store: Store, job: EnrichJob, fingerprints: dict[str, str], *, looks: bool
) -> dict[str, Rule]:
    """What each column's answers need now.

    Args:
        looks: test what has not been tested yet and put it on record; else the last test stands.
    """
    scored_as = {task.name: identity(fingerprints[task.name], task) for task in job.columns}
    promises = {task.name: one for task in job.columns if isinstance(one := job.accept_of(task), Promise)}
    frames = frames_of(spark, store, job, {name: scored_as[name] for name in promises})
    closed = {name: [one for one in listed if not one.is_open] for name, listed in frames.items()}
    books = _Books.opened(spark, store, closed)
    found = {name: _rule(books, name, closed[name], promise, looks=looks) for name, promise in promises.items()}
    found = {task.name: found.get(task.name) or plain_rule(job, task) for task in job.columns}
    for name, refused in columns_spoken_of(spark, store, job).items():
        task = job.task(name)
        people = people_said(spark, store, job, task).where(is_allowed(task))
        found[name] = replace(found[name], people=people, spreads=job.review.spread)
        if refused:
            told = f"{name}: {refused} answers that people gave are none of the labels now, or lack a field"
            told += ", and are not written"
            found[name] = replace(found[name], remarks=(*found[name].remarks, told))
    for name, row in _calibrations(spark, store, job, scored_as).items():
        rule, rows, calibration = found[name], row["rows"], None
        if row["fingerprint"] == scored_as[name]:
            curves = {label: Curve(kind, tuple(numbers)) for label, kind, numbers in json.loads(row["curves"])}
            told = f"{name}: confidences are calibrated on {rows:,} judged rows"
            calibration = Calibration(name, curves, rows)
        else:
            is_asked = is_same_question(row["fingerprint"], scored_as[name])
            other = "score" if is_asked else "model, prompt or label set"
            told = f"{name}: its calibration was made for another {other} and is not used; make a new one"
        found[name] = replace(rule, calibration=calibration, remarks=(*rule.remarks, told))
    return found


def _calibrations(spark: SparkSession, store: Store, job: EnrichJob, scored_as: dict[str, str]) -> dict[str, Row]:
    """The newest calibration of each column as it is asked and scored now; where there is none, the newest of all."""
    names = [task.name for task in job.columns]
    mine = (F.col("target") == job.target_place.text) & F.col("column").isin(names)
    rows = sorted(store.read(spark, "calibrations").where(mine).collect(), key=lambda row: row["fitted_at"])
    fitting = [row for row in rows if row["fingerprint"] == scored_as[row["column"]]]
    return {row["column"]: row for row in (*rows, *fitting)}


@dataclass(frozen=True)
class _Books:
    """What the store holds of the columns' frames, each table read once for all of them.

    Attributes:
        looks: at each frame, the newest first.
        drawn: the rows of each frame that `labelled` will ask for, in any order.
    """

    spark: SparkSession
    store: Store
    looks: Mapping[str, Sequence[Row]]
    drawn: Mapping[str, Sequence[Row]]

    @classmethod
    def opened(cls, spark: SparkSession, store: Store, frames: Mapping[str, Sequence[Frame]]) -> "_Books":
        known = [one for listed in frames.values() for one in listed]
        looks: dict[str, list[Row]] = {name: [] for one in known for name in (one.name, *one.before)}
        if not looks:
            return cls(spark, store, {}, {})
        mine = F.col("frame").isin(*looks) & F.col("column").isin(*frames)
        for row in sorted(store.read(spark, "looks").where(mine).collect(), key=lambda row: row["look"], reverse=True):
            looks[row["frame"]].append(row)
        # one before the last that began anew is seldom asked for
        asked_for = [one for listed in frames.values() for one in standing_frames(listed) if one.sample is None]
        drawn: dict[str, list[Row]] = {one.name: [] for one in asked_for}
        if asked_for:
            for row in drawn_rows(spark, store, asked_for).select("frame", *JUDGED).collect():
                drawn[row["frame"]].append(row)
        return cls(spark, store, looks, drawn)


def _rule(books: _Books, column: str, frames: Sequence[Frame], promise: Promise, *, looks: bool) -> Rule:
    if not frames:
        told = f"{column}: nothing is promised yet, so that every answer waits in review; once they are there, "
        return Rule(thresholds={}, remarks=(told + "`burnish review sample` draws rows for people to judge",))
    counting: list[Standing] = []
    waiting: list[Standing] = []
    for frame in reversed(frames):
        one = _standing(books, frame, promise, looks=looks)
        (counting if one.counts else waiting).append(one)
        if one.counts and frame.since is None:
            break
    if not counting:
        return Rule(thresholds={}, remarks=(waiting[0].told,))
    return _ruled(books.spark, books.store, counting[::-1], waiting[::-1], promise)


@dataclass(frozen=True)
class Standing:
    """Where a frame stands: what its last look proved, and whether that is what its rows go by.

    A frame counts once something is proved, or all that was drawn is judged. Until then its rows are written as those
    outside all frames are: who opens a new frame takes nothing away by that.
    """

    frame: Frame
    thresholds: dict[str | None, float]
    counts: bool
    told: str

    @property
    def share(self) -> float:
        """The part of the frame's rows that the thresholds let through."""
        through = sum(rows for of, least, rows in self.frame.candidates if self.thresholds.get(of) == least)
        return through / max(1, self.frame.rows)


def _standing(books: _Books, frame: Frame, promise: Promise, *, looks: bool) -> Standing:
    labels, is_judged = labelled(books, frame)
    known = books.looks[frame.name]
    digest = _digest(labels)
    last = next((row for row in known if row["promise"] == promise.text), None)
    if looks and labels and (last is None or last["labels"] != digest):
        found = look_at(frame, labels, promise, number=len(known) + _tries_before(books, frame, promise) + 1)
        told = tell(frame.column, frame, found, promise)
        _record(books, frame, promise, found, digest, told)
        return Standing(frame, found.thresholds, bool(found.thresholds) or is_judged, told)
    if last is None:
        drawn = "no row of its frame is judged yet" if not labels else "the next run tests what was judged"
        told = f"{frame.column}: {drawn}; until then every answer waits in review"
        return Standing(frame, {}, counts=False, told=told)
    more = "" if last["labels"] == digest else f"; {len(labels)} rows are judged now, which the next run tests"
    thresholds = dict(json.loads(last["thresholds"]))
    return Standing(frame, thresholds, bool(thresholds) or is_judged, last["told"] + more)


def _tries_before(books: _Books, frame: Frame, promise: Promise) -> int:
    """Looks that were taken at frames before this one since such a promise was last proved.

    Who opens one frame after the other until something is proved takes one more look each time, and no first one.
    """
    tries = 0
    for name in reversed(frame.before):
        for row in books.looks[name]:
            if row["promise"] == promise.text and json.loads(row["thresholds"]):
                return tries
            tries += 1
    return tries


def _ruled(
    spark: SparkSession, store: Store, counting: Sequence[Standing], waiting: Sequence[Standing], promise: Promise
) -> Rule:
    *earlier, newest = counting
    of = [f" (rows after version {one.frame.since})" if one.frame.since is not None else "" for one in counting]
    later = [
        f"{one.frame.column}: the frame of {one.frame.rows:,} rows opened at version {one.frame.version} proves "
        "nothing yet; until its drawn rows are judged, its rows go by the frame before it"
        for one in waiting
    ]
    return Rule(
        thresholds=newest.thresholds,
        earlier=tuple(one.thresholds for one in earlier),
        members=members_of(spark, store, [one.frame for one in counting]),
        holds_others=promise.carried == "review",
        frame_scores={threshold: rows for label, threshold, rows in newest.frame.candidates if label is None},
        share=newest.share,
        stops_on_drift=promise.on_drift == "stop",
        remarks=(*later, *(one.told + which for one, which in zip(counting, of, strict=True))),
    )


def labelled(books: _Books, frame: Frame) -> tuple[list[Labelled], bool]:
    """The judged rows of a frame in the order of the draw, and whether all that count are judged.

    They end at the first row that nobody has judged: what was judged further on would be a choice of people's, and no
    draw. Of a frame that filled night by night, the sample counts as a whole or not at all: which of its rows were
    drawn early hangs on the night that brought them. Drawn rows that were purged since count as mistakes.
    """
    found_rows = books.drawn.get(frame.name)
    mine = drawn_rows(books.spark, books.store, [frame]).select(*JUDGED)
    if frame.sample is None:
        found_rows = mine.collect() if found_rows is None else found_rows
    else:
        first = framed_rows(books.spark, books.store, [frame], frame.column).orderBy(*ORDER).limit(frame.sample)
        found_rows = first.select(*ORDER).join(mine.drop("place"), "key", "left").collect()
    rows = sorted(found_rows, key=lambda row: row["place"])
    judged = list(itertools.takewhile(lambda row: row["verdict"] is not None, rows))
    found = [judged_row(row) for row in judged]
    is_judged = len(judged) == len(rows) > 0
    if frame.sample is None:
        return found + [PURGED] * (judged[-1]["place"] - len(judged) if judged else 0), is_judged
    if not is_judged:
        return [], False
    counted = mine.agg(F.max("place").alias("last"), F.count("*").alias("rows")).collect()[0]
    return found + [PURGED] * (counted["last"] - counted["rows"]), True


def _record(books: _Books, frame: Frame, promise: Promise, look: Look, digest: str, told: str) -> None:
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
    books.store.append(lake.rows_of(books.spark, [row], LOOKS), "looks")


def _digest(labels: Sequence[Labelled]) -> str:
    return hashlib.sha256(json.dumps([asdict(one) for one in labels]).encode()).hexdigest()
