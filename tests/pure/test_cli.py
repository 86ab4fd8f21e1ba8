"""The command line: fast help, one line per expected error, exit codes that a scheduler can trust."""

import importlib
import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from jobs.arguments import minutes, moment, read_options
from jobs.cli import main
from jobs.console import LOG_WIDTH, printer
from jobs.schema import schema
from schemas.errors import EnvironmentProblem, JobFileError
from schemas.options import RunOptions

HERE = Path(__file__).parent
GOOD = str(HERE / "good_job.yaml")
Burnish = Callable[..., "Ended"]
VERBS = ("init", "doctor", "validate", "plan", "preview", "run", "status", "mix", "schema", "demo")


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def burnish(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    before = signal.getsignal(signal.SIGTERM)

    def called(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["burnish", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        told = capsys.readouterr()
        return Ended(int(caught.value.code or 0), told.out, told.err)

    yield called
    signal.signal(signal.SIGTERM, before)


def test_help_is_fast_and_lists_the_verbs() -> None:
    before = time.perf_counter()
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "--help"]
    found = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, timeout=60, check=False)
    assert time.perf_counter() - before < 5  # 0.4 s on an idle machine; Spark or torch would take more than 5
    assert found.returncode == 0
    assert all(verb in found.stdout for verb in VERBS)


def test_help_validate_and_schema_import_neither_spark_nor_an_engine() -> None:
    code = (
        "import sys, jobs.cli, jobs.validate, jobs.schema\n"
        f"jobs.validate.validate(jobs.cli.Path({GOOD!r})); jobs.schema.schema()\n"
        "print([name for name in ('pyspark', 'delta', 'torch', 'vllm', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE.parent.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_good_job_file_ends_with_0(burnish: Burnish) -> None:
    found = burnish("validate", GOOD)
    assert found.returncode == 0
    assert "topic (classify)" in found.stdout
    assert found.stderr == ""


def test_a_bad_job_file_ends_with_2_and_every_problem_on_stderr(burnish: Burnish, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("sourse: {table: a.b}\nkey: [id]\nmodel: smollm2\ncolumns: []\n")
    for words in (["validate"], ["plan"], ["run"], ["preview"], ["status"], ["doctor"]):
        found = burnish(*words, str(bad))
        assert found.returncode == 2
        assert found.stdout == ""
        assert f"{bad}:1:1: sourse: unknown key (did you mean source?)" in found.stderr
        assert f"{bad}:4:10: columns: must not be empty" in found.stderr
        assert "hint: " in found.stderr
        assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["frobnicate"], "No such command"),
        (["validate"], "Missing argument"),
        (["validate", "/nowhere/job.yaml"], "/nowhere/job.yaml: cannot be read"),
        (["run", GOOD, "--from", "yesterday"], "--from takes an ISO 8601 time"),
        (["run", GOOD, "--from", "2026-02-01", "--to", "2026-02-01"], "--from must lie before --to"),
        (["run", GOOD, "--reask", "--keep-old"], "give one of them"),
        (["run", GOOD, "--publish-every", "often"], "such as 30m"),
        (["plan", GOOD, "--retry-failed"], "No such option"),
        (["schema", "--out", "/nowhere/schema.json"], "/nowhere/schema.json: cannot be written"),
        (["init", "t", "--task", "classify", "--column", "c", "--out", GOOD], "is there already"),
    ],
)
def test_usage_errors_end_with_2_and_one_message(burnish: Burnish, words: list[str], says: str) -> None:
    found = burnish(*words)
    assert found.returncode == 2
    assert says in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_with_their_codes_and_no_traceback(number: signal.Signals, code: int, tmp_path: Path) -> None:
    # A job file that never comes: opening a named pipe waits for its writer.
    pipe = tmp_path / "job.yaml"
    subprocess.run(["mkfifo", str(pipe)], check=True)
    # A shell's background job, as these tests may be, is started with Ctrl-C ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heed}; from jobs.cli import main; print('up', flush=True); main()"
    child = subprocess.Popen(
        [sys.executable, "-c", program, "validate", str(pipe)],
        cwd=HERE.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    time.sleep(2)
    child.send_signal(number)
    _, told = child.communicate(timeout=30)
    assert child.returncode == code
    assert "Traceback" not in told


def test_an_unexpected_error_ends_with_3_and_shows_no_message(
    burnish: Burnish, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(path: Path) -> None:
        raise KeyError("a cell's text")

    monkeypatch.setattr("jobs.validate.validate", broken)
    found = burnish("validate", GOOD)
    assert found.returncode == 3
    assert re.match(rf"burnish: unexpected KeyError in {__file__}, line \d+\nhint: ", found.stderr)
    assert "cell's text" not in found.stderr
    assert "Traceback" not in found.stderr


def test_spark_errors_without_a_state_are_of_the_environment() -> None:
    errors = pytest.importorskip("py4j.protocol")
    from jobs.spark_problems import as_ours

    problem = as_ours(errors.Py4JNetworkError("a cell's text"))
    assert isinstance(problem, EnvironmentProblem)
    assert str(problem) == "Spark failed with Py4JNetworkError"
    assert as_ours(KeyError("a")) is None


def test_schema_prints_json_or_writes_it(burnish: Burnish, tmp_path: Path) -> None:
    printed = burnish("schema")
    assert printed.returncode == 0
    assert json.loads(printed.stdout) == schema()
    written = burnish("schema", "--out", str(tmp_path / "enrich-job.schema.json"))
    assert written.returncode == 0
    assert json.loads((tmp_path / "enrich-job.schema.json").read_text()) == schema()


def test_the_schema_names_every_task_and_its_keys() -> None:
    found = schema()
    assert found["$schema"].startswith("https://json-schema.org/")
    assert found["title"] == "burnish job file"
    tasks = found["properties"]["columns"]["items"]["discriminator"]["mapping"]
    assert set(tasks) == {"classify", "multilabel", "extract", "clean", "impute", "match", "answer"}
    assert "from" in found["$defs"]["Classify"]["properties"]
    assert all("description" in part for part in found["$defs"].values())


@pytest.mark.skipif(importlib.util.find_spec("jsonschema") is None, reason="jsonschema is not installed")
def test_editors_accept_the_example() -> None:
    jsonschema = importlib.import_module("jsonschema")

    example = yaml.safe_load(Path(GOOD).read_text(encoding="utf-8"))
    checker = jsonschema.Draft202012Validator(schema())
    checker.check_schema(schema())
    assert list(checker.iter_errors(example)) == []
    example["columns"][0]["form"] = ["message"]
    assert list(checker.iter_errors(example)) != []


def test_times_without_a_zone_are_utc() -> None:
    assert moment("2026-01-31", "--from") == datetime(2026, 1, 31, tzinfo=UTC)
    assert moment("2026-01-31T06:00+02:00", "--from") == datetime(2026, 1, 31, 4, tzinfo=UTC)
    assert moment("2026-01-31T06:00Z", "--to") == datetime(2026, 1, 31, 6, tzinfo=UTC)


@pytest.mark.parametrize(("text", "found"), [("30m", 30), ("90s", 1.5), ("1.5h", 90)])
def test_spans_are_minutes(text: str, found: float) -> None:
    assert minutes(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["30", "m", "-5m", "1d", "30 m", ""])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(JobFileError, match="such as 30m"):
        minutes(text)


def test_options_are_the_plain_ones_by_default() -> None:
    assert read_options(start=None, end=None, only=None) == RunOptions()
    with pytest.raises(JobFileError, match="above zero"):
        read_options(start=None, end=None, only=["a"], publish_every="0m")


def test_tables_in_a_log_have_room_unless_somebody_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printer().width == LOG_WIDTH
    monkeypatch.setenv("COLUMNS", "70")
    assert printer().width == 70
