import json
import math
import socket
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from pydantic import TypeAdapter

from schemas.card import ModelCard
from schemas.errors import EnvironmentProblem, JobFileError
from schemas.job import ModelRef
from schemas.tasks import AnyTask
from udfs import endpoint
from udfs.ask import AskSpec, Question, answer_questions
from udfs.endpoint import Capabilities, client_of, key_of, probe
from udfs.urls import check_url

TASKS = TypeAdapter(AnyTask)
FULL = Capabilities(logprobs=True, json_schema=True, choice=True)
TOPIC = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["refund", "delivery"]}


@contextmanager
def serving(script):
    """A server whose answers `script(request)` decides: (status, text, logprob per character or None)."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((request, self.headers["Authorization"]))
            status, text, logprob = script(request)
            spoken = [{"token": char, "logprob": logprob, "bytes": list(char.encode())} for char in text]
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": spoken} if logprob is not None and request.get("logprobs") else None,
            }
            usage = {"prompt_tokens": 7, "completion_tokens": len(text), "total_tokens": 7 + len(text)}
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }
            content = json.dumps(body if status == 200 else {"error": {"message": text}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", "https://elsewhere.example/v1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ModelRef(endpoint=f"http://127.0.0.1:{server.server_port}/v1", model="m"), seen
    finally:
        server.shutdown()
        server.server_close()


def ask(model, task, inputs, capabilities=FULL):
    declared = TASKS.validate_python(task)
    spec = AskSpec(
        tasks=(declared,),
        fingerprints=(),
        card=ModelCard(),
        model=model,
        digest="",
        replica=None,
        window=2,
        run_id="r",
        capabilities=capabilities,
    )
    questions = [Question(declared.name, "f", str(place), tuple(values)) for place, values in enumerate(inputs)]
    return sorted(answer_questions(spec, questions), key=lambda row: int(row["question_id"]))


def test_a_choice_is_scored_and_named_conditional():
    with serving(lambda request: (200, "refund", math.log(0.9))) as (model, seen):
        (row,) = ask(model, TOPIC, [["Money!"]])
    assert (row["status"], row["value"]) == ("ok", '"refund"')
    assert row["confidence"] == pytest.approx(0.9**6)
    assert row["label_mass"] is None
    assert row["notes"] == ["grammar_conditional"]
    request, _ = seen[0]
    assert request["structured_outputs"] == {"choice": ["refund", "delivery"]}
    assert request["messages"][1]["content"] == "Text: Money!\nLabel:"
    assert "refund" in request["messages"][0]["content"]


def test_a_doubtful_answer_is_looked_at_once_more_and_a_sure_one_is_not():
    def script(request):
        content = request["messages"][1]["content"]
        if content.endswith("Is that right?"):
            return 200, "no", math.log(0.9)
        return 200, "refund", math.log(0.999 if "sure" in content else 0.9)

    with serving(script) as (model, seen):
        sure, doubtful = ask(model, TOPIC | {"second_look": 0.8}, [["sure"], ["Money!"]])
    assert sure["scores"] == {":second_look": pytest.approx(0.999**6)}
    assert doubtful["confidence"] == pytest.approx(0.9**6)
    assert doubtful["scores"] == {":second_look": pytest.approx(0.8 * (1 - 0.9**2))}
    assert (doubtful["value"], doubtful["prompt_tokens"]) == ('"refund"', 14)
    again = [request for request, _ in seen if request["messages"][1]["content"].endswith("right?")]
    assert [request["messages"][1]["content"] for request in again] == ["Text: Money!\nLabel: refund\nIs that right?"]
    assert again[0]["structured_outputs"] == {"choice": ["yes", "no"]}
    for words in ({"think": True}, {"task": "multilabel"}):
        with pytest.raises(ValueError, match="looks at one answer"):
            TASKS.validate_python(TOPIC | {"second_look": 0.8} | words)


def test_without_log_probabilities_confidence_is_null_and_without_choice_the_text_must_be_a_label():
    answers = {"Text: a\nLabel:": " refund \n", "Text: b\nLabel:": "a refund"}
    with serving(lambda request: (200, answers[request["messages"][1]["content"]], None)) as (model, seen):
        good, bad = ask(model, TOPIC, [["a"], ["b"]], Capabilities())
    assert (good["value"], good["confidence"], good["notes"]) == ('"refund"', None, [])
    assert (bad["status"], bad["error"], bad["value"]) == ("failed", "invalid_output", None)
    assert "structured_outputs" not in seen[0][0]


def test_extract_sends_its_schema_and_scores_each_field():
    task = {"task": "extract", "name": "o", "from": ["text"], "attributes": {"a": "string", "n": "int"}}
    with serving(lambda request: (200, '{"a": "x", "n": 12}', math.log(0.5))) as (model, seen):
        (row,) = ask(model, task, [["t"]])
    assert row["value"] == '{"a":"x","n":12}'
    # one token a character: `: "x",` decides a, `: 12}` decides n
    assert {name: row["scores"][name] for name in ("a", "n", "a:minimum")} == pytest.approx(
        {"a": 0.5**6, "n": 0.5**5, "a:minimum": 0.5}
    )
    schema = seen[0][0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["a", "n"]


def test_multilabel_is_one_request_per_label():
    task = {"task": "multilabel", "name": "tags", "from": ["text"], "labels": ["late", "rude"]}

    def script(request):
        return (200, "yes", -0.1) if "label late" in request["messages"][1]["content"] else (200, "no", -0.2)

    with serving(script) as (model, _):
        (row,) = ask(model, task, [["t"]])
    assert row["value"] == '["late"]'
    assert row["scores"] == pytest.approx({"late": math.exp(-0.3), "rude": 1 - math.exp(-0.4)})
    assert row["confidence"] == pytest.approx(math.exp(-0.4))


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (400, "maximum context length is 10", "over_long"),
        (413, "no", "over_long"),
        (422, "no", "refused_request"),
        (403, "Your input was flagged", "refused_request"),
    ],
)
def test_refusals_of_one_request_are_row_errors(status, text, code):
    with serving(lambda request: (status, text, None)) as (model, seen):
        (row,) = ask(model, TOPIC, [["a"]])
    assert (row["status"], row["error"]) == ("failed", code)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "the key is not accepted"), (402, "no credit"), (403, "may not use"), (404, "not known"), (302, "302")],
)
def test_what_would_meet_every_request_ends_the_work_and_no_redirect_is_followed(status, says):
    cell = "own".join(["my ", " words"])
    repeating = serving(lambda request: (status, f"bad key: {request['messages'][1]['content']}", None))
    with repeating as (model, seen), pytest.raises(EnvironmentProblem, match=says) as problem:
        ask(model, TOPIC, [[cell]])
    assert len(seen) == 1
    shown = "".join(traceback.format_exception(problem.value))
    assert cell not in shown
    assert "bad key" not in shown


def test_a_busy_endpoint_is_tried_again():
    answers = iter([(429, "slow", None), (200, "refund", -0.1)])
    with serving(lambda request: next(answers)) as (model, seen):
        (row,) = ask(model, TOPIC, [["a"]])
    assert row["status"] == "ok"
    assert len(seen) == 2


def test_the_probe_finds_what_is_honoured():
    def script(request):
        if "structured_outputs" in request:
            return 200, request["structured_outputs"]["choice"][0], -0.1
        if "response_format" in request:
            return 400, "unknown field", None
        return 200, "Yes.", -0.1

    with serving(script) as (model, _):
        assert probe(model, "") == Capabilities(logprobs=True, json_schema=False, choice=True)


@pytest.mark.parametrize("asked_for", ["structured_outputs", "response_format", "logprobs"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_not_taken_for_one_that_honours_nothing(monkeypatch, asked_for, status):
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    busy = serving(lambda request: (status if asked_for in request else 200, "Yes.", -0.1))
    with busy as (model, _), pytest.raises(EnvironmentProblem, match=f"busy or out of order .HTTP {status}"):
        probe(model, "")


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_what_an_endpoint_does_not_know_it_does_not_honour(monkeypatch, status):
    monkeypatch.setattr(endpoint, "RETRIES", 0)

    def script(request):
        is_plain = not {"structured_outputs", "response_format", "logprobs"} & request.keys()
        return 200 if is_plain else status, "Yes.", None

    with serving(script) as (model, _):
        assert probe(model, "") == Capabilities()


def test_an_endpoint_that_ignores_everything_has_no_capabilities():
    with serving(lambda request: (200, "Yes.", None)) as (model, _):
        assert probe(model, "") == Capabilities()


def test_an_endpoint_that_refuses_is_an_environment_problem():
    for status, says in ((401, "the key is not accepted"), (404, "plain chat request")):
        refusing = serving(lambda request, status=status: (status, "no", None))
        with refusing as (model, _), pytest.raises(EnvironmentProblem, match=says):
            probe(model, "")


def test_the_key_comes_from_the_environment_or_the_file(monkeypatch, tmp_path):
    model = ModelRef(endpoint="https://models.example/v1", model="m", key_env="MODEL_KEY")
    monkeypatch.setenv("MODEL_KEY", "one")
    assert key_of(model) == "one"
    monkeypatch.delenv("MODEL_KEY")
    (tmp_path / "k").write_text("two\n")
    assert key_of(model, str(tmp_path / "k")) == "two"
    with pytest.raises(EnvironmentProblem, match="MODEL_KEY"):
        key_of(model)


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example/v1",
        "https://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]/",
        "https://metadata.google.internal/",
        "https://[fe80::1]/",
        "https://user:secret@models.example/",
        "ftp://models.example/",
        "https://0.0.0.0/",
        "https://100.100.100.200/latest",
        "https://[fd00:ec2::254]/latest",
        "models.example",
    ],
)
def test_urls_that_leak_are_refused(url):
    with pytest.raises(JobFileError):
        check_url(url)


@pytest.mark.parametrize("url", ["https://models.example/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1"])
def test_https_and_this_machine_are_allowed(url):
    check_url(url)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254", "192.0.0.192"])
def test_a_name_that_leads_to_a_metadata_service_is_refused_before_anything_is_sent(monkeypatch, address):
    def found(host, port, **words):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(JobFileError, match="metadata service"):
        client_of(ModelRef(endpoint="https://models.example/v1", model="m"), "key")


def test_an_address_written_as_one_number_is_an_address():
    with pytest.raises(JobFileError, match="metadata service"):
        client_of(ModelRef(endpoint="https://2852039166/v1", model="m"), "key")
