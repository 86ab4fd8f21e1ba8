"""The demo's last step: some rows are judged, a promise is made of it, and the whole truth says whether it holds."""

import importlib.resources
import re
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.calibrate import calibrate_columns
from jobs.demo.verdict import CHECKS, truths
from jobs.frames import open_frame
from jobs.prepare import open_job
from jobs.report import report
from jobs.result import RunResult
from jobs.review import sample
from jobs.run import run
from jobs.verdicts import import_truth
from schemas.accept import Promise
from schemas.errors import DataContractError
from schemas.job import EnrichJob, Place
from schemas.options import RunOptions
from schemas.yaml_file import load_job

PRECISION = 0.9
DRAWN = 120
SEED = "demo"  # each run draws the same rows, and can be compared
# the cleaned column keeps its own, and so does the one of which so many rows would be judged that none is left
LEAST_CONFIDENCES = re.compile(r"accept: 0\.[05](?=\s)")
ORDER = "order_id string, bought_on date, item string"


def keep_promise(spark: SparkSession, place: Path, job_file: Path, *, console: Console) -> RunResult:
    """Judge rows by the truth, calibrate, write under a promise, and print what was promised beside what is true."""
    promised_file = job_file.with_name("promise.yaml")
    text = job_file.read_text(encoding="utf-8")
    promised_file.write_text(LEAST_CONFIDENCES.sub(f"accept: {{precision: {PRECISION}}}", text), encoding="utf-8")
    job = load_job(promised_file)
    names = [task.name for task in job.columns if isinstance(job.accept_of(task), Promise)]
    truth = Place(path=str(place / "truth"))
    lake.replace(truth_table(spark).coalesce(1), truth)
    opened = open_job(spark, job, options=RunOptions())
    for at, task in enumerate(opened.tasks):
        if task.name in names:
            open_frame(spark, opened.cells.alone(at), opened.store, seed=SEED)
    sample(spark, job, rows=DRAWN, columns=names)
    judged = import_truth(spark, job, truth.text, {name: name for name in names})
    try:
        console.print(calibrate_columns(spark, job).render())
    except DataContractError as problem:
        console.print(Text(str(problem)))
    result = run(spark, job, options=RunOptions())
    console.print(_kept(spark, job, result, judged.columns))
    for line in result.remarks:
        console.print(Text(line, style="dim"))
    page = place / "report.html"
    report(spark, job).write(page)
    console.print(f"report   {page}\njob file {promised_file}", highlight=False)
    return result


def truth_table(spark: SparkSession) -> DataFrame:
    """The true values under the ticket's name, each column called and typed as the job's own."""
    data = importlib.resources.files("jobs.demo") / "truth.csv"
    with importlib.resources.as_file(data) as file:
        rows = spark.read.csv(str(file), header=True, escape='"', encoding="UTF-8")
    mentions = F.filter(F.split(F.coalesce("mentions", F.lit("")), r"\|"), lambda one: one != "")
    fields = [F.col(field.name).cast(field.dataType).alias(field.name) for field in lake.struct(ORDER)]
    return rows.select(
        "ticket_id",
        "topic",
        mentions.alias("mentions"),
        F.struct(*fields).alias("order"),
        F.col("country_true").alias("country"),
        F.col("same_product").cast("boolean").alias("same_product"),
        "asks_for_callback",
    )


def _kept(spark: SparkSession, job: EnrichJob, result: RunResult, judged: dict[str, dict[str, Any]]) -> Table:
    """Per column: how many rows were judged, what is promised, and how right the values written under it are."""
    table = Table(title="what is promised, and what is true", title_justify="left")
    table.add_column("column")
    for heading in ("judged", "of them right", "promised", "written under it", "truly right"):
        table.add_column(heading, justify="right")
    known = truths()
    rows = lake.read(spark, job.target_place).collect()
    for name, one in judged.items():
        written = [row for row in rows if (meta := row[f"{name}_meta"]) and meta["promise"] == "promised"]
        right = sum(CHECKS[name](row[name], known[row["ticket_id"]]) for row in written)
        share = f"{right / len(written):.1%}" if written else ""
        promised = f"{PRECISION:.0%}" if result.columns[name]["promised"] else "nothing"
        of_them = "" if one["right"] is None else str(one["right"])
        table.add_row(name, str(one["judged"]), of_them, promised, str(len(written)), share)
    return table
