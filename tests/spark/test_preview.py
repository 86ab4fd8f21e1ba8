"""Preview: real answers for a few rows, and nothing written; the same whether pyspark uses Arrow or not."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F

from jobs.preview import preview, preview_table
from schemas.errors import DataContractError, JobFileError
from schemas.tasks import Classify, Clean
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop, setting

DDL = "id long, text string, n int, at timestamp"
MOMENT = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
ROWS = [(1, "refund", None, MOMENT), (2, None, 7, None), (3, "unscored", 8, None)]
CLASSIFY = Classify.model_validate(TOPIC)
CLEAN = Clean.model_validate({"task": "clean", "name": "text", "rules": "lower case"})


@pytest.fixture(params=["true", "false"])
def arrow(request: pytest.FixtureRequest, shop: Shop) -> Iterator[None]:
    """Before Spark 4.2 the setting is off unless somebody turns it on."""
    with setting(shop.spark, "spark.sql.execution.arrow.pyspark.enabled", request.param):
        yield


def unscored(text: str) -> Callable[[Asked], str | tuple[str, float] | None]:
    """A script that answers questions about this text with a label nobody can be sure of."""
    return lambda asked: ("other", 0.2) if text in asked.text else None


@pytest.mark.usefixtures("arrow")
def test_nulls_stay_null_and_types_what_they_were(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    shop.endpoint.script = unscored("unscored")
    frame = shop.frame()
    shown = preview_table(shop.spark, shop.job(TOPIC), rows=3).frame
    assert shown.select(*frame.columns).schema == frame.schema
    found = {row["id"]: row for row in shown.collect()}
    assert [found[key]["n"] for key in (1, 2, 3)] == [None, 7, 8]
    assert {row["id"]: row["s"] for row in shown.select("id", F.unix_seconds("at").alias("s")).collect()}[1] == int(
        MOMENT.timestamp()
    )
    statuses = {key: row["topic_meta"]["status"] for key, row in found.items() if row["topic_meta"]}
    assert statuses == {1: "accepted", 2: "skipped", 3: "review"}
    assert (found[1]["topic"], found[3]["topic"], found[2]["topic_confidence"]) == ("refund", None, None)


@pytest.mark.usefixtures("arrow")
def test_an_endpoint_without_log_probabilities_previews_with_null_confidences(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    shop.endpoint.has_logprobs = False
    rows = preview(shop.frame(), [CLASSIFY, CLEAN], model=shop.endpoint.model).orderBy("id").collect()
    assert [(row["topic"], row["topic_confidence"]) for row in rows] == [
        ("refund", None),
        (None, None),
        ("other", None),
    ]
    # nothing says that an unscored correction may overwrite the cell
    assert [row["text_meta"] and row["text_meta"]["status"] for row in rows] == ["unchanged", None, "unchanged"]
    strict = CLASSIFY.model_copy(update={"accept": 0.5})
    with pytest.raises(JobFileError, match="returns no log-probabilities"):
        preview(shop.frame(), [strict], model=shop.endpoint.model)


def test_a_misspelt_column_is_named_before_anything_is_asked(shop: Shop) -> None:
    shop.write(ROWS, DDL)
    wrong = CLASSIFY.model_copy(update={"from_": ("txt",)})
    with pytest.raises(DataContractError, match="the DataFrame lacks column txt; it has id, text, n, at"):
        preview(shop.frame(), [wrong], model=shop.endpoint.model)
    assert (shop.endpoint.probes, shop.endpoint.taken()) == (0, {})
