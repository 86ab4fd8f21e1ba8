"""Log lines: one JSON object each, with the run's id, and nothing that a cell or a secret could be in."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from jobs.cli import main
from schemas.errors import JobFileError
from schemas.secrets import redacted, remember, without_secrets
from udfs import logs

SECRET = 'hunter2"hunter2'


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one.formatter, logs.Lines)]:
        root.removeHandler(handler)
    for name in logs.OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_has_time_level_run_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(as_json=True)
    log = logging.getLogger("jobs.waves")
    with logs.in_run("r1"):
        log.info("wave committed", extra=logs.facts(lane=0, seconds=1.5))
    log.info("after")
    first, second = lines(capsys.readouterr().err)
    assert first.pop("time").endswith("+00:00")  # type: ignore[attr-defined]
    assert first == {
        "level": "INFO",
        "logger": "jobs.waves",
        "run_id": "r1",
        "message": "wave committed",
        "lane": 0,
        "seconds": 1.5,
    }
    assert (second["run_id"], second["message"]) == (None, "after")


@pytest.mark.parametrize("as_json", [True, False])
def test_what_others_say_and_what_exceptions_hold_is_withheld(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    logs.configure(as_json=as_json)
    logging.getLogger("httpx").warning("sent %s", "SESAME")
    try:
        raise ValueError("SESAME")
    except ValueError:
        logging.getLogger("udfs.ask").exception("a task broke")
    told = capsys.readouterr().err
    assert "SESAME" not in told
    assert all(word in told for word in ("httpx", "a task broke", "ValueError", "test_logs.py:"))


def test_a_secret_is_replaced_wherever_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    remember("TOKEN", SECRET)
    logs.configure(as_json=True)
    logging.getLogger("jobs.run").warning("engine %s", SECRET, extra=logs.facts(argument=SECRET))
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert lines(told)[0]["argument"] == "${env:TOKEN}"
    assert str(JobFileError(f"the key {SECRET} is odd")) == "the key ${env:TOKEN} is odd"
    assert without_secrets({"a": [SECRET, 1, None]}) == {"a": ["${env:TOKEN}", 1, None]}
    assert redacted(json.dumps(SECRET)) == '"${env:TOKEN}"'


@pytest.mark.parametrize("chosen", ["option", "variable"])
def test_json_is_chosen_by_an_option_or_a_variable_and_errors_are_lines_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chosen: str
) -> None:
    words = ["burnish", "validate", "no-such-file.yaml"]
    if chosen == "variable":
        monkeypatch.setenv("BURNISH_LOG_FORMAT", "json")
    else:
        words[1:1] = ["--log-format", "json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = lines(capsys.readouterr().err)
    assert ended.value.code == 2
    assert (line["level"], line["code"], line["exit_code"]) == ("ERROR", "job_file", 2)
    assert "no-such-file.yaml" in str(line["message"])
