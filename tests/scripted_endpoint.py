"""An OpenAI-compatible endpoint on 127.0.0.1: answers chat completions from the prompt alone and counts them."""

import json
import math
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Spoken = list[tuple[str, float]]
Said = str | tuple[str, float] | Spoken | int | None
SURE = 0.9


@dataclass(frozen=True)
class Asked:
    """One request: the constant part, the row's part, the labels of a closed set."""

    head: str
    text: str
    choices: tuple[str, ...]

    @property
    def cell(self) -> str:
        """The cell that a `clean` asks about."""
        found = re.search(r"^(.*?): (.*)\nCorrected \1:$", self.text.rpartition("\n\n")[2], re.DOTALL | re.MULTILINE)
        return found[2] if found else ""

    @property
    def topic(self) -> str:
        """What kind of question it is, by the first words of its head."""
        return self.head.split()[0].lower()


def usual(asked: Asked) -> str:
    """The first label that the text holds, else the last one; a cell without outer blanks in lower case; else yes."""
    if asked.choices:
        return next((label for label in asked.choices if label.casefold() in asked.text.casefold()), asked.choices[-1])
    return asked.cell.strip().lower() if asked.topic == "correct" else "yes"


@dataclass
class ScriptedEndpoint:
    """A server that runs; `script` may answer with a text, one with its probability, tokens with theirs, or a status.

    Attributes:
        echoes: refusals repeat the prompt.
        keys: what came under `Authorization`.
    """

    url: str = ""
    script: Callable[[Asked], Said] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    probes: int = 0
    has_logprobs: bool = True
    echoes: bool = False
    keys: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def model(self) -> dict[str, str]:
        """The endpoint as a job file names it."""
        return {"endpoint": self.url, "model": "m"}

    def taken(self) -> Counter[str]:
        """Requests since the last call, by the kind of question; probes are not among them."""
        with self.lock:
            found = Counter(one.topic for one in self.asked)
            self.asked.clear()
            return found

    def reply(self, request: dict[str, Any]) -> tuple[int, Spoken]:
        """Return status, and the tokens with their probabilities."""
        if (text := _probed(request)) is not None:
            self.probes += 1
            return 200, [(text, SURE)]
        head, text = (message["content"] for message in request["messages"])
        asked = Asked(head, text, tuple(request.get("structured_outputs", {}).get("choice", ())))
        with self.lock:
            self.asked.append(asked)
        said = self.script(asked)
        if isinstance(said, int):
            # many servers repeat what they refuse
            return said, [(text if self.echoes else "as the script says", 0.0)]
        if isinstance(said, list):
            return 200, said
        return 200, [said if isinstance(said, tuple) else (usual(asked) if said is None else said, SURE)]


def _probed(request: dict[str, Any]) -> str | None:
    if request["messages"][-1]["content"] != "Say yes.":
        return None
    if "structured_outputs" in request:
        return str(request["structured_outputs"]["choice"][0])
    if "response_format" in request:
        odd = request["response_format"]["json_schema"]["schema"]["properties"]["a"]["enum"][0]
        return json.dumps({"a": odd})
    return "Yes."


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: ScriptedEndpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.endpoint.keys.add(self.headers["Authorization"])
        status, tokens = self.endpoint.reply(request)
        answer = _completion(tokens) if status == 200 else {"error": {"message": tokens[0][0]}}
        if status == 200 and not self.endpoint.has_logprobs:
            answer["choices"][0]["logprobs"] = None
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        # the client's own patience is not what these tests are about
        self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def _completion(tokens: Spoken) -> dict[str, Any]:
    text = "".join(token for token, _ in tokens)
    spoken = [{"token": one, "logprob": math.log(max(p, 1e-9)), "bytes": list(one.encode())} for one, p in tokens]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": spoken if text else []},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": len(tokens), "total_tokens": 7 + len(tokens)}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed while it waited: many tests do that."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def scripted_endpoint() -> Iterator[ScriptedEndpoint]:
    """Serve until the block ends."""
    endpoint = ScriptedEndpoint()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": endpoint}))
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
