"""What people said of a job's answers: it spreads on request, lapses, teaches by example, and then proves nothing."""

from typing import Any

import pytest
from pyspark.sql import functions as F

from jobs.calibrate import calibrate_columns
from jobs.frames import framed_rows
from jobs.people import columns_spoken_of, found_right, is_found_right
from jobs.prepare import open_job, prepare
from jobs.review import Said, apply, newest_frames, open_rows, review_status, sample
from schemas.errors import DataContractError
from schemas.options import RunOptions
from schemas.tables import REVIEW
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop
from tests.spark.promises.tickets import DDL, ROWS, TWIN, job

ORDER = {
    "task": "extract",
    "name": "order",
    "from": ["text"],
    "attributes": {"city": "string", "size": {"type": "enum", "values": ["small", "large"]}},
}
SAME = {"task": "match", "name": "same", "left": ["text"], "right": ["truth"]}


@pytest.fixture
def said(drawn: Shop) -> Shop:
    """Return the shop with that table, of which somebody has corrected no. 3."""
    correct(drawn, job(drawn), 3, "delivery")
    return drawn


def correct(shop: Shop, declared: Any, key: int, value: str) -> None:
    opened = open_job(shop.spark, declared, options=RunOptions())
    row = next(row for row in open_rows(shop.spark, opened) if row["key"] == f'{{"id":{key}}}')
    apply(
        shop.spark, opened, [Said(row["frame"], "topic", row["place"], "no", f'"{value}"')], reviewer="somebody"
    )  # fmt: skip


def topics(shop: Shop, *keys: int) -> list[str | None]:
    rows = shop.rows()
    return [rows[key]["topic"] for key in keys]


def test_an_answer_spreads_to_equal_inputs_on_request_and_lapses_with_them(said: Shop) -> None:
    said.run(said.job(TOPIC))
    assert topics(said, 3, TWIN, 4) == ["delivery", "refund", "refund"]
    spreading = said.job(TOPIC, review={"spread": True})
    assert said.run(spreading).columns["topic"]["from_people"] == 1
    assert topics(said, 3, TWIN, 4) == ["delivery", "delivery", "refund"]
    # what was said of a row itself goes before what was said of its equal, however new that is
    correct(said, spreading, TWIN, "other")
    # and a row that comes later is not asked about
    said.write([(190, "ticket no 3 .", "delivery")], DDL, mode="append")
    said.endpoint.taken()
    said.run(spreading)
    assert topics(said, 3, TWIN, 190) == ["delivery", "other", "other"]
    assert not said.endpoint.taken()
    assert not prepare(said.spark, spreading, options=RunOptions()).writes
    # an answer of a person lapses when the input changes, and somebody can see which
    assert review_status(said.spark, spreading).lapsed == {}
    said.sql("UPDATE {t} SET text = 'ticket no 3 once more' WHERE id = 3")
    # whoever answered by SQL and gave no date is heard all the same
    review = said.store(spreading).place("review").path
    said.spark.sql(f"UPDATE delta.`{review}` SET reviewed_at = NULL WHERE key = '{{\"id\":3}}'")
    found = review_status(said.spark, spreading)
    assert found.lapsed == {"topic": {"rows": 1, "some": [{"key": '{"id":3}', "said": "delivery"}]}}
    said.run(spreading)
    assert topics(said, 3) == ["refund"]
    assert review_status(said.spark, spreading).lapsed == found.lapsed


def test_columns_spoken_of(shop: Shop) -> None:
    declared = shop.job(TOPIC, TOPIC | {"name": "refused"}, TOPIC | {"name": "silent"}, ORDER, SAME)
    store = shop.store(declared)
    given = [
        ("topic", shop.path, 1, "no", None),
        ("refused", shop.path, 1, "no", '"gone"'),
        ("refused", shop.path, 2, "no", '"gone"'),
        ("refused", shop.path, 2, "no", '"other"'),
        ("silent", shop.path, 1, None, None),
        ("silent", "another table", 1, "no", '"gone"'),
        ("order", shop.path, 1, "no", '{"city":"Rome","size":"small"}'),
        ("order", shop.path, 2, "no", '{"size":null,"city":"Rome","gone":1}'),
        # a value that the enumeration lacks, an attribute of which nobody knew, and no object at all
        ("order", shop.path, 3, "no", '{"city":"small","size":"huge"}'),
        ("order", shop.path, 4, "no", '{"size":"small"}'),
        ("order", shop.path, 5, "no", '"small"'),
        ("same", shop.path, 1, "no", "true"),
        ("same", shop.path, 2, "no", "null"),
    ]
    spoken = shop.spark.createDataFrame(
        [(*row, f"h{row[2]}", nth) for nth, row in enumerate(given)],
        "column string, target string, key int, verdict string, correction string, inputs_hash string, nth int",
    ).withColumn("reviewed_at", F.timestamp_seconds("nth"))
    columns = [
        (F.col(name) if name in spoken.columns else F.lit(None)).cast(kind).alias(name) for name, kind in REVIEW.items()
    ]
    store.append(spoken.select(*columns), "review")
    # a column of which somebody only said no is one; of two words on a row the newer counts
    assert columns_spoken_of(shop.spark, store, declared) == {"topic": 0, "refused": 1, "order": 3, "same": 1}
    # the table's rule for who was found right is the one for single rows
    heard = [
        (verdict, value, said)
        for verdict in ("yes", "no", "skip", None)
        for value in ('"a"', None)
        for said in ('"a"', '"b"', None)
    ]
    rows = shop.spark.createDataFrame(heard, "verdict string, value string, correction string")
    counted = rows.groupBy("verdict", "value", "correction").agg(F.bool_and(is_found_right()).alias("right")).collect()
    assert {tuple(row)[:3]: row["right"] for row in counted} == {one: found_right(*one) for one in heard}


def test_what_people_said_can_be_an_example_and_then_proves_nothing(said: Shop) -> None:
    version = review_status(said.spark, said.job(TOPIC)).version
    shown = {**TOPIC, "examples": {"reviewed": version, "select": "fixed", "k": 1}}
    declared = said.job(shown, accept={"precision": 0.5, "assurance": 0.6})
    heard: list[Asked] = []

    def listen(asked: Asked) -> tuple[str, float]:
        heard.append(asked)
        return ("refund", 0.9)

    said.endpoint.script = listen
    said.run(declared, reask=True)
    assert all("ticket no 3 .\nLabel: delivery" in f"{asked.head}\n{asked.text}" for asked in heard)
    # neither the row nor its twin is in the frame
    assert sample(said.spark, declared, rows=5).columns["topic"]["rows"] == ROWS - 2
    opened = open_job(said.spark, declared, options=RunOptions())
    frame = newest_frames(said.spark, opened)["topic"]
    framed = {row["key"] for row in framed_rows(said.spark, opened.store, [frame], "topic").collect()}
    assert not framed & {'{"id":3}', f'{{"id":{TWIN}}}'}
    # what was said of an answer to other prompts is true of the answers to these (here to the twin, which was asked)
    with pytest.raises(DataContractError, match="topic: 1 judged rows, 0 of them right"):
        calibrate_columns(said.spark, declared)
    with pytest.raises(DataContractError, match="there is no version 99"):
        prepare(
            said.spark, said.job({**TOPIC, "examples": {"reviewed": 99, "select": "fixed"}}), options=RunOptions()
        )  # fmt: skip
