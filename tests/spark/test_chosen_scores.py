"""Another score for a column: chosen from what is stored with the answers, without a question."""

from typing import Any

import pytest

from jobs.calibrate import calibrate_columns
from jobs.prepare import prepare, remarks
from jobs.review import sample
from schemas.errors import DataContractError
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked
from tests.shop import Shop, column, counts

ROWS = 60
ANSWER = {"task": "answer", "name": "said", "from": ["text"], "question": "What luck?"}
EXTRACT = {"task": "extract", "name": "parts", "from": ["text"], "attributes": {"a": "string", "b": "string"}}
FIELDS = [('{"a":"', 1.0), ("x", 0.9), ("y", 0.6), ('","b":"', 1.0), ("z", 0.8), ('"}', 1.0)]


def script(asked: Asked) -> Any:
    if asked.topic == "copy":
        return FIELDS
    if asked.choices:
        return "maybe"
    number = int(asked.text.split("no ")[1].split()[0])
    return [("bad", 0.9), (" luck", 0.5)] if number % 3 == 0 else [("good", 0.8), (" luck", 0.7)]


def test_another_score_is_published_without_a_question(shop: Shop) -> None:
    shop.endpoint.script = script
    shop.write([(n, f"ticket no {n} .", "good luck") for n in range(ROWS)], "id int, text string, truth string")

    def job(score: str | None = None) -> Any:
        chosen = {"score": score} if score else {}
        return shop.job(ANSWER | chosen, EXTRACT | chosen, accept=0.5)

    shop.run(job())
    rows = shop.rows()
    assert column(rows, "said_confidence", [0, 1]) == pytest.approx([0.45, 0.56])
    assert rows[0]["parts_confidence"] == pytest.approx(0.432)
    assert rows[0]["parts_scores"] == pytest.approx({"a": 0.54, "b": 0.8})
    assert rows[0]["said_meta"]["notes"] == []
    calibrate_columns(shop.spark, job(), truth_table=shop.path, truth={"said": "truth"})
    sample(shop.spark, job(), rows=1, columns=["said"])
    shop.endpoint.taken()

    # what stands there is the usual score still
    with pytest.raises(DataContractError, match="no row"):
        sample(shop.spark, job("minimum"), rows=1, columns=["said"])
    told = remarks(prepare(shop.spark, job("minimum"), options=RunOptions()))
    assert "said: its calibration was made for another score and is not used; make a new one" in told
    assert (rows[0]["said"], rows[0]["said_meta"]["proposed"], rows[1]["said"]) == (None, "bad luck", "good luck")
    least = shop.run(job("minimum"))
    assert counts(least, "said") == {"accepted": ROWS}
    assert counts(least, "parts") == {"accepted": ROWS}
    rows = shop.rows()
    for name, key, score in (("said", 0, 0.5), ("said", 1, 0.7), ("parts", 0, 0.6)):
        meta = rows[key][f"{name}_meta"]
        assert (rows[key][f"{name}_confidence"], meta["raw_score"]) == (pytest.approx(score), pytest.approx(score))
        assert "score:minimum" in meta["notes"]
    assert rows[0]["parts_scores"] == pytest.approx({"a": 0.54, "b": 0.8})
    assert not prepare(shop.spark, job("minimum"), options=RunOptions()).writes

    shop.run(job("mean_probability"))
    rows = shop.rows()
    assert column(rows, "said_confidence", [0, 1]) == pytest.approx([0.7, 0.75])
    assert rows[0]["parts_confidence"] == pytest.approx(0.875)
    # and back: the calibration holds again
    shop.run(job())
    rows = shop.rows()
    assert not [note for note in rows[0]["said_meta"]["notes"] if note.startswith("score:")]
    assert rows[0]["said_meta"]["raw_score"] == pytest.approx(0.45)
    assert rows[0]["said_confidence"] < 0.4
    assert not shop.endpoint.taken()

    # a doubtful answer about which neither yes nor no is said has no score of a second look, and is counted so
    looked = shop.run(shop.job(ANSWER | {"second_look": 0.5, "score": "second_look"}, accept=0.5), reask=True)
    assert counts(looked, "said") == {"accepted": 40, "review": 20}
    assert (looked.columns["said"]["not_scored"], looked.columns["said"]["not_scored_share"]) == (20, 0.333333)
    assert column(shop.rows(), "said_confidence", [0, 1]) == [None, pytest.approx(0.56)]
