"""A promise on writes: a frame, a draw, people's verdicts, a threshold, and what a run writes by it."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs import lake
from jobs.frames import frames_of, open_frame, scored_rows
from jobs.mix import mix
from jobs.mix_files import MixPlan
from jobs.plan import plan
from jobs.prepare import open_job, prepare, remarks_on_job
from jobs.purge import purge
from jobs.review import Said, apply, open_rows, sample, standing
from jobs.sheet import harmless
from jobs.trained_on import note_mixtures
from jobs.undo import undo
from jobs.verdicts import import_sheet, import_truth, label, write_sheet
from schemas.errors import DataContractError, JobFileError
from schemas.job import ModelRef, Place
from schemas.mix import MixFile
from schemas.options import RunOptions
from schemas.tables import FRAMES
from tests.shop import TOPIC, Shop, counts
from tests.spark.promises.conftest import Made
from tests.spark.promises.tickets import PROMISE, ROWS, job


def looked(shop: Shop, declared: Any) -> str:
    """Look as a run does, and return what it says."""
    return remarks_on_job(open_job(shop.spark, declared, options=RunOptions(), looks=True))[-1]


def test_what_is_proved_is_written_and_called_promised(promised: Shop, made: Made) -> None:
    declared = job(promised)
    assert made.asked == (0, 0)
    there = promised.rows()
    written = [row for row in there.values() if row["topic_meta"]["promise"] is not None]
    assert len(written) >= ROWS / 2
    assert sum(row["topic"] == "refund" for row in written) / len(written) >= PROMISE["precision"]
    assert {row["topic_meta"]["promise"] for row in written} == {"promised"}
    # what people corrected is written, too, and no promise of the model's
    corrected = [row for row in there.values() if row["topic"] is not None and row["topic_meta"]["promise"] is None]
    assert corrected
    assert {(row["topic"], row["topic_meta"]["notes"][0]) for row in corrected} == {("refund", "person")}
    assert made.night.columns["topic"]["promised"] == len(written)
    assert "holds from score" in made.night.as_dict()["remarks"][-1]
    assert not prepare(promised.spark, declared, options=RunOptions(), looks=True).writes
    assert promised.store(declared).read(promised.spark, "looks").count() == 1


def test_looks_at_a_frame(tickets: Shop) -> None:
    declared = job(tickets)
    opened = open_job(tickets.spark, declared, options=RunOptions())
    open_frame(tickets.spark, opened.cells.alone(0), opened.store, seed="a seed")
    sample(tickets.spark, declared, rows=5)
    # the same rows for everybody who gives this seed
    keys = sorted((f'{{"id":{n}}}' for n in range(ROWS)), key=lambda key: sha256(f"a seed{key}".encode()).hexdigest())
    sampled = tickets.store(declared).read(tickets.spark, "review").orderBy("place").collect()
    assert [row["key"] for row in sampled] == keys[:5]
    assert "no row of its frame is judged yet" in looked(tickets, declared)
    tickets.judge(declared, "refund")
    assert "no threshold proves precision 0.8" in looked(tickets, declared)
    sample(tickets.spark, declared, rows=60)
    tickets.judge(declared, "refund")
    # a plan says so and what a promise takes, and takes no look
    cost, *_, told = plan(tickets.spark, declared, options=RunOptions()).remarks
    assert cost.startswith("topic: precision 0.8 at assurance 0.9 takes ")
    assert "65 rows are judged now, which the next run tests" in told
    assert "holds from score" in looked(tickets, declared)
    looked(tickets, declared)
    # another target is another look, and so is a verdict that somebody takes back
    looked(tickets, job(tickets, accept={"precision": 0.85}))
    place = tickets.store(declared).place("review").path
    tickets.spark.sql(f"UPDATE delta.`{place}` SET verdict = NULL WHERE place = 4")
    assert "no threshold proves" in looked(tickets, declared)
    looks = tickets.store(declared).read(tickets.spark, "looks").orderBy("look").collect()
    # only the judged beginning of the draw counts
    assert [(row["look"], row["labelled"]) for row in looks] == [(1, 5), (2, 65), (3, 65), (4, 3)]
    # a new frame after a refusal is one more look, counted from where such a promise was last proved
    sample(tickets.spark, declared, rows=30, new_frame=True)
    tickets.judge(declared, "refund")
    looked(tickets, declared)
    looks = tickets.store(declared).read(tickets.spark, "looks").orderBy("looked_at").collect()
    assert [(row["look"], row["labelled"]) for row in looks[4:]] == [(3, 30)]
    # whichever score is chosen
    store, scored_as = tickets.store(declared), f"{opened.cells.scored_as('topic')} probability"
    header = {"frame": "another", "target": declared.target_place.text, "column": "topic", "fingerprint": scored_as}
    header |= {"version": 1, "rows": 1, "candidates": "[]", "opened_at": datetime.now(UTC)}
    store.append(lake.rows_of(tickets.spark, [header], FRAMES), "frames")
    (frame,) = frames_of(tickets.spark, store, declared, {"topic": scored_as})["topic"]
    assert frame.before == tuple(dict.fromkeys(row["frame"] for row in looks))


def test_a_sheet_goes_out_and_comes_back(drawn: Shop, tmp_path: Path) -> None:
    declared = job(drawn)
    sheet = tmp_path / "sheet.csv"
    assert write_sheet(drawn.spark, declared, sheet) == ROWS
    with sheet.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert harmless("=1+1") == "'=1+1"
    for line in lines:
        line["verdict"] = "yes" if line["answer"] == "refund" else ""
        line["correction"] = "" if line["answer"] == "refund" else "refund"
    lines[3]["verdict"], lines[3]["correction"] = "skip", ""
    back = tmp_path / "back.csv"

    def write(changes: dict[int, dict[str, str]]) -> None:
        with back.open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[0].keys())
            writer.writeheader()
            writer.writerows(line | changes.get(at, {}) for at, line in enumerate(lines))

    write({0: {"verdict": "perhaps"}, 5: {"verdict": "no", "correction": "nonsense"}, 6: {"column": "colour"}})
    with pytest.raises(JobFileError) as refused:
        import_sheet(drawn.spark, declared, back)
    assert all(f"line {number}" in str(refused.value) for number in (2, 7, 8))
    assert standing(drawn.spark, open_job(drawn.spark, declared, options=RunOptions())).columns["topic"]["judged"] == 0
    write({})
    found = import_sheet(drawn.spark, declared, back).columns["topic"]
    assert (found["drawn"], found["judged"]) == (ROWS, ROWS)
    corrected = drawn.store(declared).read(drawn.spark, "review").where("verdict = 'no'").collect()
    assert {row["correction"] for row in corrected} == {json.dumps("refund")}
    assert (found["skipped"], found["open"], found["right"]) == (1, 0, ROWS - 1 - len(corrected))
    write({1: {"place": "999"}})
    with pytest.raises(DataContractError, match=r"nothing was applied: 1 verdicts .*: topic, frame '.*', place 999"):
        import_sheet(drawn.spark, declared, back)


def test_a_person_answers_at_the_terminal(drawn: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = job(drawn)
    typed = iter(["y", "what", "n", "e", "nonsense", "e", "refund", "s", "q"])
    console = Console(width=100, quiet=True)
    monkeypatch.setattr(console, "input", lambda prompt: next(typed))
    found = label(drawn.spark, declared, console=console, reviewer="somebody")
    # how many are right is not told before all are judged
    told = {count: found.columns["topic"][count] for count in ("drawn", "judged", "skipped", "open", "right")}
    assert told == {"drawn": ROWS, "judged": 4, "skipped": 1, "open": ROWS - 4, "right": None}
    rows = drawn.store(declared).read(drawn.spark, "review").orderBy("place").collect()
    assert [(row["verdict"], row["correction"]) for row in rows[:5]] == [
        ("yes", None), ("no", None), ("no", '"refund"'), ("skip", None), (None, None),
    ]  # fmt: skip
    blind = iter(["refnud", "refund", "", "q"])
    monkeypatch.setattr(console, "input", lambda prompt: next(blind))
    label(drawn.spark, declared, console=console, reviewer="somebody", blind=True)
    rows = drawn.store(declared).read(drawn.spark, "review").orderBy("place").collect()
    assert rows[4]["verdict"] == ("yes" if json.loads(rows[4]["value"]) == "refund" else "no")
    assert rows[5]["verdict"] == "skip"


def test_what_a_person_said_wins_over_the_model(drawn: Shop) -> None:
    declared = job(drawn).model_copy(update={"accept": 0.0})
    opened = open_job(drawn.spark, declared, options=RunOptions())
    wrong = next(row for row in open_rows(drawn.spark, opened) if row["value"] == '"other"')
    right = next(row for row in open_rows(drawn.spark, opened) if row["value"] == '"refund"')
    apply(
        drawn.spark, opened, reviewer="somebody",
        said=[
            Said(wrong["frame"], "topic", wrong["place"], "no", '"delivery"'),
            Said(right["frame"], "topic", right["place"], "yes"),
        ],
    )  # fmt: skip
    ids = [json.loads(row["key"])["id"] for row in (wrong, right)]
    drawn.endpoint.taken()
    result = drawn.run(declared)
    assert not drawn.endpoint.taken()
    assert result.columns["topic"]["from_people"] == 2
    rows = drawn.rows()
    assert [rows[key]["topic"] for key in ids] == ["delivery", "refund"]
    assert all("person" in rows[key]["topic_meta"]["notes"] for key in ids)
    assert [rows[key]["topic_confidence"] is None for key in ids] == [True, False]
    assert not prepare(drawn.spark, declared, options=RunOptions()).writes
    # it is a training row
    file = drawn.folder / "job.yaml"
    file.write_text(declared.model_dump_json(by_alias=True, exclude_none=True))
    source = {"kind": "reviewed", "name": "looked_at", "job": str(file)}
    mix_file = MixFile.model_validate(
        {"model": "smollm2-untuned", "output": {"path": str(drawn.folder / "mix")}, "sources": [source]}
    )
    learned = mix(drawn.spark, MixPlan(mix_file, {"looked_at": declared})).as_dict()
    assert learned["sources"]["looked_at"]["instances"] == 2
    assert_no_frame_holds_what_was_learned(drawn, declared, {rows[key]["text"] for key in ids}, learned["version"])
    # it outlives the prompt, and lapses with the row's input
    drawn.sql(f"UPDATE {{t}} SET text = 'ticket no 1 .' WHERE id = {ids[1]}")
    other = declared.model_copy(
        update={"columns": (declared.columns[0].model_copy(update={"instructions": "Think."}),)}
    )
    drawn.run(other, reask=True)
    rows = drawn.rows()
    assert [rows[key]["topic"] for key in ids] == ["delivery", "refund"]
    assert rows[ids[0]]["topic_meta"]["notes"][0] == "person"
    assert "person" not in rows[ids[1]]["topic_meta"]["notes"]
    # a label that is none any more is told, not written
    fewer = drawn.job({**TOPIC, "labels": ["refund", "other"]}, accept=0.0)
    told = drawn.run(fewer, reask=True).as_dict()["remarks"]
    assert any("1 answers that people gave are none of the labels now" in remark for remark in told)
    assert drawn.rows()[ids[0]]["topic"] == "other"


def assert_no_frame_holds_what_was_learned(shop: Shop, declared: Any, texts: set[str], version: int) -> None:
    product, mixture = shop.folder / "model", shop.folder / "mix"
    product.mkdir()
    note_mixtures(product, declared.model, {Place(path=str(mixture)): version})
    cells = open_job(shop.spark, declared, options=RunOptions()).cells
    trained = declared.model_copy(update={"model": ModelRef(path=str(product))})
    by_trained = replace(cells, scope=replace(cells.scope, job=trained))
    keys = {f'{{"id":{key}}}' for key, row in shop.rows().items() if row["text"] in texts}
    before = {row["key"] for row in scored_rows(cells).collect()}
    assert before & keys
    assert {row["key"] for row in scored_rows(by_trained).collect()} == before - keys
    note_mixtures(product, declared.model, {Place(path=str(mixture)): version + 1})
    with pytest.raises(DataContractError, match="on which the model was trained, cannot be read"):
        scored_rows(by_trained)


def test_a_purged_row_is_out_of_frame_and_review(drawn: Shop) -> None:
    declared = job(drawn)
    store = drawn.store(declared)
    key = json.loads(store.read(drawn.spark, "review").where("place = 2").first()["key"])["id"]
    # another table's row has the same key, and a frame that was cut short is not on record
    mine = store.read(drawn.spark, "framed").where(F.get_json_object("key", "$.id") == key)
    store.append(mine.withColumn("frame", F.explode(F.array(F.lit("cut short"), F.lit("theirs")))), "framed")
    store.append(lake.rows_of(drawn.spark, [{"frame": "theirs", "target": "another table"}], FRAMES), "frames")
    found = purge(drawn.spark, declared, key={"id": str(key)})
    assert (found.rows["review"], found.rows["framed"]) == (1, 2)
    left = [(row["frame"], row["key"]) for row in store.read(drawn.spark, "framed").collect()]
    assert [frame for frame, of in left if json.loads(of)["id"] == key] == ["theirs"]
    assert key not in [json.loads(row["key"])["id"] for row in store.read(drawn.spark, "review").collect()]


def test_a_column_in_place(shop: Shop) -> None:
    clean = {"task": "clean", "name": "city", "rules": "lower case"}
    shop.write([(n, f" ROME{n} ", f"rome{n}") for n in range(40)], "id int, city string, truth string")
    declared = shop.job(clean, accept={"precision": 0.5, "assurance": 0.6})
    assert counts(shop.run(declared), "city") == {"review": 40}
    sample(shop.spark, declared, rows=20)
    import_truth(shop.spark, declared, shop.path, {"city": "truth"})
    result = shop.run(declared)
    assert (result.columns["city"]["promised"], result.columns["city"]["changed"]) == (40, 40)
    assert not prepare(shop.spark, declared, options=RunOptions()).writes
    # where a stricter promise is not proved, what was written stays and nothing is promised of it any more
    stricter = shop.job(clean, accept={"precision": 0.99, "assurance": 0.6})
    withdrawn = shop.run(stricter)
    assert (withdrawn.columns["city"]["promised"], withdrawn.columns["city"]["changed"]) == (0, 0)
    assert in_place(shop) == {("accepted", None)}
    assert not prepare(shop.spark, stricter, options=RunOptions()).writes
    assert undo(shop.spark, declared, run_id=result.run_id, dry_run=True).as_dict()["columns"]["city"]["restored"] == 40
    assert shop.run(declared).columns["city"]["promised"] == 40
    assert in_place(shop) == {("accepted", "promised")}
    # what stands there now has other inputs than the questions had, and the same answers
    sample(shop.spark, declared, rows=10, new_frame=True)
    drawn = shop.store(declared).read(shop.spark, "review").where("verdict IS NULL").collect()
    assert len(drawn) == 10
    assert all(row["value"] == f'"rome{json.loads(row["key"])["id"]}"' for row in drawn)


def in_place(shop: Shop) -> set[tuple[str, str | None]]:
    """What is said of the cleaned cities, which stand as they were written."""
    rows = shop.rows()
    assert all(row["city"] == row["truth"] for row in rows.values())
    return {(row["city_meta"]["status"], row["city_meta"]["promise"]) for row in rows.values()}
