"""Rows of a mixture as masked tokens: conversations by their form, task rows by the code that asks."""

import json
from collections.abc import Sequence
from functools import lru_cache

from pydantic import TypeAdapter

from schemas.card import ModelCard
from schemas.errors import JobFileError
from schemas.mix import Form
from schemas.tasks import AnyTask, Classify
from schemas.training_row import TrainingRow
from udfs.ask import inquiry_of
from udfs.conversations import encode_conversation
from udfs.fitting import Ids
from udfs.masked import Masked, Unteachable
from udfs.questions import Inquiry, Setting
from udfs.tokens import Tokens
from udfs.wire import Read, Reply

TASK: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
KNOWN_TASKS = 1024


class Teacher:
    """Turns training rows into examples of at most `longest` tokens for one model."""

    def __init__(self, tokens: Tokens, card: ModelCard, *, form: Form, longest: int) -> None:
        """Say for which model; `form` is that of conversations, the card names that of tasks."""
        self._tokens, self._form, self._longest = tokens, form, longest
        # what is taught is read by the model that it makes: its labels end as a tuned model's do
        self._setting = Setting(tokens, card.model_copy(update={"tuned": True}), longest)
        # rows that are asked in one way share its prompt
        self._inquiry = lru_cache(maxsize=KNOWN_TASKS)(self._made)

    def examples(self, row: TrainingRow) -> list[Masked]:
        """Return what is learned from a row: one example, or one per read of a task that is asked in several.

        Raises:
            Unteachable: nothing can be learned from it; the reason is one stable word.
        """
        if row.messages is not None:
            return [encode_conversation(row.messages, self._tokens, self._form).cut(self._longest)]
        return self._of_task(row.task or "", row.inputs or (), row.answer or "")

    def _made(self, task: str) -> Inquiry:
        asked = TASK.validate_json(task)
        # every label's own score takes other reads, and no other prompt
        plain = asked.model_copy(update={"scores": False}) if isinstance(asked, Classify) else asked
        return inquiry_of(plain, self._setting)

    def _of_task(self, task: str, inputs: Sequence[str | None], answer: str) -> list[Masked]:
        try:
            inquiry = self._inquiry(task)
        except JobFileError as problem:
            # a varied label set may come to read like another label to this tokenizer; the row goes, the mixture stays
            raise Unteachable("unclear_labels") from problem
        asked = inquiry.asked(inputs)
        if asked.error:
            raise Unteachable(asked.error)
        if asked.windows > 1:
            # which window states the answer is not known
            raise Unteachable("windowed")
        taught = inquiry.taught(asked.values, json.loads(answer))
        end = self._tokens.eos_ids[:1]
        found = inquiry.answered(asked, [_as_decoded((*ids, *end)) for ids in taught])
        if found.error or found.value != answer:
            raise Unteachable("not_as_decoded")
        reads = asked.reads[: len(taught)]
        if any(_is_too_long(read, ids) for read, ids in zip(reads, taught, strict=True)):
            raise Unteachable("answer_too_long")
        pairs = zip(reads, taught, strict=True)
        return [Masked.of([(read.prompt, False), ((*ids, *end), True)]) for read, ids in pairs]


def _is_too_long(read: Read, ids: Ids) -> bool:
    """Whether a free decode would be cut before its end; a closed one has room for its longest label."""
    return read.choices is None and len(ids) >= read.max_tokens


def _as_decoded(ids: Ids) -> Reply:
    """What an engine that is sure of these tokens would send."""
    return Reply(ids, logprobs=(0.0,) * len(ids), masses=(1.0,) * len(ids), finish="stop")
