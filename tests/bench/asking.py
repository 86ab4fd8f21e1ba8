"""Part a: questions ÷ wall time of the ask phase, commits included, over the same requests sent straight."""

from pathlib import Path
from statistics import median
from typing import Any

from direct import bodies_of, reads_of, salted, send
from report import Table, spread, verdict
from rig import Bench, job_on
from shapes import TINY, write_model
from texts import ANSWER, CLASSIFY, messages, write_messages

from jobs.asking import ready_model, spec_of
from jobs.run import run
from jobs.store import store_of
from schemas.job import EnrichJob
from schemas.options import RunOptions
from udfs.ask import AskSpec, Desk, Question, open_desk

LEAST = 0.85
# the job's own: two tasks of 64 reads, 32 to a POST
IN_FLIGHT = 4
# free text of a model with random weights is no sentence and has no end; that is not what is measured
OF_RANDOM_WEIGHTS = {"truncated", "invalid_output"}


def ask_tiny(bench: Bench) -> list[Table]:
    """Measure with a model so small that everything but the engine shows: 6,000 labels, then 6,000 short texts."""
    model = {"path": str(write_model(bench.folder / "tiny", TINY, weights=True))}
    count = bench.size(6000, quick=300)
    rows = [
        _compared(bench, {**CLASSIFY, "accept": 0.0}, model, count, goal=True),
        _compared(bench, ANSWER, model, count, goal=True),
    ]
    return [_table(rows)]


def ask_smollm2(bench: Bench) -> list[Table]:
    """Measure with the embedded model, as the demo runs it."""
    return [_table([_compared(bench, CLASSIFY, "smollm2", bench.size(300, quick=40), goal=False)])]


def _table(rows: list[tuple[str, ...]]) -> Table:
    headings = ("task", "questions", "job, q/s", "straight, q/s", "job ÷ straight", "goal")
    note = (
        "Medians and ranges of interleaved rounds, each with texts of its own, engine warm. *Job*: the ask phase from "
        "the questions table to the last commit. *Straight*: the same token ids in the same POSTs, "
        f"{IN_FLIGHT} in flight, made beforehand, responses not parsed, under a cache salt so that neither side warms "
        "the other's prefix cache."
    )
    return Table(headings, rows, note)


def _compared(bench: Bench, task: dict[str, Any], model: Any, count: int, *, goal: bool) -> tuple[str, ...]:
    """Run job and straight passes in turn; the first round of each is thrown away."""
    name = task["task"]
    first = _job(bench, task, model, -1, count=max(20, count // 20))
    asked = spec_of(bench.spark, first, ready_model(first), run_id="bench")
    ours, straight = [], []
    with open_desk(asked, owner_pid=bench.jvm_pid) as desk:
        run(bench.spark, first, options=RunOptions())
        for turn in range(bench.rounds):
            job = _job(bench, task, model, turn, count=count)
            mine, theirs = _round(bench, desk, asked, job, turn=turn, count=count)
            print(f"  {name} {turn}: job {mine:.1f}/s, straight {theirs:.1f}/s", flush=True)
            ours.append(mine)
            straight.append(theirs)
    ratios = [mine / theirs for mine, theirs in zip(ours, straight, strict=True)]
    figures = (spread(ours, digits=1), spread(straight, digits=1), spread(ratios))
    return (name, f"{count:,}", *figures, verdict(median(ratios), least=LEAST) if goal else "")


def _round(bench: Bench, desk: Desk, spec: AskSpec, job: EnrichJob, *, turn: int, count: int) -> tuple[float, float]:
    """Return questions/s of the job and of the straight pass; who goes first changes from round to round."""
    if turn % 2:
        mine = _asked(bench, job)
        return mine, _sent(desk, spec, job, turn, count)
    theirs = _sent(desk, spec, job, turn, count)
    return _asked(bench, job), theirs


def _job(bench: Bench, task: dict[str, Any], model: Any, turn: int, *, count: int) -> EnrichJob:
    """Write a round's table; all rounds of a task share a store, as nights do."""
    path = bench.path(f"{task['task']}-{turn}")
    write_messages(bench.spark, path, messages(count, seed=turn + 1))
    return job_on(path, task, model=model, store=bench.path(f"{task['task']}-store"))


def _asked(bench: Bench, job: EnrichJob) -> float:
    result = run(bench.spark, job, options=RunOptions())
    asked = result.progress
    failed = store_of(job).read(bench.spark, "answers").where("status = 'failed'").select("error").distinct()
    if strange := {row["error"] for row in failed.collect()} - OF_RANDOM_WEIGHTS:
        raise RuntimeError(f"{asked.failed} of {asked.questions} questions failed: {', '.join(sorted(strange))}")
    if asked.done != asked.questions:
        raise RuntimeError(f"{asked.done} of {asked.questions} questions were answered")
    return asked.done / asked.seconds


def _sent(desk: Desk, spec: AskSpec, job: EnrichJob, turn: int, count: int) -> float:
    task = job.columns[0]
    questions = [Question(task.name, "", "", (text,)) for text in messages(count, seed=turn + 1)]
    folder = desk.folder or Path()
    bodies = bodies_of(reads_of(desk, spec, questions), folder, salted(f"turn-{turn}"))
    return count / send(bodies, folder.parent / "s", in_flight=IN_FLIGHT)
