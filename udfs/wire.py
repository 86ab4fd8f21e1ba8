"""What goes to an engine and what comes back: token ids in, token ids and log-probabilities out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Read:
    """One prompt for the engine.

    `choices` names a closed set whose trie the decode follows, `schema` is a JSON schema's text; neither is free text.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    choices: str | None = None
    schema: str | None = None
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine decoded for one read, or the code of the reason why it did not.

    `logprobs` are those of the decoded tokens: renormalised over the allowed tokens in a constrained read, the model's
    own otherwise. `masses` (closed reads only) hold, per step, the share in [0, 1] that the model gave to the allowed
    tokens. `cached_tokens` is the engine's figure for the last prompt of the same POST.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    masses: tuple[float, ...] = ()
    finish: str = ""
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
