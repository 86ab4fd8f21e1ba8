"""Plan: what a run would ask, counted without an engine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import cells as cells_
from jobs.asking import Cluster
from jobs.estimate import estimates, totals
from jobs.prepare import Prepared, prepare, rate_of, reasks, remarks, to_ask
from jobs.promise import labels_to_start, level_of_look
from jobs.to_do import distinct_questions
from schemas.accept import Promise
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tasks import Answer, AnyTask, Classify, Impute


@dataclass(frozen=True)
class TaskPlan:
    """One column's line of a plan: rows, questions and tokens.

    `rows_to_do` are all rows with something to ask; the rest is of those that `limits.max_rows` lets one run take.
    """

    rows_to_do: int
    distinct: int
    answered: int
    to_ask: int
    prompt_tokens: int
    output_tokens: int
    sampled: int
    prompt: str

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers together."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True)
class Plan:
    """What a run would ask."""

    target: str
    model: str
    rows: int
    version: int
    columns: dict[str, TaskPlan]
    expected_sec: float
    rate_from: str
    cost: float | None
    replicas: int
    max_rows: int | None
    reasks: dict[str, int]
    remarks: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values."""
        found = dict(vars(self))
        found["columns"] = {name: dict(vars(column)) for name, column in self.columns.items()}
        found["remarks"] = list(self.remarks)
        return found

    def render(self) -> Group:
        """Return the plan for a terminal."""
        table = Table(title=f"{self.target}: {self.rows:,} rows of version {self.version}", title_justify="left")
        for heading in ("column", "rows to do", "distinct", "answered", "to ask", "prompt tokens", "output tokens"):
            table.add_column(heading, justify="left" if heading == "column" else "right")
        for name, one in self.columns.items():
            tokens = (one.prompt_tokens, one.output_tokens)
            numbers = (one.rows_to_do, one.distinct, one.answered, one.to_ask, *tokens)
            table.add_row(name, *(f"{number:,}" for number in numbers))
        cost = "" if self.cost is None else f", about {self.cost:.2f} at the price given"
        time = f"about {duration(self.expected_sec)} on {self.replicas} replica(s) ({self.rate_from}){cost}"
        sampled = {one.sampled for one in self.columns.values() if one.sampled < one.to_ask}
        if sampled:
            time += f"; tokens counted on a sample of about {max(sampled):,} questions a column"
        if self.max_rows is not None:
            time += f"; limits.max_rows: distinct, answered and to ask are of the first {self.max_rows:,} rows to do"
        prompts = [Text(f"\n{name} asks:\n{one.prompt}") for name, one in self.columns.items() if one.prompt]
        return Group(table, Text(time), *(Text(remark) for remark in self.remarks), *prompts)


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cached_share(prepared: Prepared, questions: int) -> float:
    """Return the part of the cells this run takes that need no question of their own.

    Under `limits.max_rows` the cells are counted as if each column asked in every row taken, which it usually does.
    """
    most = prepared.job.limits.max_rows
    counts = [prepared.count(cells_.TO_ASK, task=task.name) for task in prepared.tasks]
    taken = sum(count if most is None else min(count, most) for count in counts)
    return max(0.0, 1 - questions / taken) if taken else 1.0


def plan(spark: SparkSession, job: EnrichJob, *, options: RunOptions, prompts: bool = True) -> Plan:
    """Count what a run would ask and what it would take; starts no engine and writes nothing.

    Args:
        prompts: show one prompt of each column, with the texts of the row that it is about.
    """
    prepared = prepare(spark, job, options=options, keeps=True)
    try:
        return _planned(spark, prepared, prompts=prompts)
    finally:
        prepared.release()


def _planned(spark: SparkSession, prepared: Prepared, *, prompts: bool) -> Plan:
    job = prepared.job
    max_rows = job.limits.max_rows
    asked = distinct_questions(prepared.cells, max_rows=max_rows)
    distinct = {row["task"]: int(row["count"]) for row in asked.groupBy("task").count().collect()}
    questions = to_ask(spark, prepared)
    counted = totals(questions)
    found = estimates(prepared, questions, counted, prompts=prompts)
    left = {task.name: counted.get(task.name, (0, 0)) for task in prepared.tasks}
    columns = {
        task.name: TaskPlan(
            rows_to_do=prepared.count(cells_.TO_ASK, task=task.name),
            distinct=distinct.get(task.name, 0),
            answered=distinct.get(task.name, 0) - left[task.name][0],
            to_ask=left[task.name][0],
            prompt_tokens=found[task.name].prompt_tokens(*left[task.name]),
            output_tokens=found[task.name].output_tokens(left[task.name][0]),
            sampled=found[task.name].sampled,
            prompt=found[task.name].prompt,
        )
        for task in prepared.tasks
    }
    cluster = Cluster(spark, prepared.job.engine)
    rate, rate_from = rate_of(spark, prepared, cluster)
    seconds = sum(one.tokens for one in columns.values()) / rate
    price = prepared.job.engine.gpu_hour_price
    return Plan(
        target=job.target_place.text,
        model=job.model.text,
        rows=prepared.rows,
        version=prepared.cells.scope.version,
        columns=columns,
        expected_sec=seconds,
        rate_from=rate_from,
        cost=None if price is None else price * seconds / 3600 * cluster.replicas,
        replicas=cluster.replicas,
        max_rows=max_rows,
        reasks=reasks(prepared),
        remarks=(*_costs(prepared), *remarks(prepared), *_expected(prepared)),
    )


def _costs(prepared: Prepared) -> Iterator[str]:
    """What promises take that are not proved yet, or hold for each label by itself."""
    for task in prepared.tasks:
        promise = prepared.job.accept_of(task)
        if isinstance(promise, Promise) and (promise.per_label or not prepared.cells.rules[task.name].thresholds):
            yield f"{task.name}: {cost_of(promise, task)}"


def cost_of(promise: Promise, task: AnyTask) -> str:
    """How many rows people must find right for a promise, at the first look and in a frame of any size."""
    level = level_of_look(promise.assurance, 1)
    needed, _ = labels_to_start(promise.precision, level)
    where, more = "each label's threshold" if promise.per_label else "the threshold", ""
    labels = task.options if isinstance(task, Answer) else task.labels if isinstance(task, Classify | Impute) else None
    if promise.joint and isinstance(labels, dict):
        more = f", where each label by itself would take {needed:,}"
        needed, _ = labels_to_start(promise.precision, level / len(labels))
    return (
        f"{promise.text} takes {needed:,} judged rows above {where} without a mistake{more}; "
        "fewer in a frame of which they are a large part"
    )


def _expected(prepared: Prepared) -> Iterator[str]:
    """How many of the rows to do would be written by what is proved or calibrated now, and how many would wait."""
    for task in prepared.tasks:
        share, waiting = _share_written(prepared, task), prepared.count(cells_.TO_ASK, task=task.name)
        if share is not None and waiting:
            written, there = round(waiting * share), prepared.count("done:review", task=task.name)
            rest = f"{waiting - written:,} would wait" + (f" with {there:,} that wait now" if there else "")
            yield f"{task.name}: of {waiting:,} rows to do about {written:,} would be written, {rest}"


def _share_written(prepared: Prepared, task: AnyTask) -> float | None:
    """The part of new answers that would be written: as of the newest frame, or of the answers calibrated so far."""
    rule = prepared.cells.rules[task.name]
    if rule.thresholds is not None:
        return 0.0 if rule.holds_others else rule.share
    done = {status: prepared.count(f"done:{status}", task=task.name) for status in ("accepted", "unchanged", "review")}
    if rule.calibration is None or not sum(done.values()):
        return None
    return 1 - done["review"] / sum(done.values())
