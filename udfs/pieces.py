"""ShareGPT conversations as pieces that fit a token limit, cut between a pair of question and answer and the next."""

from collections.abc import Callable, Iterator, Sequence

from schemas.messages import Message, Role, out_of_turn
from udfs.masked import Unteachable

ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}


def messages_of(turns: Sequence[tuple[str | None, str | None]]) -> tuple[Message, ...]:
    """Return the messages of a conversation's turns, each a role by any of its names and a text.

    A question at the end that nobody answers is left out.

    Raises:
        Unteachable: a role is none of ours (`odd_role`), or the turns are out of order or empty (`odd_turns`).
    """
    found = []
    for role, text in turns:
        if role not in ROLES:
            raise Unteachable("odd_role")
        found.append(Message(role=ROLES[role], content=(text or "").strip()))
    messages = tuple(found[:-1] if found and found[-1].role == "user" else found)
    if not messages or out_of_turn(messages):
        raise Unteachable("odd_turns")
    return messages


def pieces_of(
    messages: Sequence[Message], tokens_in: Callable[[Sequence[Message]], int], longest: int
) -> Iterator[tuple[Message, ...] | None]:
    """Cut a conversation into pieces of whole pairs, as long as they fit; None for a pair that is too long alone.

    Each piece begins with the system text, if there is one.

    Args:
        tokens_in: how many tokens messages take together.
    """
    system = tuple(messages[:1]) if messages[0].role == "system" else ()
    turns = messages[len(system) :]
    piece: tuple[Message, ...] = system
    for start in range(0, len(turns), 2):
        pair = tuple(turns[start : start + 2])
        if tokens_in((*piece, *pair)) <= longest:
            piece = (*piece, *pair)
            continue
        if piece != system:
            yield piece
        fits = tokens_in((*system, *pair)) <= longest
        piece = (*system, *pair) if fits else system
        if not fits:
            yield None
    if piece != system:
        yield piece
