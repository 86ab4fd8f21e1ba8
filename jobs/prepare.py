"""What is known before the first question is asked: every cell's state, the model, the questions left."""

import json
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import cells as cells_
from jobs import lake, quiet
from jobs.asking import Cluster, Model, ready_model
from jobs.cells import CellFrame, Partitions
from jobs.looks import rules_of
from jobs.source import Scope, check_keys, open_scope
from jobs.store import FEW_CELLS, Store, answers_by_question, settled, store_of
from jobs.to_do import counted, distinct_questions, narrowed, to_do
from schemas.canonical import declared, digest
from schemas.errors import JobFileError
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.secrets import without_secrets
from schemas.tables import BUCKETS
from schemas.tasks import AnyTask

RUNS_LOOKED_AT = 50
MOST_KEPT = 1_000_000  # cells whose rows are kept in memory, or on executors' disks where that is full
SMALL_SHARE = 0.1  # of the cells in scope: fewer are looked up by themselves instead of among all
VALUE_FIELDS = ("labels", "options", "domain", "examples")
INPUT_FIELDS = ("from", "context", "left", "right")
# tokens/s of one replica before any run was measured: the embedded model on two cores, an 8B model on a large GPU
FIRST_GUESS = {"cpu": 600.0, "gpu": 20_000.0}


@dataclass(frozen=True)
class Opened:
    """A job over its pinned source: how each cell's state follows from what stands there; no row was looked at yet."""

    job: EnrichJob
    options: RunOptions
    model: Model
    store: Store
    cells: CellFrame

    @property
    def tasks(self) -> tuple[AnyTask, ...]:
        """The run's tasks, labels resolved."""
        return self.cells.scope.tasks


@dataclass(frozen=True)
class Prepared(Opened):
    """Everything that is known before the first question is asked.

    Attributes:
        states: how many cells are in each state, by column.
        rows: how many are in scope.
        is_known: that nothing is to do is on record; no row was looked at.
    """

    states: dict[str, dict[str, int]]
    rows: int
    is_known: bool = False

    def count(self, *prefixes: str, task: str | None = None) -> int:
        """Count cells whose state begins with one of these words."""
        columns = [self.states[task]] if task is not None else list(self.states.values())
        return sum(n for states in columns for state, n in states.items() if state.startswith(prefixes))

    @property
    def to_do(self) -> int:
        """How many cells have something to ask or to write."""
        return self.count(*cells_.TO_DO)

    @property
    def writes(self) -> bool:
        """Whether a run would have anything to ask or to write."""
        return self.to_do > 0

    @property
    def is_small(self) -> bool:
        """Whether the cells to do are few of all in scope."""
        return self.to_do < SMALL_SHARE * self.rows * len(self.tasks)

    def release(self) -> None:
        """Forget the rows that were kept in memory."""
        self.cells.rows.unpersist()


def open_job(spark: SparkSession, job: EnrichJob, *, options: RunOptions, looks: bool = False) -> Opened:
    """Pin the source, and say what each cell's state is made of. No engine starts and nothing is written.

    Args:
        looks: test what people judged since the last run, and put the test on record.

    Raises:
        BurnishError: whatever would make a run fail for its job file or its environment.
    """
    store = store_of(job)
    scope = open_scope(spark, job, options)
    model = ready_model(scope.job)
    for task in scope.tasks:
        model.inquiry(task).check_room()
    fingerprints = {task.name: model.fingerprint(task) for task in scope.tasks}
    known = comparable(spark, store, scope) if options.keep_old else None
    rules = rules_of(spark, store, scope.job, fingerprints, looks=looks)
    cells = cells_.with_cells(spark, scope, fingerprints, options, comparable=known, rules=rules)
    return Opened(scope.job, options, model, store, cells)


def prepare(
    spark: SparkSession, job: EnrichJob, *, options: RunOptions, looks: bool = False, keeps: bool = False
) -> Prepared:
    """Open a job, find every cell's state and check the keys. No engine starts and nothing is written.

    Args:
        looks: test what people judged since the last run, and put the test on record.
        keeps: keep the rows to do in memory, where they are few; the caller releases them.

    Raises:
        BurnishError: whatever would make a run fail for its job file, its environment or its data.
    """
    opened = open_job(spark, job, options=options, looks=looks)
    cells, scope = opened.cells, opened.cells.scope
    before = quiet.states_before(spark, scope, cells.fingerprints, options, opened.store)
    partitions = _partitions(spark, scope) if keeps and before is None else ()
    states, held = counted(cells, partitions) if before is None else (before, {})
    rows = sum(next(iter(states.values())).values())
    prepared = Prepared(opened.job, options, opened.model, opened.store, cells, states, rows, before is not None)
    return _checked(prepared, held, keeps=keeps) if prepared.writes else prepared


def _partitions(spark: SparkSession, scope: Scope) -> tuple[str, ...]:
    """The columns that a table filled in place is partitioned by; one that is written may move a row."""
    if not scope.job.is_in_place:
        return ()
    written = {task.name for task in scope.tasks}
    return tuple(name for name in lake.partition_columns(spark, scope.job.target_place) if name not in written)


def _checked(prepared: Prepared, partitions: Partitions, *, keeps: bool) -> Prepared:
    """Check the keys, and narrow the cells to the rows to do where these are few: the others are looked at once."""
    scope = prepared.cells.scope
    if not prepared.is_small:
        check_keys(scope)
        return prepared
    found = replace(prepared, cells=narrowed(prepared.cells, partitions))
    if keeps and prepared.to_do <= MOST_KEPT:
        found.cells.rows.persist()
    rows = found.cells.rows
    try:
        # how few they are the planner cannot know before it has them
        check_keys(scope, of=F.broadcast(rows) if prepared.to_do <= FEW_CELLS else rows)
    except BaseException:
        found.release()
        raise
    return found


def to_ask(spark: SparkSession, prepared: Prepared) -> DataFrame:
    """Return the distinct questions that no answer settles.

    Adds `input_bytes`, and `bucket`: 0 to 99,999, the question's place in the order of asking.
    """
    asked = distinct_questions(prepared.cells, max_rows=prepared.job.limits.max_rows)
    fingerprints = sorted(set(prepared.cells.fingerprints.values()))
    cells = prepared.count(cells_.TO_ASK)
    known = answers_by_question(spark, prepared.store, fingerprints, wanted=asked, cells=cells)
    done = settled(known, retry_failed=prepared.options.retry_failed).select("question_id")
    size = F.aggregate(
        "inputs", F.lit(0).cast("bigint"), lambda total, value: total + F.coalesce(F.octet_length(value), F.lit(0))
    )
    bucket = F.pmod(F.xxhash64("question_id"), F.lit(BUCKETS)).cast("int")
    left = asked.join(done, "question_id", "left_anti")
    return left.withColumn("input_bytes", size).withColumn("bucket", bucket)


def first_guess(cluster: Cluster) -> float:
    """Return the tokens/s over all replicas that are expected before any run was measured."""
    return FIRST_GUESS["gpu" if cluster.has_gpu else "cpu"] * cluster.replicas


def rate_of(spark: SparkSession, prepared: Prepared, cluster: Cluster) -> tuple[float, str]:
    """Return the expected tokens/s over all replicas, and where the figure comes from."""
    guess = first_guess(cluster)
    runs = prepared.store.read(spark, "runs").where("state = 'done'")
    rate = F.get_json_object("report", "$.tokens_per_sec").cast("double")
    same = F.get_json_object("report", "$.model_digest") == prepared.model.digest
    last = runs.where(same & (rate > 0)).orderBy(F.col("ended_at").desc()).select(rate).first()
    if last is not None:
        return float(last[0]), "measured by the last run"
    return guess, f"a guess of {guess:,.0f} tokens/s until a first run measures it"


def reasks(prepared: Prepared) -> dict[str, int]:
    """Count answered cells per column that would be asked again because a fingerprint changed."""
    counts = {task.name: prepared.count("ask:fingerprint", task=task.name) for task in prepared.tasks}
    return {name: count for name, count in counts.items() if count}


def refuse_reasking(spark: SparkSession, prepared: Prepared) -> None:
    """Stop when a changed job would ask more answered rows again than `limits.max_reask_share` allows.

    Raises:
        JobFileError: naming what changed and how many rows.
    """
    again = reasks(prepared)
    if not again or prepared.options.reask:
        return
    answered = sum(prepared.count("done:accepted", "done:unchanged", "done:review", task=name) for name in again)
    allowed = prepared.job.limits.max_reask_share
    if sum(again.values()) <= allowed * (answered + sum(again.values())):
        return
    again, total = unanswered(spark, prepared), answered + sum(again.values())
    share = sum(again.values()) / total
    if share <= allowed:
        return
    counts = ", ".join(f"{name}: {count:,} rows" for name, count in again.items())
    changed = "; ".join(what_changed(spark, prepared, sorted(again)))
    raise JobFileError(
        f"the job has changed, and {share:.0%} of its answered cells would be asked again ({counts}). {changed}",
        hint=f"--reask asks them, --keep-old asks only new and changed rows; limits.max_reask_share is {allowed:g}",
    )


def unanswered(spark: SparkSession, prepared: Prepared) -> dict[str, int]:
    """Count, of the cells whose fingerprint changed, those that the answers table does not know either."""
    cells = to_do(prepared.cells, prefixes=("ask:fingerprint",)).select("task", "question_id")
    fingerprints = sorted(set(prepared.cells.fingerprints.values()))
    count = prepared.count("ask:fingerprint")
    known = answers_by_question(spark, prepared.store, fingerprints, wanted=cells, cells=count)
    left = cells.join(known.where("status = 'ok'").select("question_id"), "question_id", "left_anti")
    return {prepared.tasks[row["task"]].name: int(row["count"]) for row in left.groupBy("task").count().collect()}


def describe(prepared: Prepared) -> dict[str, Any]:
    """Return what each column's fingerprint is made of, for the next run to compare with; of values a digest."""
    model = prepared.model
    known = {"model": model.ref.text, "model_digest": model.digest, "engine": model.engine_facts}
    fingerprints = prepared.cells.fingerprints
    found = {task.name: {**declared(task), **known, "fingerprint": fingerprints[task.name]} for task in prepared.tasks}
    for facts in found.values():
        # they may be a table's, and a record of runs holds no cell
        facts |= {field: digest(facts[field]) for field in VALUE_FIELDS if facts.get(field)}
    return {name: without_secrets(facts) for name, facts in found.items()}


def declared_before(spark: SparkSession, store: Store, job: EnrichJob) -> list[dict[str, dict[str, Any]]]:
    """Return what the last runs declared per column, the newest first."""
    runs = store.read(spark, "runs").where("state = 'done'").where(F.col("target") == job.target_place.text)
    reports = runs.orderBy(F.col("ended_at").desc()).limit(RUNS_LOOKED_AT).select("report").collect()
    return [json.loads(row["report"]).get("columns_declared", {}) for row in reports]


def comparable(spark: SparkSession, store: Store, scope: Scope) -> dict[str, frozenset[str]]:
    """Return, per column, the fingerprints on record under which it was made of the columns that it is made of now."""
    before = declared_before(spark, store, scope.job)
    found = {}
    for task in scope.tasks:
        now = without_secrets(json.loads(json.dumps(declared(task))))
        records = [run[task.name] for run in before if task.name in run]
        same = [then for then in records if all(now.get(field) == then.get(field) for field in INPUT_FIELDS)]
        found[task.name] = frozenset(then["fingerprint"] for then in same)
    return found


def what_changed(spark: SparkSession, prepared: Prepared, names: list[str]) -> list[str]:
    """Name, per column, the settings that differ from those of the last run."""
    before: dict[str, dict[str, Any]] = {}
    for run in declared_before(spark, prepared.store, prepared.job):
        before = run | before
    if not before:
        return ["what changed is not on record"]
    now = json.loads(json.dumps(describe(prepared)))
    found = []
    for name in names:
        old = before.get(name, {})
        keys = {*old, *now[name]} - {"fingerprint"}
        differing = sorted(key for key in keys if old.get(key) != now[name].get(key))
        found.append(f"{name} differs in {', '.join(differing) or 'the form of its prompts'}")
    return found


def remarks(prepared: Prepared) -> list[str]:
    """Return what a person should know before going on."""
    again = sum(reasks(prepared).values())
    return remarks_on_job(prepared) + ([f"asked again because the job changed: {again:,} cells"] if again else [])


def remarks_on_job(opened: Opened) -> list[str]:
    """Return what a person should know of a job's model and promises, whatever is to do tonight."""
    promises = [remark for rule in opened.cells.rules.values() for remark in rule.remarks]
    return [*remarks_on(opened.model), *promises]


def remarks_on(model: Model) -> list[str]:
    """Return what a person should know of a model."""
    found = []
    if not model.card.tuned:
        found.append(
            f"{model.ref.text} is not tuned for these tasks: it labels badly. Use it to try the machinery, "
            "not to trust the answers."
        )
    elif model.card.note:
        found.append(f"{model.ref.text}: {model.card.note}")
    if (honours := model.capabilities) is not None:
        found.append(
            f"the endpoint honours log-probabilities: {honours.logprobs}, JSON schema: {honours.json_schema}, "
            f"choice: {honours.choice}"
        )
        if not honours.logprobs:
            found.append("without log-probabilities every confidence is null")
    return found
