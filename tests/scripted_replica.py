"""The one double: a real HTTP server on a Unix socket that answers /v1/completions as told and counts the calls."""

import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Protocol

Prompt = list[int]


class EngineDied(Exception):
    """Raised by a script to have the server die in the middle of a request."""


class CutShort(Exception):
    """Raised by a script to have the connection end in the middle of a reply."""

    def __init__(self, content: bytes) -> None:
        """Keep what still gets through."""
        super().__init__("cut short")
        self.content = content


class Script(Protocol):
    """What decides on answers."""

    def answer(self, body: Any) -> tuple[int, bytes]:
        """Return status and content, or raise EngineDied."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    script: Script

    def end(self) -> None:
        """Stop, and drop who still waits to be let in, as the kernel does for a dead process."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that the client cut is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.reply(200, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            status, content = self.server.script.answer(body)
        except EngineDied:
            self.connection.close()
            return
        except CutShort as cut:
            self.begin_reply(200, 2 * len(cut.content))
            self.wfile.write(cut.content)
            self.close_connection = True
            return
        self.reply(status, content)

    def reply(self, status: int, content: bytes) -> None:
        self.begin_reply(status, len(content))
        self.wfile.write(content)

    def begin_reply(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def whole_response(body: dict[str, object]) -> bytes:
    """What vLLM says: every prompt is answered by its own first token plus one."""
    choices = []
    for prompt in body["prompt"]:  # type: ignore[attr-defined] # the request is JSON
        token = f"token_id:{prompt[0] + 1}"
        top = {token: -0.5}
        for garbage in body.get("logprob_token_ids", []):  # type: ignore[attr-defined]
            top[f"token_id:{garbage}"] = -100.0 + 0.25
        choices.append(
            {
                "logprobs": {"tokens": [token], "token_logprobs": [-0.5], "top_logprobs": [top]},
                "finish_reason": "stop",
            }
        )
    usage = {"prompt_tokens_details": {"cached_tokens": 1}}
    return json.dumps({"choices": choices, "usage": usage}).encode()


@dataclass
class ScriptedReplica:
    """Plays a replica; `on_post` may return (status, content) to misbehave, None to answer, or raise EngineDied."""

    folder: Path
    on_post: Callable[[dict[str, object]], tuple[int, bytes] | None] = lambda body: None
    posts: list[dict[str, object]] = field(default_factory=list)
    generation: int = 1
    restarts: int = 0
    progress: set[int] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.choices_dir.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def choices_dir(self) -> Path:
        return self.folder / "choices"

    def answer(self, body: dict[str, object]) -> tuple[int, bytes]:
        with self.guard:
            self.posts.append(body)
        try:
            said = self.on_post(body)
        except EngineDied:
            self.die()
            raise
        return (200, whole_response(body)) if said is None else said

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.server = Server(str(self.socket), Handler)
        self.server.script = self
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def die(self) -> None:
        with self.guard:
            if self.socket.exists():
                self.socket.unlink()
                threading.Thread(target=self.server.end, daemon=True).start()

    def recover(self, seen_generation: int) -> int:
        if self.generation == seen_generation:
            self.die()
            self.generation += 1
            self.restarts += 1
            self.start()
        return self.generation

    def note_progress(self, generation: int) -> None:
        self.progress.add(generation)

    def prompts(self) -> list[Prompt]:
        return [prompt for body in self.posts for prompt in body["prompt"]]  # type: ignore[attr-defined]
