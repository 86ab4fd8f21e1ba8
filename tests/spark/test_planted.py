"""Cells and secrets that were planted are looked for wherever they must not be: output, logs, Spark's UI, commits."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from tests.pure.tiny_model import write_model
from tests.scripted_endpoint import Asked
from tests.scripted_engine import install
from tests.shop import TOPIC, Shop
from tests.spark.planted import BEGUN, ENDED, FIRST, PAGES
from udfs.tokens import load_tokens

ROOT = Path(__file__).parents[2]
WORD = "sesame"  # is in every cell, answer, label, example, reference value and key
KEY, TOKEN, PART = "sk-hunter2-hunter2", "hf_hunter2+hunter2", "tenant-hunter2"
SECRETS = {"PLANTED_KEY": KEY, "PLANTED_TOKEN": TOKEN, "PLANTED_PART": PART}
ROWS = [
    ("sesame-key-1", "Sesame Refund one", None, "sesame-zip-1"),
    ("sesame-key-2", "SESAME poison two", None, "sesame-zip-9"),
    ("sesame-key-3", "sesame garbled three", "sesame town", "sesame-zip-1"),
    ("sesame-key-4", "Sesame delivery four", None, None),
    ("sesame-key-5", "\0sesame\ud7ff five " + "sesame " * 3000, None, "sesame-zip-2"),
]


@dataclass(frozen=True)
class Searched:
    """What one process and its session left."""

    folder: Path
    out: str
    err: str

    @property
    def said(self) -> dict[str, str]:
        """What each command printed."""
        parts = [part.partition("\n") for part in self.out.split(BEGUN)[1:]]
        return {words: text for words, _, text in parts}

    def result(self, command: str) -> Any:
        """The JSON that a command printed."""
        text = next(text for words, text in self.said.items() if words.startswith(command) and "--json" in words)
        return json.loads(text.partition(ENDED)[0])

    def lines(self) -> list[dict[str, Any]]:
        """The log lines that are ours."""
        found = [json.loads(line) for line in self.err.splitlines() if line.startswith('{"time"')]
        return [line for line in found if "logger" in line]


def script(asked: Asked) -> Any:
    """Refuse one row in its own words, garble another's answers, repeat the cell in all others."""
    if "poison" in asked.text:
        return 400
    if "garbled" in asked.text:
        return f"{{sesame {asked.text}"
    if asked.topic == "copy":
        return json.dumps({"thing": "sesame"})
    return None if asked.choices or asked.topic == "correct" else "sesame town"


def job_file(shop: Shop, name: str, **words: Any) -> str:
    file = shop.folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"source": {"path": shop.path}, "key": ["id"], "accept": 0.5} | words))
    return str(file)


def tables(shop: Shop) -> dict[str, Any]:
    """Tables of labels, examples and reference values, and the columns that read them."""
    places = {name: str(shop.folder / name) for name in ("labels", "examples", "cities")}
    frames = {
        "labels": ([("sesame refund",), ("sesame other",)], "name string"),
        "examples": (
            [("an old sesame", "sesame refund"), ("a new sesame", "sesame other")],
            "text string, truth string",
        ),
        "cities": ([("sesame-zip-1", "sesame city")], "zip string, city string"),
    }
    for name, (rows, ddl) in frames.items():
        shop.spark.createDataFrame(rows, ddl).coalesce(1).write.format("delta").save(places[name])
    pool = {"from_table": places["examples"], "version": 0, "truth": "truth", "select": "fixed", "k": 2}
    reference = {"table": places["cities"], "keys": {"zip": "zip"}, "value": "city"}
    labels = {"from_table": places["labels"], "column": "name"}
    thing = {"thing": "string"}
    columns = [
        TOPIC | {"labels": labels, "examples": pool},
        {"task": "clean", "name": "text", "rules": "lower case", "pattern": "^[a-z ]+$"},
        {"task": "extract", "name": "order", "from": ["text"], "attributes": thing},
        {"task": "impute", "name": "city", "from": ["text"], "reference": reference},
        {"task": "answer", "name": "who", "from": ["text"], "question": "Who?"},
    ]
    return {"columns": columns}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def shop(spark: Any, place: Path, server: Any) -> Iterator[Shop]:
    found = Shop(spark, place, server)
    server.script, server.echoes = script, True
    # the server is every test's
    server.keys.clear()
    yield found
    server.script, server.echoes = (lambda asked: None), False


@pytest.fixture(scope="module")
def endpoint_job(shop: Shop) -> str:
    # the address holds a secret, as some gateways want it
    model = {"endpoint": f"{shop.endpoint.url}/${{env:PLANTED_PART}}", "model": "m", "key_env": "PLANTED_KEY"}
    engine = {"vllm": {"hf-token": "${env:PLANTED_TOKEN}"}}
    limits = {"max_failed_share": 0.9}
    return job_file(shop, "endpoint", model=model, engine=engine, limits=limits, **tables(shop))


@pytest.fixture(scope="module")
def engine_job(shop: Shop, place: Path) -> str:
    (place / "model").mkdir()
    model = write_model(place / "model")
    save_file({"w": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    python, _ = install(place / "engine", poison=load_tokens(str(model)).encode_cell(" poison"))
    engine = {"python": python, "vllm": {"hf-token": "${env:PLANTED_TOKEN}"}}
    words = {"model": {"path": str(model)}, "engine": engine, "accept": 0.0, "target": {"path": str(place / "out")}}
    return job_file(shop, "engine", limits={"max_failed_share": 0.9}, columns=[TOPIC], **words)


@pytest.fixture(scope="module")
def searched(shop: Shop, endpoint_job: str, engine_job: str, place: Path) -> Searched:
    """Every command that prints no cell by its purpose, over rows that succeed, fail, and kill the engine."""
    shop.write(ROWS, "id string, text string, city string, zip string")
    job, page = endpoint_job, str(place / "page.html")
    commands = [
        ["plan", job, "--no-values"],
        ["plan", job, "--no-values", "--json"],
        ["run", job, "--json"],
        ["run", job],
        ["status", job, "--json"],
        ["history", job, "--json"],
        ["review", "sample", job, "-n", "2"],
        ["review", "status", job],
        ["report", job, "--no-values", "--out", page, "--json"],
        ["undo", job, "--run", FIRST],
        ["call", engine_job],
        ["status", engine_job],
        ["doctor", job, "--json"],
        ["undo", job, "--run", "no-such-run"],
        ["purge", job, "--key", "id=sesame-key-1"],
        ["run", str(place / "sesame.yaml")],
    ]
    facts = place / "facts.json"
    (place / "session").mkdir()
    facts.write_text(
        json.dumps({"folder": str(place / "session"), "runs": f"{shop.path}_burnish/runs", "commands": commands})
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BURNISH_LOG_FORMAT": "json", **SECRETS}
    words = [sys.executable, "-m", "tests.spark.planted", str(facts)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    for name, said in (("stdout", done.stdout), ("stderr", done.stderr)):
        (place / name).write_text(said)
    assert done.returncode == 0, done.stderr[-3000:]
    # the commands' own words are this test's
    out = "\n".join(line.replace(WORD, "word") if line.startswith(BEGUN) else line for line in done.stdout.splitlines())
    return Searched(place / "session", out, done.stderr.replace(str(place / "sesame.yaml"), ""))


def found_in(text: str) -> list[str]:
    """The places of a text where something planted stands, a little of each."""
    low = text.casefold()
    return [low[max(0, at - 200) : at + 60] for word in (WORD, "hunter2") if (at := low.find(word)) >= 0]


def test_the_commands_did_what_they_were_meant_to(searched: Searched, shop: Shop) -> None:
    codes = [part.split("\n")[0] for part in searched.out.split(ENDED)[1:]]
    # the machine may have too little memory for an engine, as the doctor says
    expected = ["0"] * 12 + [codes[12] if codes[12] == "3" else "0", "4", "0", "2"]
    assert codes == expected, [*zip(searched.said, codes, strict=False)]
    done = searched.result("run")
    assert (done["answered"] > 0, done["failed"] > 0) == (True, True)
    answers = shop.spark.read.format("delta").load(f"{shop.path}_burnish/answers").collect()
    assert {None, "refused_request", "invalid_output"} <= {row["error"] for row in answers}
    assert shop.endpoint.keys == {f"Bearer {KEY}"}
    dead = shop.spark.read.format("delta").load(str(shop.folder / "out"))
    assert {row["topic_error"] for row in dead.collect()} == {None, "engine_fatal"}


def test_what_commands_print_and_log_holds_nothing_planted(searched: Searched) -> None:
    assert {words: found for words, text in searched.said.items() if (found := found_in(text))} == {}
    assert [line for line in searched.err.splitlines() if found_in(line)] == []
    page = (searched.folder.parent / "page.html").read_text()
    assert found_in(page) == found_in(page.replace(".json", "")) == []


def test_sparks_ui_and_event_log_hold_nothing_planted(searched: Searched) -> None:
    pages = {name: (searched.folder / f"ui-{name}.json").read_text() for name in PAGES}
    assert len(json.loads(pages["sql"])) > 20
    pages["environment page"] = (searched.folder / "ui-environment.html").read_text()
    assert {name: found for name, text in pages.items() if (found := found_in(text))} == {}
    events = [file for file in (searched.folder / "events").rglob("*") if file.is_file() and file.stat().st_size]
    lines = [line for file in events for line in file.read_text().splitlines()]
    assert any("SparkListenerSQLExecutionStart" in line for line in lines)
    assert [found for line in lines if (found := found_in(line))] == []


def test_commits_hold_nothing_planted(searched: Searched, shop: Shop) -> None:
    store = Path(f"{shop.path}_burnish")
    kept = [line for file in store.rglob("_delta_log/*.json") for line in file.read_text().splitlines()]
    targets = [Path(shop.path), shop.folder / "out"]
    # a target's statistics are Delta's own, of the columns that they describe
    told = [
        line
        for target in targets
        for file in target.rglob("_delta_log/*.json")
        for line in file.read_text().splitlines()
        if not line.startswith(('{"add"', '{"remove"'))
    ]
    assert any('"MERGE"' in line for line in told)
    assert any('"DELETE"' in line or '"MERGE"' in line for line in kept)
    assert [found for line in [*kept, *told] if (found := found_in(line))] == []


def test_the_record_of_runs_holds_nothing_planted_and_no_table_a_secret(searched: Searched, shop: Shop) -> None:
    for folder in (f"{shop.path}_burnish", f"{shop.folder}/out_burnish"):
        runs = [str(row) for row in shop.spark.read.format("delta").load(f"{folder}/runs").collect()]
        assert len(runs) >= 2
        assert [found for row in runs if (found := found_in(row))] == []
        for table in Path(folder).iterdir():
            rows = shop.spark.read.format("delta").load(str(table)).collect()
            assert "hunter2" not in str(rows), table.name
    assert "hunter2" not in str(shop.rows())


def test_a_dashboard_reads_the_record_of_runs(searched: Searched, shop: Shop) -> None:
    (query,) = re.findall(r"^```sql\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    found = shop.spark.sql(query.replace("shop.tickets_burnish_runs", f"delta.`{shop.path}_burnish/runs`")).collect()
    assert {row["state"] for row in found} == {"done", "undo"}
    first = next(row for row in found if row["run_id"] == searched.result("run")["run_id"])
    assert first["rows_per_sec"] > 0
    assert 0 < first["failed_share"] < 1


def test_log_lines_are_json_with_the_run_and_executors_write_them_too(searched: Searched) -> None:
    run = searched.result("run")["run_id"]
    lines = [line for line in searched.lines() if line["run_id"] == run]
    messages = [(line["logger"], line["message"]) for line in lines]
    assert messages[0] == ("jobs.run", "run started")
    for one in (("jobs.waves", "wave committed"), ("jobs.run", "published"), ("udfs.ask", "task answered")):
        assert one in messages
    ended = next(line for line in lines if line["message"] == "run ended")
    assert (ended["state"], ended["questions"]) == ("done", searched.result("run")["questions"])
    refused = [line for line in searched.lines() if line.get("exit_code")]
    assert [(line["code"], line["exit_code"]) for line in refused] == [("data_contract", 4), ("job_file", 2)]
    assert any(line["logger"] == "udfs.client" and "engine_fatal" in line["message"] for line in searched.lines())
