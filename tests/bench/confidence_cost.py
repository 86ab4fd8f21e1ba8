"""Part d: what the log-probabilities cost with the embedded model: the same requests with and without them."""

from statistics import median
from typing import Any

from direct import bodies_of, reads_of, salted, send
from report import Table, spread, verdict
from rig import Bench, job_on
from texts import ANSWER, CLASSIFY, messages, write_messages

from jobs.asking import ready_model, spec_of
from udfs.ask import Question, open_desk

MOST = 0.05
IN_FLIGHT = 4


def confidence(bench: Bench) -> list[Table]:
    """Send labels and short texts straight to the engine, with the figures and without, in turn."""
    count = bench.size(200, quick=40)
    rows = [_compared(bench, CLASSIFY, count), _compared(bench, ANSWER, bench.size(60, quick=20))]
    note = (
        "Embedded model, requests sent straight in POSTs of 32. *With*: as the job asks, log-probabilities of the "
        "decoded tokens and, for labels, the mass that the labels had. *Without*: the same requests, token ids only."
    )
    headings = ("task", "questions", "with, s", "without, s", "cost", "goal")
    return [Table(headings, rows, note)]


def _compared(bench: Bench, task: dict[str, Any], count: int) -> tuple[str, ...]:
    path = bench.path(task["task"])
    write_messages(bench.spark, path, messages(2, seed=0))
    job = job_on(path, task, model="smollm2")
    spec = spec_of(bench.spark, job, ready_model(job), run_id="bench")
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with open_desk(spec, owner_pid=bench.jvm_pid) as desk:
        if desk.folder is None:
            raise RuntimeError("the embedded model has a replica")
        for turn in range(-1, bench.rounds):
            questions = [Question(job.columns[0].name, "", "", (text,)) for text in messages(count, seed=turn + 1)]
            for side in ("with", "without") if turn % 2 else ("without", "with"):
                edit = _Edit(f"{side}-{turn}", has_scores=side == "with")
                bodies = bodies_of(reads_of(desk, spec, questions), desk.folder, edit)
                took = send(bodies, desk.folder.parent / "s", in_flight=IN_FLIGHT)
                print(f"  {task['task']} {side}, {turn}: {took:.2f} s", flush=True)
                if turn >= 0:
                    seconds[side].append(took)
    costs = [more / less - 1 for more, less in zip(seconds["with"], seconds["without"], strict=True)]
    cost = f"{median(costs):+.1%} ({min(costs):+.1%} to {max(costs):+.1%})"
    return (task["task"], str(count), *map(spread, seconds.values()), cost, verdict(median(costs), most=MOST))


class _Edit:
    """Salt a request and, for the bare side, take out what only the scores need."""

    def __init__(self, salt: str, *, has_scores: bool) -> None:
        self.salt, self.has_scores = salted(salt), has_scores

    def __call__(self, content: dict[str, Any]) -> None:
        self.salt(content)
        if not self.has_scores:
            for name in ("logprobs", "logprob_token_ids", "return_tokens_as_token_ids"):
                content.pop(name, None)
            content["return_token_ids"] = True
