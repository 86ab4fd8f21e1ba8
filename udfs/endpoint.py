"""OpenAI-compatible endpoints through the `openai` client: the same reads, sent as text.

Whoever asks an endpoint counts in characters: a character is its own token id, and the endpoint's tokens get ids
above them.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

from openai import APIConnectionError, APIStatusError, APITimeoutError, DefaultHttpxClient, OpenAI

from schemas.errors import EnvironmentProblem
from schemas.job import ModelRef
from schemas.secrets import remember
from udfs.closed_set import ClosedSet
from udfs.urls import check_host, check_url
from udfs.wire import Read, Reply

T = TypeVar("T")

CHARACTERS_PER_TOKEN: Final = 3
END, USER, GARBAGE = 0x110000, 0x110001, 0x110002
FIRST_PIECE: Final = 0x110010
TIMEOUT_SEC: Final = 120.0
RETRIES: Final = 4  # the client waits between them, as long as `Retry-After` says
OWN_FAULTS: Final = frozenset({400, 413, 422})  # of this request alone; another may be answered
TEMPORARY: Final = frozenset({408, 409, 425, 429})
FLAGGED: Final = ("flagged", "moderation", "content_policy", "guardrail")
NOT_HONOURED: Final = frozenset({400, 404, 422, 501})
REASONS: Final = {
    401: "the key is not accepted",
    402: "the account has no credit left",
    403: "the key may not use this model",
    404: "the address or the model is not known there",
}


@dataclass(frozen=True)
class Capabilities:
    """What an endpoint honours."""

    logprobs: bool = False
    json_schema: bool = False
    choice: bool = False


class EndpointTokens:
    """Characters as tokens; what the endpoint decodes is filed under ids of its own."""

    start_ids: tuple[int, ...] = ()
    chat_frame: tuple[tuple[int, ...], ...] = ((), (USER,), ())
    control_ids = frozenset({END, USER, GARBAGE})
    eos_ids: tuple[int, ...] = (END,)
    garbage_id = GARBAGE
    newline_ids: tuple[int, ...] = (10,)
    answer_lead = ""

    def __init__(self) -> None:
        """Start with no pieces filed."""
        self._ids: dict[bytes, int] = {}
        self._pieces: list[bytes] = []
        self._lock = Lock()

    def encode_cell(self, text: str) -> tuple[int, ...]:
        """One id per character."""
        return tuple(map(ord, text))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a character or of a filed piece."""
        return self._pieces[token - FIRST_PIECE] if token >= FIRST_PIECE else chr(token).encode()

    def file(self, piece: bytes) -> int:
        """The id of a piece that an endpoint decoded."""
        with self._lock:
            if piece not in self._ids:
                self._ids[piece] = FIRST_PIECE + len(self._pieces)
                self._pieces.append(piece)
            return self._ids[piece]


class EndpointClient:
    """Runs reads as chat completions, at most `width` requests at once."""

    def __init__(self, model: ModelRef, key: str, capabilities: Capabilities, *, width: int) -> None:
        """Set up; nothing is sent yet.

        Raises:
            JobFileError: the URL is not allowed.
        """
        self.tokens = EndpointTokens()
        self._model, self._capabilities, self._width = model.model or "", capabilities, max(1, width)
        self._client = client_of(model, key)
        self._sets: dict[str, ClosedSet] = {}

    def register(self, closed: ClosedSet) -> None:
        """Make a closed set known by its name."""
        self._sets[closed.name] = closed

    def run(self, work: Iterable[tuple[T, list[Read]]]) -> Iterator[tuple[T, list[Reply]]]:
        """Answer all work, in any order; it is pulled only as requests come back."""
        pending: dict[Future[list[Reply]], T] = {}
        source = iter(work)
        with ThreadPoolExecutor(self._width) as pool:
            for item, reads in source:
                pending[pool.submit(self._replies, reads)] = item
                if len(pending) >= self._width:
                    yield from _finished(pending)
            while pending:
                yield from _finished(pending)

    def _replies(self, reads: list[Read]) -> list[Reply]:
        return [self._reply(read) for read in reads]

    def _reply(self, read: Read) -> Reply:
        try:
            answer = self._client.chat.completions.create(**self._request(read))
        except APITimeoutError:
            return Reply(error="timeout")
        except APIConnectionError:
            return Reply(error="engine_unavailable")
        except APIStatusError as problem:
            refused = problem
        else:
            return self._read(read, answer) if answer.choices else Reply(error="invalid_output")
        # outside the handler: its traceback would show the endpoint's words, which may repeat the prompt
        return Reply(error=_code_of(refused))

    def _request(self, read: Read) -> dict[str, Any]:
        closed = self._sets[read.choices] if read.choices else None
        request: dict[str, Any] = {
            "model": self._model,
            "messages": messages_of(read.prompt),
            # the budget of a closed read counts characters, of which no token has less than one
            "max_tokens": read.max_tokens,
            "temperature": 0,
        }
        if self._capabilities.logprobs:
            request["logprobs"] = True
        if closed is not None and self._capabilities.choice:
            request["extra_body"] = {"structured_outputs": {"choice": list(closed.labels)}}
        elif read.schema is not None and self._capabilities.json_schema:
            schema = {"name": "answer", "schema": json.loads(read.schema), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return request

    def _read(self, read: Read, answer: Any) -> Reply:
        choice = answer.choices[0]
        text = choice.message.content or ""
        spoken = getattr(choice.logprobs, "content", None) or []
        pieces = [bytes(token.bytes) if token.bytes is not None else token.token.encode() for token in spoken]
        logprobs = tuple(min(0.0, float(token.logprob)) for token in spoken)
        if b"".join(pieces) != text.encode():
            # scores that belong to other bytes than the answer's are none
            pieces, logprobs = [text.encode()], ()
        if choice.finish_reason == "content_filter":
            return Reply(error="refused_request")
        ids = tuple(self.tokens.file(piece) for piece in pieces if piece)
        if read.choices:
            ids, logprobs = self._label(self._sets[read.choices], text, logprobs)
        usage = answer.usage
        details = getattr(usage, "prompt_tokens_details", None)
        return Reply(
            token_ids=ids,
            logprobs=logprobs if all(map(math.isfinite, logprobs)) else (),
            finish="length" if choice.finish_reason == "length" else "stop",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
        )

    def _label(
        self, closed: ClosedSet, text: str, logprobs: tuple[float, ...]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """The path of the label that the text is, or nothing."""
        spelled = text.strip()
        for label, path in zip(closed.labels, closed.paths, strict=True):
            if label.strip() == spelled:
                # without a grammar the figure would be no probability among the labels
                return path, logprobs if self._capabilities.choice else ()
        return (), ()


def probe(model: ModelRef, key: str) -> Capabilities:
    """Find what an endpoint honours, in three requests of one or a few tokens.

    Raises:
        EnvironmentProblem: the endpoint cannot be reached or refuses the plain request.
        JobFileError: the URL is not allowed.
    """
    client = client_of(model, key)
    plain: dict[str, Any] = {
        "model": model.model,
        "messages": [{"role": "user", "content": "Say yes."}],
        "max_tokens": 16,
        "temperature": 0,
    }
    first = _probe(client, plain | {"logprobs": True})
    if first is None and _probe(client, plain) is None:
        raise EnvironmentProblem(
            f"{model.text} does not answer a plain chat request.", hint="Check endpoint, model and the key."
        )
    odd = "zebra-7"
    chosen = _probe(client, plain | {"extra_body": {"structured_outputs": {"choice": [odd]}}})
    schema = {"name": "answer", "strict": True, "schema": _odd_schema(odd)}
    formed = _probe(client, plain | {"response_format": {"type": "json_schema", "json_schema": schema}})
    return Capabilities(
        logprobs=first is not None and bool(getattr(first.choices[0].logprobs, "content", None)),
        json_schema=formed is not None and odd in _content(formed),
        choice=chosen is not None and _content(chosen).strip() == odd,
    )


def client_of(model: ModelRef, key: str) -> OpenAI:
    """A client that follows no redirect and sends the key nowhere else.

    Raises:
        JobFileError: the URL is not allowed.
    """
    check_url(model.endpoint or "")
    check_host(model.endpoint or "")
    transport = DefaultHttpxClient(follow_redirects=False, timeout=TIMEOUT_SEC)
    return OpenAI(base_url=model.endpoint, api_key=key or "none", max_retries=RETRIES, http_client=transport)


def key_of(model: ModelRef, key_file: str = "") -> str:
    """The endpoint's key: from this process's environment, else from the file that the driver distributed.

    Raises:
        EnvironmentProblem: a key is named and neither place has it.
    """
    if model.key_env is None:
        return ""
    if found := os.environ.get(model.key_env, ""):
        remember(model.key_env, found)
        return found
    file = _distributed(key_file)
    if file is not None and file.is_file():
        found = file.read_text(encoding="utf-8").strip()
        remember(model.key_env, found)
        return found
    raise EnvironmentProblem(
        f"The environment variable {model.key_env} is not set.", hint="It holds the endpoint's key."
    )


def messages_of(prompt: tuple[int, ...]) -> list[dict[str, str]]:
    """The chat messages that a prompt of characters stands for."""
    at = prompt.index(USER)
    system, user = ("".join(map(chr, part)) for part in (prompt[:at], prompt[at + 1 :]))
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _distributed(key_file: str) -> Path | None:
    if not key_file:
        return None
    if Path(key_file).is_absolute():
        return Path(key_file)
    from pyspark import SparkFiles

    return Path(SparkFiles.get(key_file))


def _finished(pending: dict[Future[list[Reply]], T]) -> Iterator[tuple[T, list[Reply]]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        yield pending.pop(future), future.result()


def _code_of(problem: APIStatusError) -> str:
    """The code of a row whose request was refused.

    Raises:
        EnvironmentProblem: no other request would be answered either.
    """
    text = str(problem.message).lower()
    if "context length" in text or "too long" in text or problem.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "over_long"
    if problem.status_code in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        return "timeout"
    if problem.status_code in TEMPORARY or problem.status_code >= 500:
        return "engine_unavailable"
    # some gateways say of one text that they will not have it in the words for a key that may do nothing
    is_own = problem.status_code in OWN_FAULTS or (
        problem.status_code == HTTPStatus.FORBIDDEN and any(word in text for word in FLAGGED)
    )
    if not is_own:
        raise _hopeless(problem.status_code)
    return "refused_request"


def _hopeless(status: int) -> EnvironmentProblem:
    """The problem in one sentence: the answer's own words may repeat the prompt."""
    reason = REASONS.get(status, "it answers no request")
    return EnvironmentProblem(
        f"The endpoint answers HTTP {status}: {reason}.", hint="Check endpoint, model, key and account."
    )


def _probe(client: OpenAI, request: dict[str, Any]) -> Any:
    """The answer, or None where the request asks for what the endpoint does not honour.

    Raises:
        EnvironmentProblem: it cannot be reached, is busy or refuses everything, which says nothing of what it honours.
    """
    try:
        answer = client.chat.completions.create(**request)
    except APIStatusError as problem:
        if problem.status_code in NOT_HONOURED:
            return None
        if problem.status_code in TEMPORARY or problem.status_code >= 500:
            raise EnvironmentProblem(
                f"The endpoint is busy or out of order (HTTP {problem.status_code}).", hint="Try again later."
            ) from problem
        raise _hopeless(problem.status_code) from problem
    except APIConnectionError as problem:
        raise EnvironmentProblem(
            "The endpoint cannot be reached.", hint="Check `endpoint` and the network."
        ) from problem
    return answer if answer.choices else None


def _content(answer: Any) -> str:
    return answer.choices[0].message.content or ""


def _odd_schema(odd: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"a": {"enum": [odd]}},
        "required": ["a"],
        "additionalProperties": False,
    }
