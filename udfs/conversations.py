"""Conversations as masked tokens, in the model's own chat template, TÜLU's role tokens, or no roles at all.

Learned is what an assistant says and the token that ends it. Role tokens, the template's text, system and user are not.
Everybody's text is tokenised apart from the form's own, so that none of it becomes a control token.
"""

from collections.abc import Iterator, Sequence

from schemas.errors import EnvironmentProblem
from schemas.messages import Message, Role
from schemas.mix import Form
from udfs.fitting import Ids
from udfs.masked import Masked, Unteachable
from udfs.tokens import Tokens, clean_text

ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
Part = tuple[Ids, bool]


def encode_conversation(messages: Sequence[Message], tokens: Tokens, form: Form) -> Masked:
    """Turn a conversation into token ids and the mask of what is learned.

    Args:
        form: `template` is the model's own; `tulu` is `<|user|>`, line break, text, line break, `<|assistant|>`, line
            break, text, end of text; `completion` puts each text on a line of its own.

    Raises:
        Unteachable: a text holds one of TÜLU's role tokens, which are ordinary text to most tokenizers.
        EnvironmentProblem: the model has no chat template, or one that ends no answer.
    """
    writers = {"template": _template, "tulu": _tulu, "completion": _completion}
    return Masked.of(writers[form](messages, tokens))


def _template(messages: Sequence[Message], tokens: Tokens) -> Iterator[Part]:
    frame = tokens.turns_frame(tuple(message.role for message in messages))
    if len(frame) == len(messages):
        messages = _with_system_in_first_text(messages)
    yield frame[0], False
    for message, after in zip(messages, frame[1:], strict=True):
        is_answer = message.role == "assistant"
        yield tokens.encode_cell(clean_text(message.content)), is_answer
        end = _end_of_answer(after, tokens) if is_answer else 0
        yield after[:end], True
        yield after[end:], False


def _with_system_in_first_text(messages: Sequence[Message]) -> list[Message]:
    system, first, *others = messages
    return [Message(role="user", content=f"{system.content}\n\n{first.content}"), *others]


def _end_of_answer(after: Ids, tokens: Tokens) -> int:
    """How many of the template's tokens after an answer the model must say itself: up to the one that ends it."""
    for place, token in enumerate(after):
        if token in tokens.eos_ids:
            return place + 1
    raise EnvironmentProblem(
        f"The chat template of {tokens.folder} ends an answer with no end-of-text token.",
        hint="Choose `form: tulu`, or set eos_token_id in the model's generation_config.json.",
    )


def _tulu(messages: Sequence[Message], tokens: Tokens) -> Iterator[Part]:
    yield tokens.start_ids, False
    for place, message in enumerate(messages):
        text = clean_text(message.content).strip()
        if any(role in text for role in ROLE_TOKENS.values()):
            raise Unteachable("forged_role")
        lead = "\n" if place else ""
        yield tokens.encode_trusted(f"{lead}{ROLE_TOKENS[message.role]}\n"), False
        yield from _said(tokens.encode_cell(text), message.role, tokens)


def _completion(messages: Sequence[Message], tokens: Tokens) -> Iterator[Part]:
    yield tokens.start_ids, False
    for message in messages:
        text = clean_text(message.content)
        if message.role != "assistant" and not text.endswith("\n"):
            text += "\n"
        yield from _said(tokens.encode_cell(text), message.role, tokens)


def _said(ids: Ids, role: Role, tokens: Tokens) -> Iterator[Part]:
    is_answer = role == "assistant"
    yield ids, is_answer
    yield tokens.eos_ids[:1] if is_answer else (), True
