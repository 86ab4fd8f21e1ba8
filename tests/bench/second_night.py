"""Part c: a second night after 1 % of the rows changed."""

from statistics import median

from delta.tables import DeltaTable
from pyspark.sql import Column
from pyspark.sql import functions as F
from report import Table, spread, verdict
from rig import Bench, job_on
from shapes import TINY, write_model
from texts import CLASSIFY, messages, write_messages

from jobs.result import RunResult
from jobs.run import run
from schemas.options import RunOptions

MOST = 0.02


def changed(bench: Bench) -> list[Table]:
    """Ask a table once, change every hundredth row, ask again; the engine stays warm."""
    model = {"path": str(write_model(bench.folder / "tiny", TINY, weights=True))}
    count = bench.size(6000, quick=200)
    nights: list[tuple[RunResult, RunResult]] = []
    for turn in range(-1, bench.rounds):
        path = bench.path(f"changed-{turn}")
        write_messages(bench.spark, path, messages(count, seed=turn + 1))
        job = job_on(path, {**CLASSIFY, "accept": 0.0}, model=model)
        first = run(bench.spark, job, options=RunOptions())
        edit: dict[str, str | Column] = {"message": F.concat("message", F.lit(" Please hurry."))}
        DeltaTable.forPath(bench.spark, path).update(F.col("id") % 100 == 7, edit)
        second = run(bench.spark, job, options=RunOptions())
        print(f"  {first.progress.questions} in {first.seconds:.1f} s, {second.progress.questions} in", end=" ")
        print(f"{second.seconds:.1f} s", flush=True)
        nights.append((first, second))
    measured = nights[1:]
    shares = [second.progress.questions / first.progress.questions for first, second in measured]
    row = (
        f"{count:,}",
        f"{measured[0][1].progress.questions:,}",
        f"{median(shares):.2%}, {verdict(median(shares), most=MOST)}",
        spread([first.seconds for first, _ in measured], digits=1),
        spread([second.seconds for _, second in measured], digits=1),
    )
    headings = ("questions, first night", "second night", "share, goal", "first night, s", "second night, s")
    return [Table(headings, [row], "Tiny random-weight model, warm engine, whole runs from plan to report.")]
