"""Part e, first half: planning and publishing 1,000,000 rows, beside a plain MERGE of the same rows and columns."""

import time
from statistics import median

from delta.tables import DeltaTable
from published import WRITTEN, answer_all, job_without_engine, ready, rewind, version_of
from pyspark.sql import Column
from pyspark.sql import functions as F
from report import Table, spread, verdict
from rig import Bench
from texts import generated

from jobs.merge import merge
from jobs.outcome import outcome
from jobs.plan import plan
from jobs.publish import Turn, ensure_target, log_changes, publish, stage
from jobs.store import answers_by_question, store_of
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tables import META_FIELDS

FILES = 8
MOST = 1.3


def publish_1m(bench: Bench) -> list[Table]:
    """Publish and merge in turn over the same table, put back before each."""
    rows, path = bench.size(1_000_000, quick=300_000), bench.path("target")
    generated(bench.spark, rows, files=FILES).write.format("delta").save(path)
    job = job_without_engine(bench, path)
    bench.timed("plan, nothing answered", lambda: plan(bench.spark, job, options=RunOptions()))
    answer_all(bench, job)
    bench.timed("plan, all answered", lambda: plan(bench.spark, job, options=RunOptions()))
    empty = version_of(bench, path)
    _published(bench, job, name="publish, first in the session")
    bare = _plain_source(bench, path, empty)
    for _ in range(bench.rounds):
        rewind(bench, path, empty)
        _published(bench, job, name="publish")
        rewind(bench, path, bare)
        bench.timed("plain MERGE", lambda: _plain_merge(bench, path))
        rewind(bench, path, bare)
        bench.timed("MERGE from answers", lambda: _merge_from_answers(bench, job))
    rewind(bench, path, empty)
    _phases(bench, job)
    return [_ratio(bench, rows), _parts(bench)]


def _published(bench: Bench, job: EnrichJob, *, name: str) -> None:
    prepared = bench.timed("prepare", lambda: ready(bench, job))
    cells, store = prepared.cells, prepared.store
    bench.timed(name, lambda: publish(bench.spark, cells, store, turn=Turn(f"night-{time.monotonic_ns()}")))


def _phases(bench: Bench, job: EnrichJob) -> None:
    """Publish once more, phase by phase."""
    spark, prepared = bench.spark, ready(bench, job)
    cells, store = prepared.cells, prepared.store
    staged = bench.timed("stage", lambda: stage(spark, cells, store, turn=Turn("night")))
    bench.timed("count", lambda: outcome(staged, cells))
    bench.timed("add columns", lambda: ensure_target(spark, cells))
    bench.timed("log changes", lambda: log_changes(spark, staged, cells, store, run_id="night"))
    bench.timed("MERGE", lambda: merge(spark, staged, cells, run_id="night"))


def _plain_source(bench: Bench, path: str, empty: int) -> int:
    """Keep what was published as the plain MERGE's source; return the target's version with columns and no values."""
    done = bench.spark.read.format("delta").load(path).select("id", *WRITTEN)
    done.write.format("delta").save(bench.path("plain"))
    kinds = {field.name: field.dataType.simpleString() for field in done.schema}
    rewind(bench, path, empty)
    listed = ", ".join(f"{name} {kinds[name]}" for name in WRITTEN)
    bench.spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMNS ({listed})")
    return version_of(bench, path)


def _plain_merge(bench: Bench, path: str) -> None:
    source = bench.spark.read.format("delta").load(bench.path("plain"))
    merging = DeltaTable.forPath(bench.spark, path).alias("t").merge(source.alias("s"), "t.id = s.id")
    merging.whenMatchedUpdate(set={name: F.col(f"s.{name}") for name in WRITTEN}).execute()


def _merge_from_answers(bench: Bench, job: EnrichJob) -> None:
    """Merge as a person would who has the answers table and no finished rows: the join is the MERGE's source."""
    cells = ready(bench, job).cells
    fingerprint = cells.fingerprints[job.columns[0].name]
    rows = cells.rows.select("id", F.col("_hash0").alias("question_id"))
    latest = answers_by_question(bench.spark, store_of(job), [fingerprint])
    meta = F.struct(*[_meta_field(name).cast(kind).alias(name) for name, kind in META_FIELDS.items()])
    source = rows.join(latest, "question_id").select(
        "id", F.get_json_object("value", "$").alias("topic"), "confidence", "error", meta.alias("meta")
    )
    named = {"topic": "topic", "topic_confidence": "confidence", "topic_error": "error", "topic_meta": "meta"}
    merging = (
        DeltaTable.forPath(bench.spark, str(job.target_place.path)).alias("t").merge(source.alias("s"), "t.id = s.id")
    )
    merging.whenMatchedUpdate(set={name: F.col(f"s.{of}") for name, of in named.items()}).execute()


def _meta_field(name: str) -> Column:
    known = {"question_id", "fingerprint", "label_mass", "model", "prompt_tokens", "completion_tokens", "answered_run"}
    return F.col(name) if name in {*known, "answered_at", "notes"} else F.lit(None)


def _ratio(bench: Bench, rows: int) -> Table:
    lines = []
    for name, note in (("plain MERGE", verdict), ("MERGE from answers", None)):
        for what, spent in (("wall", bench.clock), ("CPU", bench.cpu)):
            ours, theirs = spent["publish"], spent[name]
            ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            goal = note(median(ratios), most=MOST) if note is not None and what == "wall" else ""
            lines.append((f"{rows:,}, {name}, {what}", spread(ours), spread(theirs), spread(ratios), goal))
    text = (
        "*plain MERGE*: of the finished columns from a Delta table, with no join to answers, judgement or change log. "
        "*MERGE from answers*: its source is the join of the rows' hashes with the latest answers; no acceptance, "
        "guards, change log or counts."
    )
    return Table(("rows, beside", "publish, s", "beside, s", "publish ÷ beside", "goal"), lines, text)


def _parts(bench: Bench) -> Table:
    names = (
        "plan, nothing answered",
        "plan, all answered",
        "prepare",
        "publish, first in the session",
        "stage",
        "count",
    )
    rows = [
        (name, spread(bench.clock[name]), spread(bench.cpu[name]))
        for name in (*names, "add columns", "log changes", "MERGE")
    ]
    note = "CPU: of the JVM, all threads. From `stage` on: one more publish, step by step."
    return Table(("step", "wall, s", "CPU, s"), rows, note)
