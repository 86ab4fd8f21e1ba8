"""`burnish review`: rows drawn from a frame, and what people say of the model's answers to them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.draws import draw, drawn_rows
from jobs.frames import Frame, framed_rows, frames_of, latest_frame, open_frame, standing_frames
from jobs.lapsed import MOST_LISTED, lapsed
from jobs.people import RIGHT, is_found_right
from jobs.prepare import Opened, open_job
from jobs.scores import read_value
from schemas.accept import Promise
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tables import REVIEW
from schemas.tasks import AnyTask

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line ends
SKIPPED = "skip"
VERDICTS = (RIGHT, "no", SKIPPED)
MOST_SHOWN = 20  # of the rows about which what people said has lapsed; JSON lists more
COUNTS = ("drawn", "judged", "skipped", "open", "right")
MOST_STRANGERS = 5


@dataclass(frozen=True)
class Said:
    """What somebody says of one drawn row; a correction is a value as JSON."""

    frame: str
    column: str
    place: int
    verdict: str
    correction: str | None = None


@dataclass(frozen=True)
class Reviewed:
    """Where the review of each column stands: drawn rows, judged ones, skipped ones among these, and open ones.

    Attributes:
        columns: about each column's newest frame that can be looked at; under `others` the same about those that stand
            beside it, and about the one that still fills. How many were `right` is told once all are judged, and None
            before: who watches that number can stop when it looks well, for which no bound allows.
        lapsed: by column, rows of which somebody said something before their inputs changed.
        version: of the review table, as `examples: {reviewed: …}` takes it.
    """

    columns: dict[str, dict[str, Any]]
    lapsed: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {"columns": self.columns, "lapsed": self.lapsed, "review_version": self.version}

    def render(self) -> Group:
        """Return the facts for a terminal."""
        told = [] if self.version is None else [f"the review table is at version {self.version}"]
        counted = [one for newest in self.columns.values() for one in (newest, *newest["others"])]
        if any(one["right"] is None for one in counted):
            told.append("how many are right is told of a frame once all that is drawn of it is judged")
        for name, one in self.lapsed.items():
            told.append(f"{name}: what people said of {one['rows']:,} rows holds no more, since their inputs changed:")
            shown = one["some"][:MOST_SHOWN]
            told += [f"  {row['key']}: {row['said']}" for row in shown]
            if more := one["rows"] - len(shown):
                told.append(f"  and {more:,} more; --json lists up to {MOST_LISTED:,}")
        return Group(self._table(), *(Text(printable(line)) for line in told))

    def _table(self) -> Table:
        table = Table()
        for heading in ("column", "frame", "of version", "its rows", *COUNTS):
            table.add_column(heading, justify="left" if heading in ("column", "frame", "its rows") else "right")
        for name, newest in self.columns.items():
            for one in (newest, *newest["others"]):
                after = "" if one["since"] is None else f" after version {one['since']}"
                filling = f", of which {one['sample']:,} are to be drawn" if one["is_open"] else ""
                counts = ("" if one[count] is None else f"{one[count]:,}" for count in COUNTS)
                table.add_row(name, one["frame"], f"{one['version']}", f"{one['rows']:,}{after}{filling}", *counts)
        return table


def sample(
    spark: SparkSession,
    job: EnrichJob,
    *,
    rows: int,
    columns: Sequence[str] = (),
    new_frame: bool = False,
    since: int | None = None,
) -> Reviewed:
    """Draw rows of each column's newest frame for people to judge; the first draw opens the first one.

    Args:
        columns: those to judge; by default those about which something is promised, or all where nothing is.
        new_frame: open another frame over the newest version, which knows nothing of earlier verdicts.
        since: open another frame of just the rows that came or changed after this version of the target and are in no
            frame yet; the older frames stand beside it. A frame that `review.top_up` was filling is given up.

    Raises:
        DataContractError: a column has no answers with a score, or the version cannot be read.
        JobFileError: `columns` names one that the job does not write, or both ways to a new frame are asked for.
    """
    if new_frame and since is not None:
        raise JobFileError(
            "--new-frame begins anew with all rows, --since adds a frame of the later ones: give one of them"
        )
    opened = open_job(spark, job, options=RunOptions())
    known = {} if new_frame or since is not None else newest_frames(spark, opened)
    chosen = _chosen(opened, columns)
    for at, task in enumerate(opened.tasks):
        if task.name in chosen:
            cells = opened.cells.alone(at)
            frame = known.get(task.name) or open_frame(spark, cells, opened.store, since=since)
            draw(spark, cells, opened.store, frame, rows=rows)
    return standing(spark, opened)


def _chosen(opened: Opened, columns: Sequence[str]) -> tuple[str, ...]:
    names = [task.name for task in opened.tasks]
    if unknown := sorted(set(columns) - set(names)):
        raise JobFileError(f"--column names {', '.join(unknown)}; this job writes {', '.join(names)}")
    promised = [task.name for task in opened.tasks if isinstance(opened.job.accept_of(task), Promise)]
    return tuple(columns or promised or names)


def newest_frames(spark: SparkSession, opened: Opened) -> dict[str, Frame]:
    """Each column's newest frame, where it has one."""
    found = {name: latest_frame(frames) for name, frames in _frames_of(spark, opened).items()}
    return {name: frame for name, frame in found.items() if frame is not None}


def _frames_of(spark: SparkSession, opened: Opened) -> dict[str, tuple[Frame, ...]]:
    scored_as = {task.name: opened.cells.scored_as(task.name) for task in opened.tasks}
    return frames_of(spark, opened.store, opened.job, scored_as)


def standing(spark: SparkSession, opened: Opened) -> Reviewed:
    """Count what of each column's frames is drawn and judged."""
    found: dict[str, dict[str, Any]] = {}
    known = _frames_to_judge(spark, opened)
    counted = _counts(spark, opened, [one for frames in known.values() for one in frames]) if known else {}
    for name, frames in known.items():
        *older, newest = [one for one in frames if not one.is_open]
        others = (*(one for one in frames if one.is_open), *reversed(older))
        found[name] = counted[newest.name] | {"others": [counted[one.name] for one in others]}
    return Reviewed(found)


def review_status(spark: SparkSession, job: EnrichJob) -> Reviewed:
    """Count what is drawn and judged, and list what people said that holds no more."""
    opened = open_job(spark, job, options=RunOptions())
    place = opened.store.place("review")
    version = lake.latest_version(spark, place) if lake.exists(spark, place) else None
    return replace(standing(spark, opened), lapsed=lapsed(opened), version=version)


def _frames_to_judge(spark: SparkSession, opened: Opened) -> dict[str, tuple[Frame, ...]]:
    """Each column's frames since it last began anew, where it has some."""
    known = {name: standing_frames(frames) for name, frames in _frames_of(spark, opened).items()}
    return {name: frames for name, frames in known.items() if frames}


def _counts(spark: SparkSession, opened: Opened, frames: Sequence[Frame]) -> dict[str, dict[str, Any]]:
    rows = drawn_rows(spark, opened.store, frames).groupBy("frame")
    counts = {
        row["frame"]: row.asDict()
        for row in rows.agg(
            F.count("*").alias("drawn"),
            F.count("verdict").alias("judged"),
            F.count_if(F.col("verdict") == SKIPPED).alias("skipped"),
            F.count_if(is_found_right()).alias("right"),
        ).collect()
    }
    found = {}
    for one in frames:
        held = framed_rows(spark, opened.store, [one], one.column).count() if one.is_open else one.rows
        facts = {"frame": one.name, "version": one.version, "since": one.since, "rows": held, "is_open": one.is_open}
        known = counts.get(one.name, {"drawn": 0, "judged": 0, "skipped": 0, "right": 0})
        left = known["drawn"] - known["judged"]
        right = None if left or one.is_open else known["right"]
        found[one.name] = facts | {"sample": one.sample} | known | {"open": left, "right": right}
    return found


def open_rows(spark: SparkSession, opened: Opened) -> list[dict[str, Any]]:
    """The drawn rows that nobody has judged, in the order of the draw."""
    frames = [one for frames in _frames_to_judge(spark, opened).values() for one in frames]
    rows = drawn_rows(spark, opened.store, frames).where(F.col("verdict").isNull())
    return [row.asDict() for row in rows.orderBy("place", "column", "frame").collect()]


def printable(text: str) -> str:
    """A text without control characters: in a terminal they would be commands."""
    return CONTROL.sub("\ufffd", text)


def shown(task: AnyTask, row: Mapping[str, Any]) -> tuple[str, str]:
    """A drawn row's inputs and the model's answer, as texts for a person."""
    texts = row["inputs"] or ["(changed since it was drawn)"] * len(task.inputs)
    inputs = "\n".join(f"{name}: {'' if text is None else text}" for name, text in zip(task.inputs, texts, strict=True))
    value = read_value(row["value"])
    answer = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(inputs), printable(answer)


def apply(spark: SparkSession, opened: Opened, said: Sequence[Said], *, reviewer: str) -> None:
    """Write verdicts into the review table; a later one replaces an earlier one.

    Raises:
        DataContractError: a verdict is about a row that was never drawn.
    """
    if not said:
        return
    now = datetime.now(UTC)
    fields = ("frame", "column", "place", "verdict", "correction", "reviewer", "reviewed_at")
    given = [{**asdict(one), "reviewer": reviewer, "reviewed_at": now} for one in said]
    frame = lake.rows_of(spark, given, {name: REVIEW[name] for name in fields})
    frame = frame.dropDuplicates(["frame", "column", "place"])
    place = opened.store.place("review")
    same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in ("frame", "column", "place"))
    known = opened.store.read(spark, "review")
    strangers = frame.join(known, ["frame", "column", "place"], "left_anti").orderBy("column", "frame", "place")
    if some := strangers.limit(MOST_STRANGERS).collect():
        named = "; ".join(f"{row['column']}, frame {row['frame'][:40]!r}, place {row['place']}" for row in some)
        told = f"{strangers.count()} verdicts are about rows that {place.text} does not hold"
        raise DataContractError(
            f"nothing was applied: {told}: {named}",
            hint="they were drawn elsewhere or purged since; take them out",
        )
    updates = {f"`{name}`": F.col(f"s.{name}") for name in fields[3:]}
    merge = lake.delta_table(spark, place).alias("t").merge(frame.alias("s"), same)
    lake.patiently(lambda: merge.whenMatchedUpdate(set=dict(updates)).execute(), what=place.text)
