"""Chat data in one schema, whatever it was converted from: a data set's name, a unique id, messages by role."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.fields import Declared, WrongField, as_tuple

Role = Literal["system", "user", "assistant"]
MESSAGES_DDL: Final = "array<struct<role:string,content:string>>"


class Message(Declared):
    """What one side says in one turn."""

    role: Role
    content: str


class Conversation(Declared):
    """A conversation that teaches something: a system text at most at its beginning, then user and assistant in turn.

    `id` is `<dataset>_<n>`; where a row has no number, `n` is the beginning of its content's hash.
    """

    dataset: str = Field(min_length=1)
    id: str
    messages: Annotated[tuple[Message, ...], BeforeValidator(as_tuple)] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_turn(self) -> "Conversation":
        if not self.id.startswith(f"{self.dataset}_"):
            raise WrongField(f"takes {self.dataset}_ and something that tells the rows of the data set apart", "id")
        complaint = out_of_turn(self.messages)
        if complaint:
            raise WrongField(complaint, "messages")
        return self


def out_of_turn(messages: tuple[Message, ...]) -> str:
    """Return what is wrong with the order of messages, or ""."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in turns:
        return "a system text stands first or nowhere"
    if any(role != ("user", "assistant")[place % 2] for place, role in enumerate(turns)):
        return "user and assistant speak in turn, the user first"
    if "assistant" not in turns:
        return "no assistant speaks, so there is nothing to learn"
    if not all(message.content.strip() for message in messages):
        return "one of the messages is empty"
    return ""
