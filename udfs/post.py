"""One POST of token-id prompts over a replica's Unix socket, and what may come of it."""

import http
import http.client
import json
import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from udfs.closed_set import garbage_token
from udfs.engine_command import SERVED_NAME
from udfs.watchdog import is_healthy
from udfs.wire import Read, Reply

# logits.py parks log(1 / mass) this far below zero on the garbage token.
PARKED_AT: Final = -100.0
# Text that repeats itself eight times over will not stop by itself; shorter patterns are honest in numbers (0000000).
REPETITION: Final = {"max_pattern_size": 40, "min_pattern_size": 3, "min_count": 8}
# An engine that is being ended answers what it has in hand with 200 and `abort`: such text is no answer.
FINISHED: Final = frozenset({"stop", "length", "repetition"})
OVER_LONG_WORDS: Final = ("maximum context length", "maximum model length", "max_model_len")


class Outcome(Enum):
    """What became of a POST."""

    ANSWERED = "answered"
    REFUSED = "refused"
    OVER_LONG = "over_long"
    GARBLED = "garbled"
    DEAD = "dead"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Result:
    """A POST's outcome; replies in the order of its prompts when it was answered."""

    outcome: Outcome
    replies: list[Reply] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """Reads that may share a POST: they differ in nothing but the prompt."""

    max_tokens: int
    choices: str | None
    schema: str | None
    stop_token_ids: tuple[int, ...]

    @classmethod
    def of(cls, read: Read) -> "Kind":
        """The kind of one read."""
        return cls(read.max_tokens, read.choices, read.schema, read.stop_token_ids)

    def body(self, prompts: Sequence[Sequence[int]], *, garbage: int | None) -> bytes:
        """The request: ids in, ids and log-probabilities out, no text made on the way."""
        extra: dict[str, Any] = {"burnish_ids": 1}
        content: dict[str, Any] = {
            "model": SERVED_NAME,
            "prompt": prompts,
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "logprobs": 0,
            "return_tokens_as_token_ids": True,
            "stop_token_ids": self.stop_token_ids,
            "vllm_xargs": extra,
        }
        if garbage is not None:
            extra["burnish_choices"] = self.choices
            content |= {"logprobs": 1, "logprob_token_ids": [garbage]}
        elif self.schema is not None:
            content["structured_outputs"] = {"json": self.schema}
        else:
            content["repetition_detection"] = REPETITION
        return json.dumps(content, separators=(",", ":")).encode()


class Line(http.client.HTTPConnection):
    """One connection to a server on a Unix socket, for one POST: a fresh one cannot have been closed for idling."""

    def __init__(self, address: Path) -> None:
        """Remember where to connect."""
        super().__init__("replica")
        self.address = address

    def connect(self) -> None:
        """Open the socket; how long to wait is the window's business, which can end the wait by `cut`."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.address))

    def cut(self) -> None:
        """End a wait in another thread: the engine drops what it was doing for this connection."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def send_reads(self, kind: Kind, prompts: Sequence[Sequence[int]], choices_dir: Path) -> Result:
        """Ask the engine and wait for its answer."""
        garbage = garbage_token(choices_dir, kind.choices) if kind.choices else None
        headers = {"Content-Type": "application/json", "Connection": "close"}
        try:
            self.connect()
        except OSError:
            return Result(Outcome.UNREACHABLE)
        try:
            self.request("POST", "/v1/completions", kind.body(prompts, garbage=garbage), headers)
            response = self.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException):
            return Result(Outcome.DEAD)
        finally:
            self.close()
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._unanswered()
        if status != http.HTTPStatus.OK:
            is_long = any(word in content.decode(errors="replace") for word in OVER_LONG_WORDS)
            return Result(Outcome.OVER_LONG if is_long else Outcome.REFUSED)
        try:
            return Result(Outcome.ANSWERED, parse_replies(content, prompts, garbage=garbage))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return self._unanswered()

    def _unanswered(self) -> Result:
        # One request can fail inside a healthy engine; a dead or ending one says so when asked.
        return Result(Outcome.GARBLED if is_healthy(self.address) else Outcome.DEAD)


def parse_replies(content: bytes, prompts: Sequence[Sequence[int]], *, garbage: int | None) -> list[Reply]:
    """Read a response; its choices stand in the order of the prompts.

    Raises:
        ValueError: it is no whole response to these prompts (KeyError, TypeError, IndexError likewise).
    """
    body = json.loads(content)
    choices = body["choices"]
    if len(choices) != len(prompts):
        raise ValueError("another number of choices than prompts")
    details = body.get("usage", {}).get("prompt_tokens_details") or {}
    cached = int(details.get("cached_tokens") or 0)
    mark = None if garbage is None else f"token_id:{garbage}"
    return [_reply(choice, len(prompt), cached, mark) for choice, prompt in zip(choices, prompts, strict=True)]


def _reply(choice: dict[str, Any], prompt_tokens: int, cached: int, mark: str | None) -> Reply:
    spoken = choice["logprobs"]
    ids = tuple(int(token[len("token_id:") :]) for token in spoken["tokens"])
    logprobs = tuple(map(float, spoken["token_logprobs"]))
    if len(ids) != len(logprobs):
        raise ValueError("another number of log-probabilities than tokens")
    if choice["finish_reason"] not in FINISHED:
        raise ValueError("the decode was broken off")
    masses: tuple[float, ...] = ()
    if mark is not None:
        masses = tuple(min(1.0, math.exp(PARKED_AT - step[mark])) for step in spoken["top_logprobs"])
    return Reply(
        token_ids=ids,
        logprobs=logprobs,
        masses=masses,
        finish=choice["finish_reason"],
        prompt_tokens=prompt_tokens,
        cached_tokens=min(cached, prompt_tokens),
    )
