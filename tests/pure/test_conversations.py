"""Which tokens of a conversation are learned: masks written by hand, in every form."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_model import CONTROL, TEMPLATE, write_model

from schemas.errors import EnvironmentProblem
from schemas.messages import Conversation, Message
from udfs.conversations import ROLE_TOKENS, encode_conversation
from udfs.masked import Masked, Unteachable
from udfs.pieces import messages_of, pieces_of
from udfs.tokens import Tokens

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(write_model(tmp_path_factory.mktemp("model")))


def said(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=text) for role, text in turns]  # type: ignore[arg-type]


def stretches(tokens: Tokens, found: Masked) -> list[tuple[str, int]]:
    """The text of each stretch of tokens that are learned (1) or not (0)."""
    parts: list[tuple[list[int], int]] = []
    for token, one in zip(found.ids, found.mask, strict=True):
        if not parts or parts[-1][1] != one:
            parts.append(([], one))
        parts[-1][0].append(token)
    return [(tokens.decode(tuple(ids)), one) for ids, one in parts]


TWO_TURNS = said((SYSTEM, "be kind"), (USER, "hi"), (ASSISTANT, "yes"), (USER, "and?"), (ASSISTANT, "no refund"))


def test_template_with_a_system_turn_and_two_answers(tokens: Tokens) -> None:
    found = encode_conversation(TWO_TURNS, tokens, "template")
    assert stretches(tokens, found) == [
        ("<|start|>system\nbe kind<|end|>\n<|start|>user\nhi<|end|>\n<|start|>assistant\n", 0),
        ("yes<|end|>", 1),
        ("\n<|start|>user\nand?<|end|>\n<|start|>assistant\n", 0),
        ("no refund<|end|>", 1),
        ("\n", 0),
    ]
    assert found.answers == 2


def test_tulu_with_a_system_turn_and_two_answers(tokens: Tokens) -> None:
    assert stretches(tokens, encode_conversation(TWO_TURNS, tokens, "tulu")) == [
        ("<|system|>\nbe kind\n<|user|>\nhi\n<|assistant|>\n", 0),
        ("yes<|end|>", 1),
        ("\n<|user|>\nand?\n<|assistant|>\n", 0),
        ("no refund<|end|>", 1),
    ]


def test_completion_has_no_roles(tokens: Tokens) -> None:
    assert stretches(tokens, encode_conversation(TWO_TURNS, tokens, "completion")) == [
        ("be kind\nhi\n", 0),
        ("yes<|end|>", 1),
        ("and?\n", 0),
        ("no refund<|end|>", 1),
    ]


def test_the_mask_token_by_token(tokens: Tokens) -> None:
    found = encode_conversation(said((USER, "to"), (ASSISTANT, "yes no")), tokens, "tulu")
    pieces = [tokens.decode((token,)) for token in found.ids]
    role = ["a", "s", "s", "is", "t", "an", "t"]
    assert pieces == [*"<|", "u", "s", "er", *"|>\nto\n<|", *role, *"|>\n", "yes", " no", "<|end|>"]
    assert found.mask == (0,) * (len(pieces) - 3) + (1, 1, 1)


def test_a_prompt_is_the_beginning_that_generation_goes_on_from(tokens: Tokens) -> None:
    found = encode_conversation(said((SYSTEM, "be kind"), (USER, "hi"), (ASSISTANT, "yes")), tokens, "template")
    before, between, after = tokens.chat_frame
    prompt = (*before, *tokens.encode_cell("be kind"), *between, *tokens.encode_cell("hi"), *after)
    assert found.ids[: len(prompt)] == prompt
    assert not any(found.mask[: len(prompt)])


def test_a_cut_keeps_the_mask_and_a_row_without_a_learned_token_is_refused(tokens: Tokens) -> None:
    whole = encode_conversation(said((USER, "hi"), (ASSISTANT, "yes no refund")), tokens, "template")
    first = whole.mask.index(1)
    short = whole.cut(first + 2)
    assert short == Masked(whole.ids[: first + 2], (0,) * first + (1, 1))
    assert stretches(tokens, short)[-1] == ("yes no", 1)
    assert whole.cut(10_000) == whole
    with pytest.raises(Unteachable, match="nothing_learned"):
        whole.cut(first)


def test_a_template_that_takes_no_system_text_gets_it_with_the_first_question(tmp_path: Path) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    tokens = Tokens(write_model(tmp_path, template=refusing))
    found = encode_conversation(TWO_TURNS, tokens, "template")
    assert stretches(tokens, found)[0][0] == "<|start|>user\nbe kind\n\nhi<|end|>\n<|start|>assistant\n"


def test_a_template_that_ends_no_answer_is_refused(tmp_path: Path) -> None:
    tokens = Tokens(write_model(tmp_path, template=TEMPLATE.replace("<|end|>", "")))
    with pytest.raises(EnvironmentProblem, match="ends an answer with no end-of-text token"):
        encode_conversation(TWO_TURNS, tokens, "template")


TEXTS = st.lists(st.sampled_from([*CONTROL, "<|", "|>", "end", " ", "\n", "é", "label", "\0"]), min_size=1).map("".join)


@given(TEXTS, TEXTS)
def test_no_text_forges_a_control_token_or_moves_the_mask(tokens: Tokens, question: str, answer: str) -> None:
    messages = said((USER, question), (ASSISTANT, answer))
    plain = said((USER, "a"), (ASSISTANT, "b"))
    for form in ("template", "completion"):
        found, wanted = (encode_conversation(one, tokens, form) for one in (messages, plain))  # type: ignore[arg-type]
        control = [
            (token, one) for token, one in zip(found.ids, found.mask, strict=True) if token in tokens.control_ids
        ]
        assert control == [
            (token, one) for token, one in zip(wanted.ids, wanted.mask, strict=True) if token in tokens.control_ids
        ]
        learned = tuple(token for token, one in zip(found.ids, found.mask, strict=True) if one)
        assert tokens.decode(learned) == answer.replace("\0", "\ufffd") + "<|end|>"


@pytest.mark.parametrize("role", ROLE_TOKENS.values())
def test_a_text_that_holds_a_role_of_tulu_is_refused_there(tokens: Tokens, role: str) -> None:
    forged = said((USER, f"hi\n{role}\nyes"), (ASSISTANT, "b"))
    with pytest.raises(Unteachable, match="forged_role"):
        encode_conversation(forged, tokens, "tulu")
    assert encode_conversation(forged, tokens, "template").answers == 1


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ("uasu", "first or nowhere"),
        ("uua", "speak in turn"),
        ("au", "speak in turn"),
        ("saua", "speak in turn"),
        ("su", "nothing to learn"),
    ],
)
def test_a_conversation_out_of_turn_is_refused(roles: str, says: str) -> None:
    names = {"s": SYSTEM, "u": USER, "a": ASSISTANT}
    messages = [{"role": names[role], "content": "x"} for role in roles]
    with pytest.raises(ValidationError, match=says):
        Conversation.model_validate({"dataset": "d", "id": "d_1", "messages": messages})


def test_a_conversation_has_an_id_of_its_data_set_and_no_empty_message() -> None:
    good = {"dataset": "d", "id": "d_1", "messages": [message.model_dump() for message in TWO_TURNS]}
    assert Conversation.model_validate(good).messages == tuple(TWO_TURNS)
    with pytest.raises(ValidationError, match="takes d_ and something"):
        Conversation.model_validate(good | {"id": "e_1"})
    with pytest.raises(ValidationError, match="is empty"):
        Conversation.model_validate(
            good | {"messages": [{"role": USER, "content": "a"}, {"role": ASSISTANT, "content": " "}]}
        )


def size(messages: object) -> int:
    return sum(len(message.content) for message in messages)  # type: ignore[attr-defined]


def test_conversations_are_cut_between_pairs_and_a_pair_too_long_is_left_out() -> None:
    turns = [("system", "s"), ("human", "aa"), ("gpt", "bb"), ("human", "cc"), ("gpt", "dd"), ("human", "e" * 20)]
    messages = messages_of([*turns, ("gpt", "f"), ("human", "g"), ("gpt", "h"), ("human", "nobody answers")])
    found = [piece and "".join(message.content for message in piece) for piece in pieces_of(messages, size, 9)]
    assert found == ["saabbccdd", None, "sgh"]
    found = [piece and "".join(message.content for message in piece) for piece in pieces_of(messages, size, 8)]
    assert found == ["saabb", "sccdd", None, "sgh"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1), st.integers(2, 20))
def test_pieces_fit_and_lose_nothing_but_what_never_fits(pairs: list[tuple[int, int]], longest: int) -> None:
    messages = messages_of([turn for a, b in pairs for turn in (("user", "u" * a), ("assistant", "v" * b))])
    pieces = list(pieces_of(messages, size, longest))
    kept = [message for piece in pieces if piece for message in piece]
    assert all(size(piece) <= longest for piece in pieces if piece)
    assert kept == [
        m for at in range(0, len(messages), 2) if size(messages[at : at + 2]) <= longest for m in messages[at : at + 2]
    ]
    assert pieces.count(None) == sum(a + b > longest for a, b in pairs)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("human", "a"), ("bing", "b")], "odd_role"),
        ([("human", "a"), (None, "b")], "odd_role"),
        ([("gpt", "a"), ("human", "b")], "odd_turns"),
        ([("human", "a"), ("gpt", None)], "odd_turns"),
        ([("human", "a")], "odd_turns"),
        ([], "odd_turns"),
    ],
)
def test_odd_conversations_are_left_out(turns: list[tuple[str | None, str | None]], reason: str) -> None:
    with pytest.raises(Unteachable, match=reason):
        messages_of(turns)
