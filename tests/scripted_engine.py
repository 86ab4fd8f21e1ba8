"""A stand-in for the engine's interpreter: it starts a scripted server where a GPU or a fault would be needed.

`install` writes a program that a job file names under `engine.python`. Asked for installed packages it says vLLM;
asked for vLLM's server it answers /v1/completions on the socket that it is given, from the prompt alone, and notes in
its book every start and every prompt. A prompt that holds a poisonous word ends the whole process.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.scripted_replica import CutShort, Handler, Server

ROOT = Path(__file__).parents[1]
PATIENCE_SEC = 120.0
SLOW_SEC = 3.0
MARK = -100.0  # see udfs.logits: where a closed set's mass is parked


@dataclass(frozen=True)
class Start:
    """One start of the engine."""

    pid: int
    devices: str | None
    arguments: list[str]


@dataclass(frozen=True)
class Book:
    """What engines of one stand-in did, over all processes."""

    folder: Path

    def note(self, kind: str, content: Any) -> None:
        """Add a line; appends of one short line are whole."""
        with (self.folder / kind).open("a") as file:
            file.write(json.dumps(content) + "\n")

    def lines(self, kind: str) -> list[Any]:
        """Return what was noted."""
        file = self.folder / kind
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def starts(self) -> list[Start]:
        """Every start so far."""
        return [Start(**line) for line in self.lines("starts")]

    @property
    def asked(self) -> list[str]:
        """A digest of every prompt that came in, repeated ones repeatedly."""
        return [prompt for line in self.lines("asked") for prompt in line["prompts"]]


def install(
    folder: Path,
    *,
    poison: Sequence[int] = (),
    starts: int = 1,
    answer_sec: float = 0.0,
    faults: Sequence[tuple[int, str]] = (),
) -> tuple[str, Book]:
    """Write the program and return its path and its book.

    Args:
        poison: token ids; a prompt that holds them in a row ends the engine.
        starts: how many engines must have been started before any answers.
        answer_sec: how long each prompt takes.
        faults: after how many prompts the engine misbehaves once, and how: `FAULTS` names the ways.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manner = {
        "poison": list(poison),
        "starts": starts,
        "answer_sec": answer_sec,
        "faults": [list(one) for one in faults],
    }
    (folder / "manner.json").write_text(json.dumps(manner))
    program = folder / "python"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.scripted_engine "{folder}" "$@"\n'
    )
    program.chmod(0o700)
    return str(program), Book(folder)


class Engine:
    """The server's manner of answering."""

    def __init__(self, book: Book) -> None:
        manner = json.loads((book.folder / "manner.json").read_text())
        self.book, self.poison, self.starts = book, manner["poison"], manner["starts"]
        self.answer_sec, self.faults = manner["answer_sec"], manner["faults"]

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Answer each prompt with a label that its digest chooses."""
        digests = [hashlib.sha256(repr(prompt).encode()).hexdigest() for prompt in body["prompt"]]
        self.book.note("asked", {"pid": os.getpid(), "prompts": digests})
        if any(_holds(prompt, self.poison) for prompt in body["prompt"]):
            os._exit(9)
        deadline = time.monotonic() + PATIENCE_SEC
        while len(self.book.starts) < self.starts and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(self.answer_sec * len(digests))
        if (fault := self._due()) is not None:
            return FAULTS[fault]()
        closed = _closed_set(body["vllm_xargs"].get("burnish_choices"))
        choices = [_choice(closed, int(digest[:8], 16), body) for digest in digests]
        return 200, json.dumps({"choices": choices, "usage": {}}).encode()

    def _due(self) -> str | None:
        """The next fault whose time has come; each comes once, over all processes."""
        seen = len(self.book.asked) if self.faults else 0
        for at, (after, kind) in enumerate(self.faults):
            if seen >= after:
                try:
                    (self.book.folder / f"fault{at}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                return str(kind)
        return None


def _killed() -> NoReturn:
    os._exit(9)


def _out_of_memory() -> NoReturn:
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", flush=True)
    os._exit(1)


def _stopped() -> tuple[int, bytes]:
    os.kill(os.getpid(), signal.SIGSTOP)
    return 200, b"{}"


def _slow() -> tuple[int, bytes]:
    time.sleep(SLOW_SEC)
    return 500, b"late"


def _cut() -> tuple[int, bytes]:
    raise CutShort(b'{"choices": [{"logprobs": {"tok')


FAULTS: dict[str, Callable[[], tuple[int, bytes]]] = {
    "killed": _killed,
    "out of memory": _out_of_memory,
    "stopped": _stopped,
    "cut": _cut,
    "garbage": lambda: (200, b"\xff\xfe not JSON"),
    "500": lambda: (500, b"internal error"),
    "slow": _slow,
}


def _holds(prompt: list[int], word: list[int]) -> bool:
    return bool(word) and any(prompt[at : at + len(word)] == word for at in range(len(prompt)))


def _closed_set(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    found: dict[str, Any] = json.loads((Path(os.environ["BURNISH_CHOICES_DIR"]) / f"{name}.json").read_text())
    return found


def _choice(closed: dict[str, Any], number: int, body: dict[str, Any]) -> dict[str, Any]:
    """Spell one label of a closed set; without one, the first token that is none of the control tokens."""
    ids = closed["paths"][number % len(closed["paths"])] if closed else [300]
    logprob = -0.05 - number % 100 / 1000
    tokens = [f"token_id:{token}" for token in ids]
    top = [{token: logprob} | ({f"token_id:{closed['garbage']}": MARK} if closed else {}) for token in tokens]
    spoken = {"tokens": tokens, "token_logprobs": [logprob] * len(ids), "top_logprobs": top}
    return {"logprobs": spoken, "finish_reason": "stop"}


def main() -> None:
    """Be the interpreter that the command line asks for."""
    book, asked = Book(Path(sys.argv[1])), sys.argv[2:]
    if asked[0] == "-c":
        print("vllm==0.32.0")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--uds", required=True)
    socket = parser.parse_known_args(asked)[0].uds
    book.note("starts", asdict(Start(os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), asked)))
    server = Server(socket, Handler)
    server.script = Engine(book)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
