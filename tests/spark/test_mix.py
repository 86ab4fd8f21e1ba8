"""`burnish mix` on real Delta tables and files: what is taken, what is left out and why, and that it is provable."""

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from jobs import lake
from jobs.mix import Mixed, check, mix
from jobs.mix_files import load_mix
from schemas.card import CARD_FILE
from schemas.errors import BurnishError, DataContractError, JobFileError
from schemas.job import Place
from schemas.training_row import TrainingRow
from schemas.yaml_file import load_job
from tests.pure.tiny_model import write_model
from udfs.ask import inquiry_of
from udfs.cards import card_of
from udfs.lessons import Teacher
from udfs.questions import Setting
from udfs.tokens import load_tokens

LABELS = [f"label_{number}" for number in range(8)]
TEXT = "The quick brown fox jumps over the lazy dog while many other animals watch it from afar."


@dataclass
class Kitchen:
    """A folder with sources, and mixes made of them."""

    spark: SparkSession
    folder: Path

    def plan(self, name: str, *sources: dict[str, Any], held_out: list[dict[str, Any]] | None = None, **words: Any):
        content = {
            "model": {"path": str(self.folder / "model")},
            "form": "tulu",
            "longest": 512,
            "output": {"path": str(self.folder / name)},
            "sources": list(sources),
            "held_out": held_out or [],
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps(content | words))
        return load_mix(file)

    def mix(self, name: str, *sources: dict[str, Any], **words: Any) -> tuple[Mixed, list[Row]]:
        result = mix(self.spark, self.plan(name, *sources, **words))
        rows = self.table(name).collect()
        assert len(rows) == sum(one.instances for one in result.sources.values())
        assert len({row["id"] for row in rows}) == len(rows)
        assert all(row["id"].startswith(f"{row['dataset']}_") for row in rows)
        return result, rows

    def table(self, name: str) -> DataFrame:
        return lake.read(self.spark, Place(path=str(self.folder / name)))

    def write(self, name: str, records: list[dict[str, Any]]) -> str:
        file = self.folder / name
        text = json.dumps(records) if name.endswith(".json") else "\n".join(map(json.dumps, records))
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(file)

    def job(self, rows: list[tuple[Any, ...]], ddl: str, *columns: dict[str, Any]) -> str:
        place = self.folder / f"table{len(list(self.folder.iterdir()))}"
        self.spark.createDataFrame(rows, ddl).write.format("delta").save(str(place))
        file = place.with_suffix(".yaml")
        found = {"source": {"path": str(place)}, "key": ["id"], "model": "smollm2", "accept": 0, "columns": columns}
        file.write_text(json.dumps(found))
        return str(file)


@pytest.fixture
def kitchen(spark: SparkSession, tmp_path: Path) -> Iterator[Kitchen]:
    folder = write_model(_made(tmp_path / "model"))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / CARD_FILE).write_text(json.dumps({"prompt": "completion"}))
    yield Kitchen(spark, tmp_path)
    # what was kept for counting is let go
    assert spark._jsparkSession.sharedState().cacheManager().isEmpty()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def plain(rows: list[Row]) -> dict[str, Any]:
    """Return a task row as plain values."""
    return next(row for row in rows if row["inputs"]).asDict(recursive=True)


TICKETS = [(n, f"text {n}", LABELS[n % 8], [LABELS[n % 8]], n % 2 == 0) for n in range(40)]
TICKET_DDL = "id int, text string, topic_truth string, tags_truth array<string>, is_even boolean"
TOPIC = {"task": "classify", "name": "topic", "from": ["text"], "labels": LABELS}
TAGS = {"task": "multilabel", "name": "tags", "from": ["text"], "labels": LABELS}
EVEN = {"task": "match", "name": "even", "left": ["id"], "right": ["text"]}


def test_a_labelled_table_becomes_the_tokens_that_run_sends(kitchen: Kitchen) -> None:
    rows = [
        *TICKETS,
        (40, "text 40", None, None, None),
        (41, "  ", "label_1", ["label_1"], True),
        (42, "x", "odd", [], True),
    ]
    job = kitchen.job(rows, TICKET_DDL, TOPIC, TAGS, EVEN)
    truth = {"topic": "topic_truth", "tags": "tags_truth", "even": "is_even"}
    result, rows = kitchen.mix("out", {"kind": "job", "name": "tickets", "job": job, "truth": truth})
    facts = result.sources["tickets"]
    # topic: 40; tags: 41; even: 42, since its left side, the id, is never blank but its right side once
    assert facts.dropped == {"no_truth": 3, "blank": 3, "not_a_label": 1}
    assert facts.instances == len(rows) == 40 + 41 + 41
    folder = kitchen.folder / "model"
    tokens, card = load_tokens(str(folder)), card_of(load_job(Path(job)).model, folder)
    teacher = Teacher(tokens, card, form="tulu", longest=512)
    setting = Setting(tokens, card, 512)
    seen = Counter()
    for row in rows:
        found = TrainingRow(**{name: row[name] for name in TrainingRow.model_fields if name not in ("messages",)})
        declared = load_job(Path(job)).task(json.loads(found.task or "")["name"])
        examples = teacher.examples(found)
        sent = inquiry_of(declared, setting).asked(found.inputs or ()).reads
        assert [example.ids[: len(read.prompt)] for example, read in zip(examples, sent, strict=True)] == [
            read.prompt for read in sent
        ]
        assert row["completion_tokens"] == sum(example.learned for example in examples)
        assert row["prompt_tokens"] == sum(len(read.prompt) for read in sent)
        assert row["turns"] == len(sent)
        seen[declared.name] += 1
    assert seen == {"topic": 40, "tags": 41, "even": 41}
    answers = {row["inputs"][0]: json.loads(row["answer"]) for row in rows if '"topic"' in row["task"]}
    assert answers == {text: label for _, text, label, _, _ in TICKETS}


def test_the_same_seed_gives_the_same_table_however_its_sources_are_cut(kitchen: Kitchen) -> None:
    job = kitchen.job(TICKETS, TICKET_DDL, TOPIC)
    records = [
        {"instruction": f"do {n}", "input": "with this" if n % 3 else "", "output": f"done {n}"} for n in range(60)
    ]
    one, other = kitchen.write("one.jsonl", records), kitchen.write("other.json", records[::-1])
    varied = {
        "kind": "job",
        "name": "tickets",
        "job": job,
        "truth": {"topic": "topic_truth"},
        "vary": True,
        "weight": 2.5,
    }
    dates = {"kind": "generated", "name": "dates", "pairs": "dates", "rows": 30}

    def made(name: str, file: str, seed: int) -> list[Row]:
        alpaca = {"kind": "instructions", "name": "alpaca", "file": file, "rows": 20}
        _, rows = kitchen.mix(name, varied, alpaca, dates, seed=seed)
        return sorted(rows, key=lambda row: row["id"])

    first = made("a", one, 3)
    kitchen.spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        assert made("b", other, 3) == first
    finally:
        kitchen.spark.conf.set("spark.sql.shuffle.partitions", "2")
    counts = Counter(row["dataset"] for row in first)
    assert (counts["alpaca"], counts["dates"]) == (20, 30)
    assert 90 <= counts["tickets"] <= 110  # 40 rows, each two or three times
    layouts = {row["messages"][0]["content"].replace(str(n), "") for n, row in enumerate(first) if row["messages"]}
    assert len(layouts) > 5
    tasks = [json.loads(row["task"]) for row in first if row["dataset"] == "tickets"]
    # a few ways to ask, each for many rows, which stand together
    assert 3 <= len({json.dumps(task) for task in tasks}) <= 7
    ordered = [row["task"] for row in sorted(first, key=lambda row: row["place"]) if row["dataset"] == "tickets"]
    assert sum(one != other for one, other in itertools.pairwise(ordered)) < len(ordered) / 2
    places = [row["place"] for row in first]
    assert len(set(places)) == len(places)
    assert max(places) > 2**62  # whole numbers all the way, not rounded by a float
    assert any(place % 2 for place in places if place > 2**60)


def test_chat_in_three_kinds_with_what_is_left_out(kitchen: Kitchen) -> None:
    dolly = kitchen.write(
        "dolly.json",
        [
            {"instruction": "Say yes", "context": "now", "response": "yes"},
            {"instruction": "Say yes", "context": "now", "response": "yes"},
            {"instruction": "Say no", "context": None, "response": "no"},
            {"instruction": "", "context": "now", "response": "yes"},
            {"instruction": "Say", "context": "", "response": None},
        ],
    )
    pair = [{"from": "human", "value": "hi " * 30}, {"from": "gpt", "value": "yes " * 30}]
    shared = kitchen.write(
        "shared.jsonl",
        [
            {"id": "a", "conversations": [{"from": "system", "value": "be kind"}, *pair, *pair, *pair]},
            {"id": "b", "conversations": [{"from": "human", "value": "x"}, {"from": "bing", "value": "y"}]},
            {"id": "c", "conversations": [{"from": "human", "value": "x" * 2000}, {"from": "gpt", "value": "y"}]},
            {"id": "d", "conversations": [{"from": "human", "value": "<|user|>"}, {"from": "gpt", "value": "y"}]},
        ],
    )
    prompts = kitchen.write("t0.jsonl.gz", [{"template": "t", "prompt": "What?\n", "completion": "refund"}])
    result, rows = kitchen.mix(
        "chat",
        {"kind": "instructions", "name": "dolly", "file": dolly},
        {"kind": "conversations", "name": "shared", "file": shared},
        {"kind": "prompts", "name": "t0", "file": prompts, "weight": 3},
        longest=360,
    )
    assert result.sources["dolly"].dropped == {"blank": 2, "duplicate": 1}
    assert result.sources["shared"].dropped == {"odd_role": 1, "over_long": 1, "forged_role": 1}
    assert result.sources["t0"].instances == 3
    pieces = [row for row in rows if row["dataset"] == "shared"]
    assert sorted(row["turns"] for row in pieces) == [1, 2]
    assert all(row["messages"][0]["role"] == "system" for row in pieces)
    assert all(row["prompt_tokens"] + row["completion_tokens"] <= 360 for row in rows)
    assert result.sources["shared"].turns == 1.5
    shown = result.as_dict()["sources"]["t0"]
    assert shown["turns"] == 1.0
    assert shown["completion_tokens"] == 3.0  # two of refund, one that ends it


def test_a_pair_is_held_out_also_where_it_is_shown_the_other_way_round(kitchen: Kitchen) -> None:
    rows = [(n, f"lamp number {n}", f"light {n}", n % 2 == 0) for n in range(200)]  # enough for several ways
    task = {"task": "match", "name": "same", "left": ["ours"], "right": ["theirs"]}
    job = kitchen.job(rows, "id int, ours string, theirs string, truth boolean", task)
    pairs = {"kind": "job", "name": "pairs", "job": job, "truth": {"same": "truth"}, "vary": True}
    turned = kitchen.write("turned.jsonl", [{"a": theirs, "b": ours} for _, ours, theirs, _ in rows])
    held_out = [{"file": turned, "split_by": [["a", "b"]]}]
    result, kept = kitchen.mix("pairs", pairs, held_out=held_out)
    dropped = result.sources["pairs"].dropped["held_out"]
    assert 0 < dropped < len(rows)
    assert len(kept) == len(rows) - dropped
    assert {row["inputs"][0].split()[0] for row in kept} == {"lamp"}
    assert check(kitchen.spark, kitchen.plan("pairs", pairs, held_out=held_out)).exit_code == 0


def test_held_out_rows_are_refused_and_the_check_proves_it(kitchen: Kitchen) -> None:
    rows = [(n, f"Text number {n}!", LABELS[n % 8], f"p{n % 5}") for n in range(20)]
    job = kitchen.job(rows, "id int, text string, truth string, paragraph string", TOPIC)
    held_text = kitchen.write("test.jsonl", [{"text": "text  NUMBER 3"}, {"text": "never seen"}])
    held_paragraph = kitchen.write("paragraphs.jsonl", [{"paragraph": "P1"}])
    held_passage = kitchen.write("passages.jsonl", [{"context": f"Before. {TEXT} After."}])
    prompts = kitchen.write(
        "t0.jsonl",
        [
            {"prompt": f'Given the passage\n"{TEXT.upper()}",\nanswer.', "completion": "fox"},
            {"prompt": "The quick brown fox jumps over the lazy dog. Who?", "completion": "the fox"},
        ],
    )
    held_out = [
        {"file": held_text, "split_by": ["text"]},
        {"file": held_paragraph, "split_by": ["paragraph"]},
        {"file": held_passage, "split_by": ["context"], "passages": True},
    ]
    tickets = {"kind": "job", "name": "tickets", "job": job, "truth": {"topic": "truth"}, "split_by": ["paragraph"]}
    t0 = {"kind": "prompts", "name": "t0", "file": prompts}
    result, kept = kitchen.mix("clean", tickets, t0, held_out=held_out)
    assert result.sources["tickets"].dropped == {"held_out": 5}  # number 3 and the four of paragraph 1
    assert {row["inputs"][0] for row in kept if row["inputs"]} == {
        text for n, text, _, paragraph in rows if n != 3 and paragraph != "p1"
    }
    assert result.sources["t0"].dropped == {"held_out": 1}
    plan = kitchen.plan("clean", tickets, t0, held_out=held_out)
    found = check(kitchen.spark, plan)
    assert (found.rows, found.sharing, found.exit_code) == (len(kept), {}, 0)
    kept = [row for row in kept if row["inputs"] and row["inputs"][0] == "Text number 0!"]  # of paragraph 0

    # the check looks at what stands in the table, not at what the mixture once believed
    said = {"messages": None, "inputs": ["TEXT number 3?"], "split_keys": []}
    quoted = {**said, "inputs": [f"He wrote: {TEXT}"], "id": "tickets_2"}
    named = {**said, "inputs": ["new"], "split_keys": plain(kept)["split_keys"], "id": "tickets_3"}
    more = [{**plain(kept), "dataset": "tickets", "id": "tickets_1", **said}, {**plain(kept), **quoted}]
    schema = kitchen.table("clean").schema
    lake.append(kitchen.spark.createDataFrame([*more, {**plain(kept), **named}], schema), plan.file.output)
    found = check(kitchen.spark, plan)
    assert (found.sharing, found.exit_code) == ({"tickets": 2}, 4)
    only_named = kitchen.plan(
        "clean", tickets, held_out=[{"file": kitchen.write("h.jsonl", [{"p": "p2"}]), "split_by": ["p"]}]
    )
    assert check(kitchen.spark, only_named).sharing == {"tickets": 4}
    with pytest.raises(JobFileError, match="holds nothing out"):
        check(kitchen.spark, kitchen.plan("dirty", tickets, t0))


def test_what_cannot_work_is_refused_before_anything_is_written(kitchen: Kitchen) -> None:
    job = kitchen.job(TICKETS, TICKET_DDL, TOPIC, TAGS, EVEN)
    good = {"kind": "job", "name": "tickets", "job": job, "truth": {"topic": "topic_truth"}}
    alpaca = {"kind": "instructions", "name": "alpaca", "file": kitchen.write("a.jsonl", [{"instruction": "a"}])}
    empty = {"kind": "prompts", "name": "t0", "file": kitchen.write("p.jsonl", [{"prompt": "a", "completion": " "}])}

    def refused(error: type[BurnishError], says: str, *sources: dict[str, Any], **words: Any) -> None:
        with pytest.raises(error, match=says):
            mix(kitchen.spark, kitchen.plan("out", *sources, **words))
        assert not (kitchen.folder / "out").exists()

    refused(
        JobFileError,
        r"sources\[0\]\.truth names topics; .* writes topic, tags, even",
        {**good, "truth": {"topics": "id"}},
    )
    refused(JobFileError, "shows text, so that it cannot be the answer", {**good, "truth": {"topic": "text"}})
    refused(DataContractError, "lacks column truth; it has id, text", {**good, "truth": {"topic": "truth"}})
    refused(DataContractError, "tags_truth of topic .* must be text", {**good, "truth": {"topic": "tags_truth"}})
    refused(DataContractError, "topic_truth of even .* must be a boolean", {**good, "truth": {"even": "topic_truth"}})
    refused(DataContractError, "lacks column paragraph", {**good, "split_by": ["paragraph"]})
    refused(DataContractError, "none of the columns output, response", alpaca)
    refused(DataContractError, "nothing.jsonl cannot be read", {**alpaca, "file": "/nowhere/nothing.jsonl"})
    refused(DataContractError, r"source t0 gives no row: \{'blank': 1\}", good, empty)
    refused(DataContractError, "lacks column b", good, held_out=[{"file": alpaca["file"], "split_by": ["b"]}])
    refused(JobFileError, "where is not a condition", {**alpaca, "where": "nothing = 1"})
    refused(JobFileError, r"tickets.*cannot be read", {**good, "job": str(kitchen.folder / "tickets.yaml")})
    lines = kitchen.folder / "lines.json"
    lines.write_text('{"instruction": "a", "output": "b"}\n' * 2)
    refused(DataContractError, "lines.json does not begin with", {**alpaca, "file": str(lines)})
    output = {"path": str(kitchen.folder / Path(job).stem)}
    with pytest.raises(DataContractError, match="a table that burnish mix did not write"):
        mix(kitchen.spark, kitchen.plan("other", good, output=output))
    with pytest.raises(DataContractError, match="does not exist"):
        check(
            kitchen.spark, kitchen.plan("none", good, held_out=[{"file": alpaca["file"], "split_by": ["instruction"]}])
        )
