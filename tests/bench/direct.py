"""The least that can be between a list of requests and the engine: what the job's ask phase is compared with."""

import json
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from udfs.ask import AskSpec, Desk, Question, answer_at
from udfs.closed_set import garbage_token
from udfs.post import Kind, Line
from udfs.wire import Read, Reply

POST_SIZE = 32
Work = Iterable[tuple[Any, list[Read]]]
Edit = Callable[[dict[str, Any]], None]


def reads_of(desk: Desk, spec: AskSpec, questions: Iterable[Question]) -> list[Read]:
    """Return the reads that these questions are asked with; the engine sees none of them."""
    found: list[Read] = []

    def note(work: Work) -> Iterator[tuple[Any, list[Reply]]]:
        for mark, reads in work:
            found.extend(reads)
            yield mark, [Reply(error="timeout")] * len(reads)

    for _ in answer_at(replace(desk, run=note), spec, questions):
        continue
    return found


def bodies_of(reads: Sequence[Read], choices_dir: Path, edit: Edit | None = None) -> list[bytes]:
    """Return the requests' bytes, as many prompts to one as the job sends; `edit` may change them first."""
    by_kind: dict[Kind, list[Read]] = {}
    for read in reads:
        by_kind.setdefault(Kind.of(read), []).append(read)
    bodies = []
    for kind, same in by_kind.items():
        garbage = garbage_token(choices_dir, kind.choices) if kind.choices else None
        for start in range(0, len(same), POST_SIZE):
            body = kind.body([read.prompt for read in same[start : start + POST_SIZE]], garbage=garbage)
            if edit is not None:
                content = json.loads(body)
                edit(content)
                body = json.dumps(content).encode()
            bodies.append(body)
    return bodies


def salted(salt: str) -> Edit:
    """Keep a pass from finding in the engine's prefix cache what another pass left there."""

    def edit(content: dict[str, Any]) -> None:
        content["cache_salt"] = salt

    return edit


def send(bodies: Sequence[bytes], socket: Path, *, in_flight: int) -> float:
    """Send every request and read every response, so many at a time; return the seconds it took."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    refused: list[bytes] = []
    senders = [Thread(target=_sender, args=(waiting, socket, refused)) for _ in range(in_flight)]
    began = time.monotonic()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    seconds = time.monotonic() - began
    if refused:
        raise RuntimeError(f"the engine refused {len(refused)} requests: {refused[0][:300]!r}")
    return seconds


def _sender(waiting: "queue.SimpleQueue[bytes]", socket: Path, refused: list[bytes]) -> None:
    line = Line(socket)
    while True:
        try:
            body = waiting.get_nowait()
        except queue.Empty:
            line.close()
            return
        line.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        response = line.getresponse()
        content = response.read()
        if response.status != 200:
            refused.append(content)
