"""Frames: the scored rows of one version of a table, about which a promise is made, and what is drawn from them."""

import json
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs import lake
from jobs.cells import CellFrame, asked_question, input_texts, inputs_hash, proposed_text
from jobs.promise import MOST_CANDIDATES
from jobs.store import Store, answers_by_question
from schemas.errors import DataContractError
from schemas.job import EnrichJob
from schemas.tables import FRAMED, FRAMES, REVIEW, ddl
from schemas.tasks import has_labels

SCORED_STATES = ("done:accepted", "done:unchanged", "done:review", "redecide")
MOST_LABELS = 200  # that get candidates of their own
QUANTILE_ACCURACY = 100_000


@dataclass(frozen=True)
class Frame:
    """One column's frame; candidates are (label or None for all, threshold, rows that score at least so much)."""

    name: str
    column: str
    version: int
    rows: int
    candidates: tuple[tuple[str | None, float, int], ...]


def latest_frame(spark: SparkSession, store: Store, job: EnrichJob, column: str, fingerprint: str) -> Frame | None:
    """The newest frame of a column as it is asked now; None where the model's scores were never framed."""
    mine = store.read(spark, "frames").where(
        (F.col("target") == job.target_place.text) & (F.col("column") == column) & (F.col("fingerprint") == fingerprint)
    )
    row = mine.orderBy(F.col("opened_at").desc()).first()
    if row is None:
        return None
    candidates = tuple((label, threshold, rows) for label, threshold, rows in json.loads(row["candidates"]))
    return Frame(row["frame"], column, row["version"], row["rows"], candidates)


def open_frame(spark: SparkSession, cells: CellFrame, store: Store, at: int) -> Frame:
    """Freeze the scored rows of one column, in the order in which they will be drawn.

    Raises:
        DataContractError: no row has an answer with a score.
    """
    job, task = cells.scope.job, cells.scope.tasks[at]
    name, seed = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}", secrets.token_hex(16)
    scored = cells.rows.where(F.col(f"_state{at}").isin(*SCORED_STATES) & F.col(f"_raw_score{at}").isNotNull())
    key = lake.key_json(job.key)
    rows = scored.select(
        F.lit(name).alias("frame"),
        F.lit(task.name).alias("column"),
        key.alias("key"),
        asked_question(cells, at).alias("question_id"),
        F.col(f"_raw_score{at}").alias("score"),
        (proposed_text(cells, at) if has_labels(task) else F.lit(None).cast("string")).alias("label"),
        # a secret of this frame orders the rows: nobody can know beforehand which will be drawn
        F.sha2(F.concat(F.lit(seed), key), 256).alias("place"),
    )
    store.create(spark, promises=True)
    lake.append(rows.select(*FRAMED), store.place("framed"))
    framed = _framed(spark, store, name, task.name)
    count = framed.count()
    if not count:
        raise DataContractError(
            f"no row of {job.target_place.text} has an answer of {task.name} with a score",
            hint="`burnish run` first: a promise is about answers that are there",
        )
    found = Frame(name, task.name, cells.scope.version, count, _candidates(framed, by_label=has_labels(task)))
    header = {
        "frame": name,
        "target": job.target_place.text,
        "column": task.name,
        "fingerprint": cells.fingerprints[task.name],
        "version": found.version,
        "rows": count,
        "candidates": json.dumps(found.candidates, ensure_ascii=False),
        "opened_at": datetime.now(UTC),
    }
    frame = spark.createDataFrame([tuple(header[field] for field in FRAMES)], ddl(FRAMES))
    lake.append(frame.coalesce(1), store.place("frames"))
    return found


def draw(spark: SparkSession, cells: CellFrame, store: Store, frame: Frame, at: int, *, rows: int) -> int:
    """Draw so many more rows of a frame into the review table; return how many there were left to draw."""
    review = store.read(spark, "review").where((F.col("frame") == frame.name) & (F.col("column") == frame.column))
    drawn = review.count()
    order = Window.partitionBy("frame").orderBy("place", "key")
    ranked = _framed(spark, store, frame.name, frame.column).orderBy("place", "key").limit(drawn + rows)
    wanted = ranked.withColumn("nth", F.row_number().over(order)).where(F.col("nth") > drawn)
    answers = answers_by_question(spark, store, [cells.fingerprints[frame.column]], wanted=wanted, cells=rows).select(
        "question_id", "value"
    )
    # a row that was changed since keeps its place in the draw, without its text
    shown = cells.rows.select(
        lake.key_json(cells.scope.job.key).alias("key"),
        asked_question(cells, at).alias("question_id"),
        input_texts(cells, at).alias("inputs"),
        inputs_hash(cells, at).alias("inputs_hash"),
    )
    found = (
        wanted.join(answers, "question_id")
        .join(shown, ["key", "question_id"], "left")
        .select(
            "frame",
            F.lit(cells.scope.job.target_place.text).alias("target"),
            "column",
            F.col("nth").alias("place"),
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
    typed = [F.col(name).cast(kind).alias(name) for name, kind in REVIEW.items()]
    before = review.count()
    lake.append(found.select(*typed).coalesce(1), store.place("review"))
    return store.read(spark, "review").where(F.col("frame") == frame.name).count() - before


def framed_keys(spark: SparkSession, store: Store, frame: str, column: str) -> DataFrame:
    """The keys and questions of a frame's rows."""
    return _framed(spark, store, frame, column).select("key", "question_id")


def _framed(spark: SparkSession, store: Store, frame: str, column: str) -> DataFrame:
    return store.read(spark, "framed").where((F.col("frame") == frame) & (F.col("column") == column))


def _candidates(framed: DataFrame, *, by_label: bool) -> tuple[tuple[str | None, float, int], ...]:
    """At most so many quantiles of the scores, of all rows and of each label's, with the rows that reach them."""
    shares = [step / MOST_CANDIDATES for step in range(MOST_CANDIDATES)]
    quantiles = F.percentile_approx("score", shares, QUANTILE_ACCURACY).alias("thresholds")
    whole = framed.agg(quantiles).withColumn("of", F.lit(None).cast("string"))
    if by_label:
        common = framed.where(F.col("label").isNotNull()).groupBy(F.col("label").alias("of"))
        whole = whole.unionByName(
            common.agg(quantiles, F.count("*").alias("n")).orderBy(F.col("n").desc()).limit(MOST_LABELS).drop("n")
        )
    each = whole.select("of", F.explode(F.array_distinct("thresholds")).alias("threshold"))
    reached = (F.col("score") >= F.col("threshold")) & (F.col("of").isNull() | (F.col("of") == F.col("label")))
    counts = framed.join(F.broadcast(each), reached).groupBy("of", "threshold").count().orderBy("of", "threshold")
    return tuple((row["of"], row["threshold"], int(row["count"])) for row in counts.collect())
