"""The report of a job that ran: its facts, as JSON and on the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.report import report
from jobs.review import sample
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop

DDL = "id string, text string, truth string"
TEXTS = ("an img", *map(str, range(9)))


def asked_about(shop: Shop, texts: list[str]) -> Any:
    shop.endpoint.script = unsure
    rows = [(f"{number} {text}", text, "refund") for number, text in enumerate(texts * 4)]
    shop.write(rows, DDL)
    declared = shop.job(TOPIC, accept={"precision": 0.5, "assurance": 0.6}, engine={"gpu_hour_price": 1000})
    shop.run(declared)
    sample(shop.spark, declared, rows=len(rows))
    shop.judge(declared, "refund")
    shop.run(declared)
    return declared


def unsure(asked: Asked) -> Any:
    return ("other", 0.6) if "img" in asked.text else ("refund", 0.7 + len(asked.text) % 20 / 100)


def test_a_page_and_its_facts(shop: Shop, tmp_path: Path) -> None:
    declared = asked_about(shop, list(TEXTS))
    found = report(shop.spark, declared)
    file = tmp_path / "report.html"
    found.write(file)
    facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert "an img" in file.read_text(encoding="utf-8")
    (column,) = facts["columns"]
    assert column["judged"] == 40
    assert sum(column["statuses"].values()) == 40
    # four hold what people said instead
    assert sum(map(sum, column["bins"])) == 36
    assert column["figures"]["auroc"] > 0.9
    assert column["kinds"] == [["other", "refund", 4]]
    assert len(column["mistakes"]) == 4
    assert column["promised"] is not None
    assert column["risk"][-1] == [1.0, pytest.approx(4 / 40)]
    assert len(facts["runs"]) == 2
    moved = {(one["figure"], one["before"], one["now"]) for one in facts["compared"]}
    assert moved == {("accepted", 0, 40), ("review", 40, 0)}
    assert "What differs from the run before" in file.read_text(encoding="utf-8")
    assert facts["runs"][0]["cost"] > 0
    without = report(shop.spark, declared, values=False)
    assert "an img" not in without.html()
    assert without.columns[0].judged == 40
    by_truth = report(shop.spark, declared, truth_table=shop.path, truth={"topic": "truth"})
    assert by_truth.columns[0].judged == 40
