"""burnish's own Delta tables: questions, answers, changes, runs (and what later work adds)."""

import json
import posixpath
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs import lake
from schemas import tables
from schemas.errors import MAX_ATTEMPTS, PERMANENT_ROW_CODES, JobFileError
from schemas.job import EnrichJob, Place
from schemas.secrets import without_secrets

FEW_CELLS = 100_000  # of 64 bytes each, which every executor can hold
# The columns that these tables are ever filtered by; statistics of the others would only slow each commit.
STATISTICS = {
    "questions": "run_id,bucket",
    "answers": "fingerprint,answered_run,answered_at",
    "changes": "run_id,target,changed_at",
    "runs": "target,started_at",
    "frames": "target,opened_at",
    "framed": "frame,column,place",
    "review": "frame,target,column",
    "looks": "frame,column",
    "calibrations": "target,column",
    "quiet": "target",
}

LAYOUT = {
    "questions": tables.QUESTIONS,
    "answers": tables.ANSWERS,
    "changes": tables.CHANGES,
    "runs": tables.RUNS,
}
OF_PROMISES = {
    "frames": tables.FRAMES,
    "framed": tables.FRAMED,
    "review": tables.REVIEW,
    "looks": tables.LOOKS,
    "calibrations": tables.CALIBRATIONS,
}
# Each is made when it is first written to: most jobs never promise anything, most tables are too small to be quiet.
ALL_TABLES = LAYOUT | OF_PROMISES | {"quiet": tables.QUIET}


@dataclass(frozen=True)
class Store:
    """Where the tables of a store are; jobs may share one."""

    base: Place

    def place(self, table: str) -> Place:
        """Return one table's place: `<store>_answers` by name, `<store>/answers` by folder."""
        if self.base.table is not None:
            return Place(table=f"{self.base.table}_{table}")
        return Place(path=f"{str(self.base.path).rstrip('/')}/{table}")

    def exists(self, spark: SparkSession, table: str) -> bool:
        """Whether the table was created yet."""
        return lake.exists(spark, self.place(table))

    def read(self, spark: SparkSession, table: str) -> DataFrame:
        """Read a table; one that was never created reads as empty, a column it has not yet as null."""
        columns = ALL_TABLES[table]
        if not self.exists(spark, table):
            return lake.rows_of(spark, [], columns)
        found = lake.read(spark, self.place(table))
        missing = {name: F.lit(None).cast(kind) for name, kind in columns.items() if name not in found.columns}
        return found.withColumns(missing) if missing else found

    def create(self, spark: SparkSession, table: str) -> None:
        """Create a table that several write at once, unless it is there; the others are made by their first rows."""
        if not self.exists(spark, table):
            lake.create(spark, self.place(table), tables.ddl(ALL_TABLES[table]), properties=_properties(table))

    def append(self, rows: DataFrame, table: str, *, options: dict[str, str] | None = None) -> None:
        """Append rows to a table, or make it of them."""
        rows = _typed(rows, table)
        if not self._makes(rows, table):
            lake.append(rows, self.place(table), options=options)

    def insert_new(self, rows: DataFrame, table: str, *, unless: str) -> None:
        """Append those of some rows (`s`) that the table's rows (`t`) do not make superfluous, or make it of them.

        Raises:
            ConflictError: others who do the same won every time.
        """
        rows = _typed(rows, table)
        if not self._makes(rows, table):
            lake.insert_new(rows, self.place(table), unless=unless)

    def _makes(self, rows: DataFrame, table: str) -> bool:
        if self.exists(rows.sparkSession, table):
            return False
        return lake.make(rows, self.place(table), properties=_properties(table))


def _properties(table: str) -> dict[str, str]:
    return {"delta.dataSkippingStatsColumns": STATISTICS[table]}


def _typed(rows: DataFrame, table: str) -> DataFrame:
    return rows.select(*[F.col(name).cast(kind).alias(name) for name, kind in ALL_TABLES[table].items()])


def on_record(job: EnrichJob) -> str:
    """Return a job as `runs` keeps it, as JSON: without secrets, and of `engine.vllm` the names alone."""
    told = job.model_dump(mode="json", by_alias=True, exclude={"engine": {"vllm"}})
    told["engine"]["vllm"] = sorted(job.engine.vllm)
    return json.dumps(without_secrets(told), ensure_ascii=False)


def append_changes(rows: DataFrame, store: Store, job: EnrichJob, *, run_id: str) -> None:
    """Append what a run is about to change in a job's target.

    Args:
        rows: key, column, old_value, new_value, old_meta, confidence and question_id of each cell.
    """
    logged = rows.withColumns(
        {
            "run_id": F.lit(run_id),
            "target": F.lit(job.target_place.text),
            "changed_at": F.current_timestamp(),
        }
    )
    store.append(logged, "changes")


def store_of(job: EnrichJob) -> Store:
    """Return the job's store: as declared, else beside the target.

    Raises:
        JobFileError: it would lie inside the target's or the source's folder, where VACUUM deletes it.
    """
    base = lake.place_of(job.store) if job.store else lake.sibling(job.target_place, "_burnish")
    for what, table in (("target", job.target_place), ("source", job.source)):
        if lake.is_inside(_straight(base), _straight(table)):
            raise JobFileError(
                f"store {base.text} lies inside the {what}'s folder {table.text}",
                hint="VACUUM deletes what the table does not track; put the store beside the table",
            )
    return Store(base)


def _straight(place: Place) -> Place:
    """Return a folder without `..` and doubled slashes, which hide where it lies; for comparing alone."""
    return place if place.path is None else Place(path=posixpath.normpath(place.path))


def answers_by_question(
    spark: SparkSession,
    store: Store,
    fingerprints: list[str],
    *,
    wanted: DataFrame | None = None,
    cells: int | None = None,
) -> DataFrame:
    """Return one row a question of these fingerprints: its latest success, else its latest failure.

    Adds `attempts`, the number of failures on record.

    Args:
        wanted: a frame with a column `question_id`; only these questions' answers are ranked and returned.
        cells: how many rows `wanted` has, where that is known; few are looked up where the answers lie.
    """
    answers = store.read(spark, "answers").where(F.col("fingerprint").isin(fingerprints))
    if wanted is not None:
        ids = wanted.select("question_id")
        if cells is not None and cells <= FEW_CELLS:
            # else the planner, who cannot know how few they are, would sort all answers there are
            ids = F.broadcast(ids)
        answers = answers.join(ids, "question_id", "left_semi")
    best = Window.partitionBy("question_id").orderBy(
        F.when(F.col("status") == "ok", 0).otherwise(1), F.col("answered_at").desc(), F.col("lane_version").desc()
    )
    # the same order as the rank's, so that both are had in one pass
    everything = best.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    return (
        answers.withColumn("attempts", F.sum(F.when(F.col("status") == "ok", 0).otherwise(1)).over(everything))
        .withColumn("_rank", F.row_number().over(best))
        .where("_rank = 1")
        .drop("_rank")
    )


def settled(answers: DataFrame, *, retry_failed: bool) -> DataFrame:
    """Keep the questions that are not to be asked: answered, or failed for good.

    Args:
        answers: from `answers_by_question`.
        retry_failed: ask again whatever failed, however often and for whatever reason.
    """
    done = F.col("status") == "ok"
    if not retry_failed:
        done = done | F.col("error").isin(*sorted(PERMANENT_ROW_CODES)) | (F.col("attempts") >= MAX_ATTEMPTS)
    return answers.where(done)
