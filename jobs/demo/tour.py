"""The demo, step by step: a table of support tickets, seven tasks, two nights, and a promise."""

import importlib.resources
import shutil
from pathlib import Path

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.console import printer
from jobs.demo.promise import DRAWN, keep_promise
from jobs.demo.verdict import verdict
from jobs.plan import plan
from jobs.run import run
from jobs.session import spark_session
from schemas.errors import JobFileError
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from schemas.yaml_file import load_job

SHOWN_ROWS = 15
EDITED_TICKET = "T0001"
SURE, UNSURE = 0.8, 0.5


def demo(folder: Path, *, rows: int | None = None, promise: bool = False) -> int:
    """Run the demo in a folder of its own and return the exit code.

    Args:
        folder: where its tables go; a demo's folder is emptied first, any other must be new.
        rows: take only the first so many tickets.
        promise: have some rows judged at the end, and show what can be promised of the others.

    Raises:
        BurnishError: as `jobs.run.run` does.
    """
    console = printer()
    place = folder.resolve()
    spark = spark_session("burnish demo", folder=place, is_small=True)
    job_file = lay_out(spark, place, rows=rows)
    job = load_job(job_file)
    before = tickets(spark, job).collect()

    console.print(Rule("the plan"))
    console.print(plan(spark, job, options=RunOptions()).render())
    console.print(Rule("first night"))
    first = run(spark, job, options=RunOptions())
    console.print(first.render())
    after = tickets(spark, job).collect()
    console.print(before_and_after(before, after))
    console.print(verdict(after))

    console.print(Rule("one row is changed, second night"))
    edit_one_row(spark, job)
    second = run(spark, job, options=RunOptions())
    console.print(second.render())
    console.print(
        f"[bold]{second.progress.questions} question asked[/bold]; everything else stood in the answers table."
    )
    if promise:
        console.print(Rule(f"how sure is it? {DRAWN} rows are judged by their true values"))
        keep_promise(spark, place, job_file, console=console)
    console.print(next_steps(place, job_file, job))
    return max(first.exit_code, second.exit_code, 0 if second.progress.questions == 1 else 1)


def lay_out(spark: SparkSession, place: Path, *, rows: int | None) -> Path:
    """Write the tickets and the reference table as Delta tables, and the job file beside them."""
    _empty(place)
    data = importlib.resources.files("jobs.demo")
    for name in ("tickets", "countries"):
        with importlib.resources.as_file(data / f"{name}.csv") as file:
            table = spark.read.csv(str(file), header=True, escape='"', multiLine=True, encoding="UTF-8")
            if name == "tickets" and rows is not None:
                table = table.orderBy("ticket_id").limit(rows)
            lake.replace(table.coalesce(1), Place(path=str(place / name)))
    text = (data / "job.yaml").read_text(encoding="utf-8")
    # the job file quotes its paths, so that only the quote itself needs care
    text = text.replace("DEMO/", str(place).replace("'", "''") + "/")
    job_file = place / "job.yaml"
    job_file.write_text(text, encoding="utf-8")
    return job_file


def _empty(place: Path) -> None:
    marker = place / ".burnish-demo"
    if place.exists() and any(place.iterdir()) and not marker.exists():
        raise JobFileError(f"{place} is not empty and no folder of the demo", hint="give --folder a new name")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    marker.touch()


def tickets(spark: SparkSession, job: EnrichJob) -> DataFrame:
    """Return the tickets as they stand, in order."""
    return lake.read(spark, job.target_place).orderBy("ticket_id")


def edit_one_row(spark: SparkSession, job: EnrichJob) -> None:
    """Change one product title, as a person would."""
    edited: Column = F.concat(F.col("their_title"), F.lit(" (2 pieces)"))
    table = lake.delta_table(spark, job.target_place)
    table.update(F.col("ticket_id") == EDITED_TICKET, {"their_title": edited})


def before_and_after(before: list[Row], after: list[Row]) -> Table:
    """Return rows as they were and as they are, each value with its confidence in colour."""
    table = Table(title="before → after", title_justify="left", show_lines=True)
    headings = ("ticket", "message", "topic", "mentions", "order", "phone", "country", "same product", "callback")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for old, new in list(zip(before, after, strict=True))[:SHOWN_ROWS]:
        table.add_row(
            new["ticket_id"],
            Text((new["message"] or "")[:70]),
            _value(new, "topic"),
            _value(new, "mentions"),
            _value(new, "order"),
            Text(f"{old['phone'] or '∅'} → ") + _value(new, "phone"),
            Text(f"{old['country'] or '∅'} → ") + _value(new, "country"),
            _value(new, "same_product"),
            _value(new, "asks_for_callback"),
        )
    return table


def _value(row: Row, name: str) -> Text:
    value, confidence, meta = row[name], row[f"{name}_confidence"], row[f"{name}_meta"]
    if isinstance(value, Row):
        value = ", ".join(f"{key}={part}" for key, part in value.asDict().items() if part is not None)
    elif isinstance(value, list):
        value = ", ".join(value)
    status = meta["status"] if meta is not None else ""
    text = Text("∅" if value in (None, "") else str(value))
    if confidence is not None:
        colour = "green" if confidence >= SURE else "yellow" if confidence >= UNSURE else "red"
        text.append(f" {confidence:.2f}", style=colour)
    if status in ("review", "failed", "unchanged", "kept"):
        text.append(f" {status}", style="dim")
    return text


def next_steps(place: Path, job_file: Path, job: EnrichJob) -> Text:
    """Return the paths and the next three commands to try."""
    return Text(
        f"\ntable    {job.target_place.text}\nanswers  {place / 'tickets_burnish' / 'answers'}\njob file {job_file}\n\n"
        f"try next\n  burnish preview {job_file} -n 5\n  burnish plan {job_file}\n  burnish status {job_file}\n"
    )
