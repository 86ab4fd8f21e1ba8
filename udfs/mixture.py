"""What executors do for a mixture: generate pairs, cut conversations, and turn records into training rows.

A record is what a source said, before anything was drawn: `task` and `texts` and `answer` (the truth's text), or
`messages`. A row is what training reads, drawn anew for every copy of its record from (seed, id) alone.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from random import Random
from typing import Any, Final

import pandas as pd

from schemas.card import ModelCard
from schemas.job import ModelRef
from schemas.messages import MESSAGES_DDL, Message, out_of_turn
from schemas.mix import Form, Pairs
from schemas.tables import ddl
from schemas.tasks import AnyTask
from schemas.training_row import TRAINING_ROWS, TrainingRow
from udfs.ask import check_code
from udfs.conversations import encode_conversation
from udfs.examples import frame_of
from udfs.generated import asking_of
from udfs.hush import hushed
from udfs.layouts import laid_out
from udfs.lessons import TASK, Teacher
from udfs.masked import Unteachable
from udfs.models import stage
from udfs.parse import dumps
from udfs.pieces import messages_of, pieces_of
from udfs.tokens import Tokens, load_tokens
from udfs.truth import answer_of
from udfs.variation import Asking, Way, asked_in, choose, share_of, ways_of

# `shape` says how a record becomes a row: task, varied, instruction, prompt or chat
RECORDS: Final = {
    "source": "int",
    "dataset": "string",
    "shape": "string",
    "task": "string",
    "texts": "array<string>",
    "answer": "string",
    "messages": MESSAGES_DDL,
    "split_keys": "array<string>",
    "dropped": "string",
}
ROWS_DDL: Final = ddl({**TRAINING_ROWS, "dropped": "string"})
ID_LETTERS: Final = 16
PLACE_BITS: Final = 63
GROUP_BITS: Final = 40
ROWS_OF_A_WAY: Final = 16
MOST_WAYS: Final = 256
ROWS_TOGETHER: Final = 8
DECLARED_OUTSIDE: Final = {"accept", "reference", "score", "second_look"}

Frames = Iterator[pd.DataFrame]
Row = dict[str, Any]


@dataclass(frozen=True)
class MixSpec:
    """All that an executor needs to know of a mixture."""

    model: ModelRef
    digest: str
    card: ModelCard
    form: Form
    longest: int
    seed: int
    code: str


def task_json(task: AnyTask) -> str:
    """A task as a row holds it: what of it is asked, on one line."""
    return task.model_dump_json(by_alias=True, exclude=DECLARED_OUTSIDE, exclude_defaults=True)


def seeded(*parts: str | int) -> Random:
    """A source of choices that these parts alone decide, in every process and on every machine."""
    return Random(" ".join(map(str, parts)))  # noqa: S311 - no secret


def generator(pairs: Pairs, seed: int, constants: Row) -> Callable[[Frames], Frames]:
    """The function for `DataFrame.mapInPandas` that makes one record of generated pairs for every `id`."""
    return hushed(partial(_generate, pairs, seed, constants))


def _generate(pairs: Pairs, seed: int, constants: Row, frames: Frames) -> Frames:
    for frame in frames:
        rows = []
        for number in frame["id"]:
            asking = asking_of(pairs, seeded(seed, constants["dataset"], number))
            answer = asking.answer if isinstance(asking.answer, str) else dumps(asking.answer)
            texts = list(asking.inputs)
            rows.append({**constants, "task": task_json(asking.task), "texts": texts, "answer": answer})
        yield frame_of(rows, list(RECORDS))


def cutter(spec: MixSpec, constants: Row) -> Callable[[Frames], Frames]:
    """The function for `DataFrame.mapInPandas` from columns roles, texts and split_keys to records of chat."""
    return hushed(partial(_cut, spec, constants))


def _cut(spec: MixSpec, constants: Row, frames: Frames) -> Frames:
    tokens = _tokens(spec.model, spec.digest)

    def size(messages: Sequence[Message]) -> int:
        return len(encode_conversation(messages, tokens, spec.form).ids)

    for frame in frames:
        rows = []
        for roles, texts, keys in zip(frame["roles"], frame["texts"], frame["split_keys"], strict=True):
            common = {**constants, "split_keys": keys}
            turns = list(zip(_listed(roles), _listed(texts), strict=True))
            rows += [common | found for found in _pieces(turns, size, spec.longest)]
        yield frame_of(rows, list(RECORDS))


def _pieces(
    turns: Sequence[tuple[str | None, str | None]], size: Callable[[Sequence[Message]], int], longest: int
) -> Iterator[Row]:
    try:
        for piece in pieces_of(messages_of(turns), size, longest):
            if piece is None:
                yield {"dropped": "over_long"}
            else:
                yield {"messages": [message.model_dump() for message in piece]}
    except Unteachable as problem:
        yield {"dropped": problem.reason}


def renderer(spec: MixSpec) -> Callable[[Frames], Frames]:
    """The function for `DataFrame.mapInPandas` from records with `content` and `copy` to training rows.

    A record that teaches nothing becomes a row that has only its data set and, under `dropped`, the reason.
    """
    return hushed(partial(_render, spec))


def _render(spec: MixSpec, frames: Frames) -> Frames:
    check_code(spec.code)
    teacher = Teacher(_tokens(spec.model, spec.digest), spec.card, form=spec.form, longest=spec.longest)
    for frame in frames:
        columns = [frame[name] for name in frame.columns]
        records = (dict(zip(frame.columns, values, strict=True)) for values in zip(*columns, strict=True))
        yield frame_of([row_of(record, spec.seed, teacher) for record in records], [*TRAINING_ROWS, "dropped"])


def row_of(record: Row, seed: int, teacher: Teacher) -> Row:
    """Turn one record into a row of `TRAINING_ROWS`, or say why it is dropped."""
    dataset, copy = record["dataset"], int(record["copy"])
    row_id = f"{dataset}_{record['content'][:ID_LETTERS]}" + (f"_{copy}" if copy else "")
    rng = seeded(seed, row_id)
    within = rng.getrandbits(PLACE_BITS - GROUP_BITS)
    try:
        drawn, group = _drawn(record, rng, seed)
        row = TrainingRow(dataset=dataset, id=row_id, **drawn)
        examples = teacher.examples(row)
    except Unteachable as problem:
        return {"dataset": dataset, "dropped": problem.reason}
    learned = sum(example.learned for example in examples)
    together = seeded(seed, dataset, group or row_id).getrandbits(GROUP_BITS)
    return row.model_dump() | {
        "place": together << (PLACE_BITS - GROUP_BITS) | within,
        "turns": sum(example.answers for example in examples),
        "prompt_tokens": sum(len(example.ids) for example in examples) - learned,
        "completion_tokens": learned,
        "content": record["content"],
        "split_keys": _listed(record["split_keys"]),
    }


def _drawn(record: Row, rng: Random, seed: int) -> tuple[Row, str]:
    """A row's own part, and the name of the rows that it stands together with; "" where it stands alone."""
    texts = _listed(record["texts"])
    if record["shape"] in ("task", "varied"):
        return _asked(record, texts, rng, seed)
    if record["shape"] == "instruction":
        messages = laid_out(texts[0] or "", texts[1], record["answer"], rng)
    elif record["shape"] == "prompt":
        messages = (Message(role="user", content=texts[0] or ""), Message(role="assistant", content=record["answer"]))
    else:
        messages = tuple(Message(**message) for message in record["messages"])
    if out_of_turn(messages):
        raise Unteachable("odd_turns")
    return {"kind": "chat", "messages": messages}, ""


def _asked(record: Row, texts: list[str | None], rng: Random, seed: int) -> tuple[Row, str]:
    """Ask in the task's own way or in one of many, each of which is taken by about `ROWS_OF_A_WAY` rows or more."""
    task = _task(record["task"])
    asking = Asking(task, tuple(texts), json.loads(answer_of(task, record["answer"])))
    peers, way = int(record["peers"]), -1
    ways = _ways(record["task"], min(MOST_WAYS, peers // ROWS_OF_A_WAY) or 1, seed) if _is_varied(record) else ()
    if ways:
        way = choose(asking, ways, rng)
        asking = asking if way < 0 else asked_in(asking, ways[way])
    # rows of one way stand together in small groups, so that no stretch of training is about one label set alone
    share = 1.0 if way < 0 else share_of(ways[way], ways)
    groups = max(1, round(peers * share / ROWS_TOGETHER))
    row = {"kind": "task", "task": task_json(asking.task), "inputs": asking.inputs, "answer": dumps(asking.answer)}
    return row, f"{record['task']} {way} {rng.randrange(groups)}"


def _is_varied(record: Row) -> bool:
    return bool(record["shape"] == "varied")


@lru_cache(maxsize=64)
def _ways(task: str, count: int, seed: int) -> tuple[Way, ...]:
    return ways_of(_task(task), count, seeded(seed, task))


def _listed(values: Any) -> list[Any]:
    """Spark hands arrays over as arrays of numpy, and nulls as None."""
    return [] if values is None else list(values)


@lru_cache(maxsize=256)
def _task(text: str) -> AnyTask:
    return TASK.validate_json(text)


@lru_cache(maxsize=4)
def _tokens(model: ModelRef, digest: str) -> Tokens:
    return load_tokens(str(stage(model, expect_digest=digest).folder))
