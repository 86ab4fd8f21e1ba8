"""What a second look at an answer is worth: the model's own word on it beside the usual score, on identical answers."""

from dataclasses import replace
from pathlib import Path

from confidences import KEEP_WARM_MIN, QUICK_ROWS, ROWS, Pile, details, ours, public_suite, summary, truths
from report import Table
from rig import Bench

from jobs.asking import ready_model, spec_of
from jobs.scores import is_right, read_value
from jobs.source import resolve_labels
from schemas.suite import SuiteSet
from schemas.yaml_file import load_job
from udfs.ask import Question, answer_at, open_desk

SETS = ("snips", "sst2", "subjectivity", "hwu64", "walmart_amazon", "flights", "xquad_en", "snips_SearchCreativeWork")
QUICK = ("snips",)
EVERY_ANSWER = 1.0  # all that are not quite sure are looked at again


def second_looks(bench: Bench) -> list[Table]:
    """Ask twice about test rows, and measure what either answer says of being right."""
    file = public_suite(bench, only=QUICK if bench.quick else SETS)
    judged = [(pile, pile.compared()) for pile in (_pile(bench, one) for one in file.sets) if pile.right]
    note = (
        f"{bench.size(ROWS, quick=QUICK_ROWS)} rows a set, each answer looked at again (`second_look: 1`), so that "
        "*second_look* is P(true) by itself, of answers as they were given. What was not asked again, for want of room "
        "or an answer, is *not scored*. Columns as under `confidences`."
    )
    return [summary("test rows, looked at twice", judged, note), *(details(*one) for one in judged)]


def _pile(bench: Bench, one: SuiteSet) -> Pile:
    job = load_job(Path(one.job))
    looks = {"second_look": EVERY_ANSWER}
    columns = tuple(task.model_copy(update=looks) for task in job.columns if task.name in one.truth)
    engine = job.engine.model_copy(update={"keep_warm_min": KEEP_WARM_MIN})
    update = {"source": one.source or job.source, "engine": engine, "columns": columns}
    job = resolve_labels(bench.spark, job.model_copy(update=update))
    spec = spec_of(bench.spark, job, ready_model(job), run_id="bench")
    pile = Pile(one.name, job.columns[0].task, job.columns[0].score_names[0])
    with open_desk(spec, owner_pid=bench.jvm_pid) as desk:
        for task in job.columns:
            rows = truths(bench, job, task, one.truth[task.name])
            questions = [Question(task.name, "", str(at), inputs) for at, (inputs, _) in enumerate(rows)]
            answered = [row for row in answer_at(desk, spec, questions) if row["status"] == "ok"]
            said = ours(bench, task, answered)
            for row in answered:
                cell = replace(rows[int(row["question_id"])][1], value=read_value(row["value"]), is_answered=True)
                pile.add(is_right(task, cell), said[row["question_id"]])
    return pile
