"""Plan: what a run would ask, counted without an engine."""

from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import cells as cells_
from jobs.asking import Cluster
from jobs.estimate import estimates, totals
from jobs.prepare import prepare, rate_of, reasks, remarks, to_ask
from schemas.job import EnrichJob
from schemas.options import RunOptions


@dataclass(frozen=True)
class TaskPlan:
    """One column's line of a plan; rows, questions and tokens."""

    rows_to_do: int
    distinct: int
    answered: int
    to_ask: int
    tokens: int
    sampled: int
    prompt: str


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
        for heading in ("column", "rows to do", "distinct", "answered", "to ask", "tokens"):
            table.add_column(heading, justify="left" if heading == "column" else "right")
        for name, one in self.columns.items():
            numbers = (one.rows_to_do, one.distinct, one.answered, one.to_ask, one.tokens)
            table.add_row(name, *(f"{number:,}" for number in numbers))
        cost = "" if self.cost is None else f", about {self.cost:.2f} at the price given"
        time = f"about {duration(self.expected_sec)} on {self.replicas} replica(s) ({self.rate_from}){cost}"
        sampled = {one.sampled for one in self.columns.values() if one.sampled < one.to_ask}
        if sampled:
            time += f"; tokens by the model's tokenizer on a sample of about {max(sampled):,} questions a column"
        prompts = [Text(f"\n{name} asks:\n{one.prompt}") for name, one in self.columns.items() if one.prompt]
        return Group(table, Text(time), *(Text(remark) for remark in self.remarks), *prompts)


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plan(spark: SparkSession, job: EnrichJob, *, options: RunOptions) -> Plan:
    """Count what a run would ask and what it would take; starts no engine and writes nothing."""
    prepared = prepare(spark, job, options=options)
    asked = cells_.questions(prepared.cells)
    distinct = {row["task"]: int(row["count"]) for row in asked.groupBy("task").count().collect()}
    questions = to_ask(spark, prepared)
    counted = totals(questions)
    found = estimates(prepared, questions, counted)
    left = {task.name: counted.get(task.name, (0, 0)) for task in prepared.tasks}
    columns = {
        task.name: TaskPlan(
            rows_to_do=prepared.count(cells_.TO_ASK, task=task.name),
            distinct=distinct.get(task.name, 0),
            answered=distinct.get(task.name, 0) - left[task.name][0],
            to_ask=left[task.name][0],
            tokens=found[task.name].tokens(*left[task.name]),
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
        reasks=reasks(prepared),
        remarks=tuple(remarks(prepared)),
    )
