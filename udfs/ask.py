"""Questions in, answers out: the function that Spark runs on executors, and the same without Spark."""

import fcntl
import hashlib
import importlib.resources
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from schemas.card import ModelCard
from schemas.errors import EnvironmentProblem
from schemas.job import ModelRef
from schemas.tables import ANSWERS, ddl
from schemas.tasks import AnyTask, Extract
from udfs import logs
from udfs.client import Client
from udfs.closed import ClosedInquiry, closed_inquiry
from udfs.closed_set import ClosedSet
from udfs.endpoint import CHARACTERS_PER_TOKEN, Capabilities, EndpointClient, key_of
from udfs.engine_command import ReplicaSpec
from udfs.free import FreeText, Struct
from udfs.hush import hushed
from udfs.models import stage
from udfs.questions import Answered, Asked, Inquiry, Setting
from udfs.replica import hold
from udfs.second_look import SecondLook
from udfs.thinking import Thinking
from udfs.tokens import load_tokens
from udfs.wire import Read, Reply

if TYPE_CHECKING:
    from pyspark import Accumulator

OUTPUT: Final = {name: kind for name, kind in ANSWERS.items() if name not in ("lane", "lane_version")}
OUTPUT_DDL: Final = ddl(OUTPUT)
ROWS_PER_FRAME: Final = 256

log = logging.getLogger(__name__)

Row = dict[str, Any]
Key = tuple[int, int]


@dataclass(frozen=True)
class AskSpec:
    """All that an executor needs to answer the questions of some tasks; never a key."""

    tasks: tuple[AnyTask, ...]
    fingerprints: tuple[tuple[str, str], ...]
    card: ModelCard
    model: ModelRef
    digest: str
    replica: ReplicaSpec | None
    window: int
    run_id: str
    model_name: str = ""
    log_json: bool = False
    code: str = ""
    capabilities: Capabilities | None = None
    key_file: str = ""
    endpoint_max_model_len: int = 4096

    @property
    def max_model_len(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self.replica.max_model_len if self.replica else self.endpoint_max_model_len


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it stands in the questions table."""

    task: str
    fingerprint: str
    question_id: str
    inputs: tuple[str | None, ...]


@dataclass(frozen=True)
class First:
    """A question's answer as its first reads gave it."""

    question: Question
    asked: Asked
    answer: Answered
    replies: Sequence[Reply]


@dataclass
class Desk:
    """An engine that is ready: how to run reads, how to make a set known, and whether others share it."""

    run: Callable[[Iterable[tuple[Any, list[Read]]]], Iterator[tuple[Any, list[Reply]]]]
    register: Callable[[ClosedSet], object]
    setting: Setting
    folder: Path | None = None


@dataclass(frozen=True)
class Tally:
    """Spark accumulators for what tasks have answered: each task's share arrives with its end, before any commit."""

    rows: "Accumulator[int]"
    tokens: "Accumulator[int]"
    failed: "Accumulator[int]"

    def count(self, rows: Sequence[Row]) -> None:
        """Add these answers."""
        self.rows.add(len(rows))
        self.tokens.add(sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows))
        self.failed.add(sum(row["status"] != "ok" for row in rows))


def model_facts(
    digest: str, card: ModelCard, capabilities: Capabilities | None = None, *, engine: Mapping[str, Any]
) -> dict[str, Any]:
    """What of a model enters a fingerprint: its weights, the form of its prompts, reads and decoding.

    Args:
        engine: the settings of its engine that change answers.
    """
    facts = card.model_dump(mode="json", include={"prompt", "read", "prior_correction"})
    facts |= {"digest": digest, "decoding": "greedy", "engine": dict(engine)}
    if capabilities is not None:
        facts["endpoint"] = {"json_schema": capabilities.json_schema, "choice": capabilities.choice}
    return facts


def inquiry_of(task: AnyTask, setting: Setting) -> Inquiry:
    """The task as it can be asked of this model."""
    if task.think:
        plain = inquiry_of(task.model_copy(update={"think": False}), setting)
        return Thinking(task, setting, plain)
    if isinstance(task, Extract):
        return Struct(task, setting)
    return closed_inquiry(task, setting) or FreeText(task, setting)


def asker(spec: AskSpec, tally: Tally | None = None) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """The function for `DataFrame.mapInPandas` over the questions' columns task, fingerprint, question_id, inputs."""
    return hushed(partial(answer_frames, spec, tally))


def answer_frames(spec: AskSpec, tally: Tally | None, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Answer every row of the frames, in any order, one row out for one row in."""
    check_code(spec.code)
    if spec.log_json:
        logs.configure(as_json=True)
    began, given = time.monotonic(), 0
    answers = answer_questions(spec, _questions(frames), addresses=_gpu_addresses())
    while True:
        with logs.in_run(spec.run_id):
            rows = list(islice(answers, ROWS_PER_FRAME))
        given += len(rows)
        if tally is not None:
            tally.count(rows)
        yield pd.DataFrame(rows, columns=list(OUTPUT))
        if len(rows) < ROWS_PER_FRAME:
            break
    with logs.in_run(spec.run_id):
        log.info("task answered", extra=logs.facts(rows=given, seconds=round(time.monotonic() - began, 3)))


def answer_questions(
    spec: AskSpec, questions: Iterable[Question], *, addresses: tuple[str, ...] = (), owner_pid: int | None = None
) -> Iterator[Row]:
    """Answer questions through this host's replica or the endpoint; needs no Spark.

    Raises:
        EnvironmentProblem: the engine does not start or cannot be kept alive, or the model differs from the driver's.
    """
    with open_desk(spec, addresses=addresses, owner_pid=owner_pid) as desk:
        yield from answer_at(desk, spec, questions)


def answer_at(desk: Desk, spec: AskSpec, questions: Iterable[Question]) -> Iterator[Row]:
    """Answer questions at a desk that is open."""
    inquiries = {task.name: inquiry_of(task, desk.setting) for task in spec.tasks}
    looks = {
        task.name: SecondLook(inquiries[task.name], task.second_look)
        for task in spec.tasks
        if task.second_look is not None
    }
    for inquiry in inquiries.values():
        _register(desk, inquiry)
    for second in looks.values():
        desk.register(second.closed)
    taken = 0
    doubtful: list[tuple[First, Read]] = []

    def work() -> Iterator[tuple[tuple[Question, Asked], list[Read]]]:
        nonlocal taken
        for question in questions:
            asked = inquiries[question.task].asked(question.inputs)
            taken += 1
            yield (question, asked), list(asked.reads)

    given = 0
    for (question, asked), replies in desk.run(work()):
        given += 1
        first = First(question, asked, inquiries[question.task].answered(asked, replies), replies)
        if question.task in looks:
            look = looks[question.task]
            again = look.read(asked, first.answer)
            if again is not None:
                doubtful.append((first, again))
                continue
            first = replace(first, answer=look.scored(first.answer))
        yield _row(spec, desk, first)
    if given != taken:
        raise EnvironmentProblem(f"{taken} questions went to the engine and {given} answers came back.")
    for first, replies in desk.run((first, [read]) for first, read in doubtful):
        answer = looks[first.question.task].scored(first.answer, replies)
        yield _row(spec, desk, replace(first, answer=answer, replies=[*first.replies, *replies]))


@contextmanager
def open_desk(spec: AskSpec, *, addresses: tuple[str, ...] = (), owner_pid: int | None = None) -> Iterator[Desk]:
    """Join or start the replica, or connect to the endpoint, for as long as the block lasts."""
    if spec.replica is None:
        client = EndpointClient(
            spec.model, key_of(spec.model, spec.key_file), spec.capabilities or Capabilities(), width=spec.window
        )
        setting = Setting(
            client.tokens,
            spec.card.model_copy(update={"prompt": "chat"}),
            spec.max_model_len * CHARACTERS_PER_TOKEN,
            is_endpoint=True,
        )
        yield Desk(client.run, client.register, setting)
        return
    staged = _staged(spec.model, spec.digest)
    tokens = load_tokens(str(staged))
    setting = Setting(tokens, spec.card, spec.max_model_len)
    with hold(replace(spec.replica, model_dir=str(staged)), addresses=addresses, owner_pid=owner_pid) as replica:
        engine = Client(replica, window=spec.window)
        yield Desk(engine.run, lambda closed: closed.write(replica.choices_dir), setting, replica.choices_dir)


@lru_cache(maxsize=4)
def _staged(model: ModelRef, digest: str) -> Path:
    return stage(model, expect_digest=digest).folder


def _register(desk: Desk, inquiry: Inquiry) -> None:
    for closed in inquiry.sets:
        desk.register(closed)
    if isinstance(inquiry, ClosedInquiry) and inquiry.wants_prior:
        reads = inquiry.prior_reads()
        inquiry.take_prior(_prior(desk, reads) if reads else [])
        for closed in inquiry.sets:
            desk.register(closed)


def _prior(desk: Desk, reads: Sequence[Read]) -> list[list[float]]:
    """Masses of the forced reads without text; asked once per replica, whatever the number of its tasks."""
    if desk.folder is None:
        raise ValueError("an endpoint reads no label by force")
    name = hashlib.sha256(repr([(read.prompt, read.choices) for read in reads]).encode()).hexdigest()
    file = desk.folder / f"prior-{name}.json"
    with file.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            found: list[list[float]] = [[] for _ in reads]
            for place, (reply,) in desk.run((place, [read]) for place, read in enumerate(reads)):
                if len(reply.masses) != reads[place].max_tokens:
                    raise EnvironmentProblem(f"The engine did not read a label without text ({reply.error}).")
                found[place] = list(reply.masses)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.rename(file)
    masses: list[list[float]] = json.loads(file.read_text())
    return masses


def _row(spec: AskSpec, desk: Desk, first: First) -> Row:
    question, asked, answer, replies = first.question, first.asked, first.answer, first.replies
    honoured = spec.capabilities if desk.setting.is_endpoint else None
    conditional = honoured is not None and any(
        (read.choices and honoured.choice) or (read.schema and honoured.json_schema) for read in asked.reads
    )
    return {
        "question_id": question.question_id,
        "fingerprint": question.fingerprint,
        "task": question.task,
        "status": "failed" if answer.error else "ok",
        "value": None if answer.error else answer.value,
        "confidence": None if answer.error else answer.confidence,
        "label_mass": answer.label_mass,
        "scores": answer.scores,
        "error": answer.error or None,
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(len(reply.token_ids) for reply in replies),
        "cached_tokens": sum(reply.cached_tokens for reply in replies),
        "model": spec.model_name,
        "notes": [*answer.notes, *(("grammar_conditional",) if conditional else ())],
        "answered_run": spec.run_id,
        "answered_at": datetime.now(UTC),
    }


def _questions(frames: Iterator[pd.DataFrame]) -> Iterator[Question]:
    for frame in frames:
        columns = (frame[name] for name in ("task", "fingerprint", "question_id", "inputs"))
        for task, fingerprint, question_id, inputs in zip(*columns, strict=True):
            yield Question(task, fingerprint, question_id, tuple(inputs))


def _gpu_addresses() -> tuple[str, ...]:
    """The GPUs that Spark gave this task; none where Spark does not manage them."""
    from pyspark import TaskContext

    context = TaskContext.get()
    resources = context.resources() if context is not None else {}
    return tuple(resources["gpu"].addresses) if "gpu" in resources else ()


@lru_cache(maxsize=2)
def code_digest(packages: tuple[str, ...] = ("schemas", "udfs")) -> str:
    """The sha256 over the sources of packages, those that run on executors, as this process sees them."""
    total = hashlib.sha256()
    for package in packages:
        files = [file for file in importlib.resources.files(package).iterdir() if file.name.endswith(".py")]
        for file in sorted(files, key=lambda file: file.name):
            total.update(f"{package}/{file.name}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()


def check_code(expected: str) -> None:
    """Refuse to answer with other code than the driver's.

    Raises:
        EnvironmentProblem: this executor's packages differ; the message names where they came from.
    """
    if expected and code_digest() != expected:
        folders = ", ".join(str(importlib.resources.files(package)) for package in ("schemas", "udfs"))
        raise EnvironmentProblem(
            f"An executor has other sources of burnish than the driver: {folders}.",
            hint="Install the same wheel everywhere, and start no job from a folder that has a `udfs` or `schemas`.",
        )
