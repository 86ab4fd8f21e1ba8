"""The report of a job that ran: its facts, as JSON and on the page."""

import json
from pathlib import Path

import pytest

from jobs.report import report
from tests.shop import Shop
from tests.spark.promises.tickets import ROWS, job

WRONG = ROWS // 5


def test_a_page_and_its_facts(drawn: Shop, tmp_path: Path) -> None:
    declared = job(drawn)
    drawn.judge(declared, "refund")
    drawn.run(declared)
    found = report(drawn.spark, declared)
    file = tmp_path / "report.html"
    found.write(file)
    facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert "ticket no 7 ." in file.read_text(encoding="utf-8")
    (column,) = facts["columns"]
    assert column["judged"] == ROWS
    assert sum(column["statuses"].values()) == ROWS
    # the others hold what people said instead
    assert sum(map(sum, column["bins"])) == ROWS - WRONG
    assert column["figures"]["auroc"] > 0.9
    assert column["kinds"] == [["other", "refund", WRONG]]
    mistakes = column["mistakes"]
    assert len({one["key"] for one in mistakes}) == len(mistakes) == WRONG
    assert {(one["answer"], one["right"], one["correction"]) for one in mistakes} == {("other", False, "refund")}
    assert [one["confidence"] for one in mistakes] == sorted((one["confidence"] for one in mistakes), reverse=True)
    assert column["promised"] is not None
    assert column["risk"][-1] == [1.0, pytest.approx(WRONG / ROWS)]
    assert len(facts["runs"]) == 2
    moved = {(one["figure"], one["before"], one["now"]) for one in facts["compared"]}
    assert moved == {("accepted", 0, ROWS), ("review", ROWS, 0)}
    assert "What differs from the run before" in file.read_text(encoding="utf-8")
    assert facts["runs"][0]["cost"] > 0
    without = report(drawn.spark, declared, values=False)
    assert "ticket no" not in without.html()
    assert without.columns[0].judged == ROWS
    by_truth = report(drawn.spark, declared, truth_table=drawn.path, truth={"topic": "truth"})
    assert by_truth.columns[0].judged == ROWS
