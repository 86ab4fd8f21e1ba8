"""The report of a job that ran: its facts, as JSON and on the page."""

import json
from pathlib import Path

import pytest

from jobs.prepare import open_job
from jobs.report import report
from schemas.options import RunOptions
from tests.shop import Shop
from tests.spark.promises.tickets import ROWS, job

WRONG = ROWS // 5


def test_a_page_and_its_facts(promised: Shop, tmp_path: Path) -> None:
    declared = job(promised)
    wrong = promised.store(declared).read(promised.spark, "review").where("verdict = 'no'").count()
    accepted = sum(row["topic_meta"]["status"] == "accepted" for row in promised.rows().values())
    found = report(promised.spark, declared)
    file = tmp_path / "report.html"
    found.write(file)
    facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    (column,) = facts["columns"]
    assert column["judged"] == ROWS // 2
    assert sum(column["statuses"].values()) == ROWS
    metas = [row["topic_meta"] for row in promised.rows().values()]
    assert column["promises"] == {"promised": sum(meta["promise"] == "promised" for meta in metas)}
    assert facts["model"] == declared.model.text
    # the others hold what people said instead
    assert sum(map(sum, column["bins"])) == ROWS - wrong
    assert column["figures"]["auroc"] > 0.9
    assert column["kinds"] == [["other", "refund", wrong]]
    mistakes = column["mistakes"]
    assert len({one["key"] for one in mistakes}) == len(mistakes) == wrong
    assert {(one["answer"], one["right"], one["correction"]) for one in mistakes} == {("other", False, "refund")}
    assert [one["confidence"] for one in mistakes] == sorted((one["confidence"] for one in mistakes), reverse=True)
    # of the frame's rows, what the proved threshold lets through, whatever people said instead
    opened = open_job(promised.spark, declared, options=RunOptions())
    threshold = (opened.cells.rules["topic"].thresholds or {})[None]
    through = opened.store.read(promised.spark, "framed").where(f"score >= {threshold!r}").count()
    assert column["promised"] == [pytest.approx(through / ROWS), pytest.approx(0.2)]
    assert column["accept"] == "precision 0.8 at assurance 0.9"
    shown = json.loads(mistakes[0]["key"])["id"]
    assert f"ticket no {shown} ." in file.read_text(encoding="utf-8")
    assert column["risk"][-1] == [1.0, pytest.approx(2 * wrong / ROWS)]
    assert len(facts["runs"]) == 2
    moved = {(one["figure"], one["before"], one["now"]) for one in facts["compared"]}
    assert moved == {("accepted", 0, accepted), ("review", ROWS, ROWS - accepted)}
    assert "What differs from the run before" in file.read_text(encoding="utf-8")
    last = facts["runs"][0]
    assert last["cost"] > 0
    # the second run, after the columns were added and the first one's answers merged
    assert (facts["source"], last["source_version"]) == (declared.source.text, 2)
    assert last["started"].endswith(" UTC")
    assert set(last["versions"]) >= {"burnish", "pyspark", "delta-spark"}
    without = report(promised.spark, declared, values=False)
    assert "ticket no" not in without.html()
    assert without.columns[0].judged == ROWS // 2
    by_truth = report(promised.spark, declared, truth_table=promised.path, truth={"topic": "truth"})
    assert (by_truth.columns[0].judged, len(by_truth.columns[0].mistakes)) == (ROWS, WRONG)
