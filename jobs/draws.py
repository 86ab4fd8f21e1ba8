"""Draws: which rows of a frame people are to judge, in the order that the frame's secret gave them.

Cells are here those of the frame's column alone, at place 0.
"""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.cells import CellFrame, asked_question, input_texts, inputs_hash
from jobs.frames import Frame, framed_rows, outside, record
from jobs.store import Store, answers_by_question
from schemas.tables import REVIEW

ORDER = ("place", "key")  # of a frame's rows
_TEXTS = ("frame", "column", "key", "question_id")
DRAWN = pa.schema([*((name, pa.string()) for name in _TEXTS), ("place", pa.int64()), ("score", pa.float64())])


def draw(spark: SparkSession, cells: CellFrame, store: Store, frame: Frame, *, rows: int) -> None:
    """Draw so many more rows of a frame into the review table."""
    if frame.sample is None:
        wanted = undrawn(spark, store, frame).orderBy(*ORDER).limit(rows)
        put(spark, cells, store, wanted, frame, most=rows)
        return
    larger = replace(frame, sample=min(frame.sample + rows, frame.rows))
    record(spark, cells, store, larger)
    complete(spark, cells, store, larger)


def complete(spark: SparkSession, cells: CellFrame, store: Store, frame: Frame) -> int:
    """Draw what is missing of the sample of a frame that filled night by night, its first rows; return how many."""
    most = frame.sample or 0
    first = framed_rows(spark, store, [frame], frame.column).orderBy(*ORDER).limit(most)
    wanted = outside(first, drawn_rows(spark, store, [frame]), by=["key"])
    new, _ = put(spark, cells, store, wanted, frame, most=most)
    return new


def undrawn(spark: SparkSession, store: Store, frame: Frame) -> DataFrame:
    """A frame's rows that are not in the review table."""
    framed = framed_rows(spark, store, [frame], frame.column)
    return outside(framed, drawn_rows(spark, store, [frame]), by=["key"])


def drawn_rows(spark: SparkSession, store: Store, frames: Sequence[Frame]) -> DataFrame:
    """What of one column's frames is in the review table."""
    names, columns = {one.name for one in frames}, {one.column for one in frames}
    return store.read(spark, "review").where(F.col("frame").isin(*names) & F.col("column").isin(*columns))


def put(
    spark: SparkSession, cells: CellFrame, store: Store, wanted: DataFrame, frame: Frame, *, most: int
) -> tuple[int, int]:
    """Append rows of a frame, `most` of them, to the review table with what people need to see.

    Returns how many these are, and how many of the frame are drawn now.
    """
    rows = wanted.select(*DRAWN.names).collect()
    drawn = drawn_rows(spark, store, [frame])
    before = drawn.agg(F.max("place").alias("last"), F.count("*").alias("rows")).collect()[0]
    if not rows:
        return 0, int(before["rows"])
    numbered = [
        {**row.asDict(), "place": nth}
        for nth, row in enumerate(sorted(rows, key=lambda row: row["place"]), (before["last"] or 0) + 1)
    ]
    # what people are to read is looked up for these few alone, and never comes to the driver
    few = spark.createDataFrame(pa.Table.from_pylist(numbered, DRAWN))
    fingerprints = [cells.fingerprints[frame.column]]
    answers = answers_by_question(spark, store, fingerprints, wanted=few, cells=most).select("question_id", "value")
    # a row that was changed since keeps its place in the draw, without its text
    found = (
        few.join(answers, "question_id", "left")
        .join(_shown(cells, few), ["key", "question_id"], "left")
        .select(
            "frame",
            F.lit(cells.scope.job.target_place.text).alias("target"),
            "column",
            "place",
            "key",
            "question_id",
            "inputs_hash",
            "inputs",
            "value",
            "score",
            *[F.lit(None).cast(REVIEW[name]).alias(name) for name in ("verdict", "correction", "reviewer")],
            F.lit(None).cast("timestamp").alias("reviewed_at"),
        )
    )
    # two who draw at once must not give one number to two rows, nor draw a row twice
    same = f"t.frame = '{frame.name}' AND t.frame = s.frame AND t.`column` = s.`column`"
    taken = f"{same} AND (t.place = s.place OR t.key = s.key)"
    store.insert_new(found.coalesce(1), "review", unless=taken)
    now = drawn_rows(spark, store, [frame]).count()
    return now - int(before["rows"]), now


def _shown(cells: CellFrame, few: DataFrame) -> DataFrame:
    """The inputs of a few rows as they stand now, by key and question."""
    shown = cells.rows.select(
        lake.key_json(cells.scope.job.key).alias("key"),
        asked_question(cells).alias("question_id"),
        input_texts(cells).alias("inputs"),
        inputs_hash(cells).alias("inputs_hash"),
    )
    return shown.join(F.broadcast(few.select("key", "question_id")), ["key", "question_id"], "left_semi")
