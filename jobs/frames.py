"""Frames: the scored rows of a table about which a promise is made, in the order in which they are drawn.

The first frame of a column holds all scored rows. A later one may hold just those that came or changed since some
version of the table and are in no frame yet: each frame makes its own promise, by its own draw, and no row is in two of
them. A frame over all rows begins anew; once it counts, those before it do not.
"""

import json
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.cells import CellFrame, asked_question, proposed_text
from jobs.chosen import is_by_choice, is_same_question
from jobs.exemplars import unknown_to_model
from jobs.promise import MOST_CANDIDATES
from jobs.store import Store
from schemas.errors import DataContractError
from schemas.job import EnrichJob
from schemas.tables import FRAMES
from schemas.tasks import has_labels

SCORED_STATES = ("done:accepted", "done:unchanged", "done:review", "redecide")
MOST_LABELS = 200  # that get candidates of their own
QUANTILE_ACCURACY = 100_000


@dataclass(frozen=True)
class Frame:
    """One column's frame; candidates are (label or None for all, threshold, rows that score at least so much).

    Attributes:
        since: the version after which its rows came or changed; None where it holds all rows.
        seed: what orders its rows; kept of a frame that fills, or filled, night by night, or was given one.
        sample: how many rows of such a frame are looked at together, the first in the order of the draw.
        is_open: it still fills, and has no candidates yet.
        before: of one over all rows, the names of the frames that were opened before it on answers to the same
            questions, whichever score was chosen, the oldest first.
    """

    name: str
    column: str
    version: int
    rows: int
    candidates: tuple[tuple[str | None, float, int], ...]
    since: int | None = None
    seed: str | None = None
    sample: int | None = None
    is_open: bool = False
    before: tuple[str, ...] = ()


def frames_of(
    spark: SparkSession, store: Store, job: EnrichJob, scored_as: Mapping[str, str]
) -> dict[str, tuple[Frame, ...]]:
    """Columns' frames as they are asked and scored now, each column's oldest first.

    A frame that still fills is the last: when another one is opened, it is given up.

    Args:
        scored_as: what the scores of the columns are known by; others' frames are left out.
    """
    mine = (F.col("target") == job.target_place.text) & F.col("column").isin(*scored_as)
    rows = store.read(spark, "frames").where(mine).collect() if scored_as else []
    found: dict[str, dict[str, Frame]] = {column: {} for column in scored_as}
    opened: dict[str, list[str]] = {column: [] for column in scored_as}
    for row in sorted(rows, key=lambda row: row["opened_at"]):
        name, column = row["frame"], row["column"]
        if row["fingerprint"] == scored_as[column]:
            before = opened[column] if row["since"] is None else []
            frame = replace(_frame(row), before=tuple(one for one in before if one != name))
            found[column][name] = frame  # a later line of a frame takes its first one's place
        if is_same_question(row["fingerprint"], scored_as[column]) and name not in opened[column]:
            opened[column].append(name)
    listed = {column: tuple(frames.values()) for column, frames in found.items()}
    return {
        column: tuple(one for at, one in enumerate(frames, 1) if not one.is_open or at == len(frames))
        for column, frames in listed.items()
    }


def _frame(row: Row) -> Frame:
    candidates = tuple((label, threshold, rows) for label, threshold, rows in json.loads(row["candidates"] or "[]"))
    return Frame(
        row["frame"], row["column"], row["version"], row["rows"] or 0, candidates,
        since=row["since"], seed=row["seed"], sample=row["sample"], is_open=row["candidates"] is None,
    )  # fmt: skip


def latest_frame(frames: Sequence[Frame]) -> Frame | None:
    """The newest of a column's frames that can be looked at; None where the model's scores were never framed."""
    closed = [one for one in frames if not one.is_open]
    return closed[-1] if closed else None


def standing_frames(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Of a column's frames, those since it last began anew with all rows."""
    begins = max((at for at, one in enumerate(frames) if one.since is None), default=0)
    return tuple(frames[begins:])


def new_name() -> str:
    """A name for a frame."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


def new_seed() -> str:
    """A secret that orders a frame's rows: nobody can know beforehand which will be drawn."""
    return secrets.token_hex(16)


def open_frame(
    spark: SparkSession, cells: CellFrame, store: Store, *, since: int | None = None, seed: str | None = None
) -> Frame:
    """Freeze scored rows of one column in the order in which they will be drawn.

    Args:
        cells: of that column alone.
        since: only rows that came, changed or were answered after this version of the target and are in no frame yet;
            by default all.
        seed: orders the rows instead of a new secret, which alone keeps a draw from being foreseen.

    Raises:
        DataContractError: there is no such row, or the target has no such version any more.
    """
    job, (task,) = cells.scope.job, cells.scope.tasks
    found = Frame(new_name(), task.name, table_version(spark, cells), 0, (), since=since, seed=seed)
    rows = scored_rows(cells)
    if since is not None:
        frames = frames_of(spark, store, job, {task.name: cells.scored_as(task.name)})[task.name]
        rows = outside(rows, framed_rows(spark, store, [one for one in frames if not one.is_open], task.name))
        if since not in {one.version for one in frames if one.since is None}:
            rows = outside(rows, _held_at(spark, cells, since))
    freeze(rows, store, found)
    return close_frame(spark, cells, store, found)


def close_frame(spark: SparkSession, cells: CellFrame, store: Store, frame: Frame) -> Frame:
    """Put a frame on record whose rows are all there, with the thresholds that will be tested.

    Raises:
        DataContractError: it has no row.
    """
    job = cells.scope.job
    task = job.task(frame.column)
    candidates, rows = _candidates(framed_rows(spark, store, [frame], frame.column), by_label=has_labels(task))
    if not rows:
        raise DataContractError(
            f"no row of {job.target_place.text} has an answer of {task.name} with a score"
            + ("" if frame.since is None else f" that came after version {frame.since} and is in no frame yet"),
            hint="`burnish run` first: a promise is about answers that are there",
        )
    closed = Frame(
        frame.name, frame.column, table_version(spark, cells), rows, candidates,
        since=frame.since, seed=frame.seed, sample=frame.sample,
    )  # fmt: skip
    record(spark, cells, store, closed)
    return closed


def record(spark: SparkSession, cells: CellFrame, store: Store, frame: Frame) -> None:
    """Append a line about a frame; the newest one counts."""
    header: dict[str, Any] = {
        "frame": frame.name,
        "target": cells.scope.job.target_place.text,
        "column": frame.column,
        "fingerprint": cells.scored_as(frame.column),
        "version": frame.version,
        "rows": None if frame.is_open else frame.rows,
        "candidates": None if frame.is_open else json.dumps(frame.candidates, ensure_ascii=False),
        "opened_at": datetime.now(UTC),
        "since": frame.since,
        "seed": frame.seed,
        "sample": frame.sample,
    }
    # a store of an older version lacks the last columns
    store.append(lake.rows_of(spark, [header], FRAMES), "frames", options={"mergeSchema": "true"})


def table_version(spark: SparkSession, cells: CellFrame) -> int:
    """The version of the target that a scope's cells stand in."""
    job = cells.scope.job
    return cells.scope.version if job.is_in_place else lake.latest_version(spark, job.target_place)


def scored_rows(cells: CellFrame) -> DataFrame:
    """Rows of one column's cells whose answer has a score: key, question_id, score, label; none that a model knows."""
    (task,) = cells.scope.tasks
    # until a run has written the score that is chosen now, what stands there is another one
    is_scored = F.col("_raw_score0").isNotNull() & is_by_choice(task, F.col("_notes0"))
    scored = cells.rows.where(F.col("_state0").isin(*SCORED_STATES) & is_scored)
    return unknown_to_model(scored, cells).select(
        lake.key_json(cells.scope.job.key).alias("key"),
        asked_question(cells).alias("question_id"),
        F.col("_raw_score0").alias("score"),
        (proposed_text(cells) if has_labels(task) else F.lit(None).cast("string")).alias("label"),
    )


def freeze(rows: DataFrame, store: Store, frame: Frame, *, is_known: bool = False) -> None:
    """Write rows from `scored_rows` into a frame, each at its place in the draw; its seed is kept only if it fills.

    Args:
        is_known: the frame is on record, so that a run which overlaps with this one may fill it, too.
    """
    placed = rows.withColumns(
        {
            "frame": F.lit(frame.name),
            "column": F.lit(frame.column),
            "place": F.sha2(F.concat(F.lit(frame.seed or new_seed()), F.col("key")), 256),
        }
    )
    if is_known:
        same = f"t.frame = '{frame.name}' AND t.frame = s.frame AND t.`column` = s.`column` AND t.key = s.key"
        store.insert_new(placed, "framed", unless=same)
    else:
        store.append(placed, "framed")


def outside(rows: DataFrame, others: DataFrame, *, by: Iterable[str] = ("key", "question_id")) -> DataFrame:
    """Leave out the rows that are among others."""
    return rows.join(others.select(*by), list(by), "left_anti")


def _held_at(spark: SparkSession, cells: CellFrame, version: int) -> DataFrame:
    """The keys and questions of the cells that were answered in a version of the target.

    Raises:
        DataContractError: the target has no such version, or its files are gone.
    """
    job, (task,) = cells.scope.job, cells.scope.tasks
    place = job.target_place
    try:
        then = lake.read(spark, place, version=version)
        if f"{task.name}_meta" not in then.columns:
            return lake.rows_of(spark, [], {"key": "string", "question_id": "string"})
        meta = lake.col(f"{task.name}_meta")
        held = then.where(meta["raw_score"].isNotNull()).select(
            lake.key_json(job.key).alias("key"), meta["question_id"].alias("question_id")
        )
        held.agg(F.max("key")).collect()  # its files may be gone though its log is there
    except (AnalysisException, PySparkException) as problem:
        raise DataContractError(
            f"version {version} of {place.text} cannot be read (any more)",
            hint="`burnish review status` lists the frames: the version of one over all rows needs no reading",
        ) from problem
    return held


def framed_rows(spark: SparkSession, store: Store, frames: Sequence[Frame], column: str) -> DataFrame:
    """The rows of frames."""
    names = [one.name for one in frames]
    return store.read(spark, "framed").where(F.col("frame").isin(names) & (F.col("column") == column))


def members_of(spark: SparkSession, store: Store, frames: Sequence[Frame]) -> DataFrame:
    """The keys and questions of the rows of one column's frames, and which of these it is: `nth`, from 0 on."""
    nth = F.lit(None).cast("int")
    for at, one in enumerate(frames):
        nth = F.when(F.col("frame") == one.name, at).otherwise(nth)
    return framed_rows(spark, store, frames, frames[0].column).select("key", "question_id", nth.alias("nth"))


def _candidates(framed: DataFrame, *, by_label: bool) -> tuple[tuple[tuple[str | None, float, int], ...], int]:
    """At most so many quantiles of the scores, of all rows and of each label's, with the rows that reach them.

    Returns them, and how many rows there are.
    """
    shares = [step / MOST_CANDIDATES for step in range(MOST_CANDIDATES)]
    quantiles = F.percentile_approx("score", shares, QUANTILE_ACCURACY).alias("thresholds")
    number = F.count("*").alias("all")
    whole = framed.agg(quantiles, number).withColumn("of", F.lit(None).cast("string"))
    if by_label:
        common = framed.where(F.col("label").isNotNull()).groupBy(F.col("label").alias("of"))
        whole = whole.unionByName(common.agg(quantiles, number).orderBy(F.col("all").desc()).limit(MOST_LABELS))
    each = whole.select("of", "all", F.explode(F.array_distinct("thresholds")).alias("threshold"))
    reached = (F.col("score") >= F.col("threshold")) & (F.col("of").isNull() | (F.col("of") == F.col("label")))
    counts = framed.join(F.broadcast(each), reached).groupBy("of", "all", "threshold").count().collect()
    found = [(row["of"], row["threshold"], int(row["count"])) for row in counts]
    rows = next((int(row["all"]) for row in counts if row["of"] is None), 0)
    return tuple(sorted(found, key=lambda one: (one[0] or "", one[1]))), rows
