"""One row of a mixture, as it stands in a Delta table that training reads."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.fields import Declared, as_tuple
from schemas.messages import MESSAGES_DDL, Conversation, Message

# Sorted by `place`, the table is shuffled: a fair order that the seed alone decides. `turns` counts trained answers.
TRAINING_ROWS: Final = {
    "place": "bigint",
    "dataset": "string",
    "id": "string",
    "kind": "string",
    "messages": MESSAGES_DDL,
    "task": "string",
    "inputs": "array<string>",
    "answer": "string",
    "turns": "int",
    "prompt_tokens": "int",
    "completion_tokens": "int",
    "content": "string",
    "split_keys": "array<string>",
}


class TrainingRow(Declared):
    """What is learned from one row: a conversation, or the answer to one question of a task.

    A task row holds the task, the inputs and the answer instead of a prompt's text, and is turned into tokens by the
    very code that asks (`udfs.questions`). Its text would have to be split into tokens a second time, and could then
    differ from what a run sends: at the seam of cue and answer, in cells that spell control tokens, in cut cells. It
    would also fix in the data what belongs to the model, the form of its prompts. For a conversation there is no such
    code: its messages are the data. No row is both: one has `messages`, the other `task`, `inputs` and `answer`.

    Attributes:
        id: `<dataset>_<n>`, unique in the table.
        task: JSON of the task as asked about this row, labels resolved and varied.
        inputs: texts in the order of the task's inputs, as the questions table holds them.
        answer: canonical JSON, as the answers table holds it.
    """

    dataset: str = Field(min_length=1)
    id: str
    kind: Literal["chat", "task"]
    messages: Annotated[tuple[Message, ...] | None, BeforeValidator(as_tuple)] = None
    task: str | None = None
    inputs: Annotated[tuple[str | None, ...] | None, BeforeValidator(as_tuple)] = None
    answer: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "TrainingRow":
        asked = [part is not None for part in (self.task, self.inputs, self.answer)]
        if (self.messages is not None) != (self.kind == "chat") or set(asked) != {self.kind == "task"}:
            raise ValueError("a chat row has messages, a task row task, inputs and answer, and neither the other's")
        if self.messages is not None:
            Conversation(dataset=self.dataset, id=self.id, messages=self.messages)
        return self
