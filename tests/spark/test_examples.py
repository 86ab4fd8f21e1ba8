"""Examples from a pinned table of labelled rows: what a prompt shows, and what of it makes questions new."""

import pytest
from pyspark.sql import SparkSession

from schemas.errors import DataContractError
from tests.scripted_endpoint import Asked, ScriptedEndpoint
from tests.shop import TOPIC, Shop

DDL = "id int, text string"
ROWS = [(1, "my parcel is late"), (2, "I want my money back, please")]
LABELLED = [
    ("the parcel did not come", "delivery"),
    ("a parcel is lost", "delivery"),
    ("give me my money back", "refund"),
    ("money back now", "refund"),
    ("hello there", "other"),
    ("no label", None),
    ("not a label of this task", "colour"),
]


@pytest.fixture
def labelled(spark: SparkSession, shop: Shop) -> str:
    """Return the folder of a table of labelled rows."""
    place = str(shop.folder / "labelled")
    spark.createDataFrame(LABELLED, "text string, truth string").write.format("delta").save(place)
    return place


def prompts(endpoint: ScriptedEndpoint, shop: Shop, **examples: object) -> dict[int, str]:
    """Run a night and return all that was said to the model, by row."""
    asked: list[Asked] = []

    def listen(one: Asked) -> None:
        asked.append(one)

    endpoint.script = listen
    job = shop.job({**TOPIC, "examples": examples})
    result = shop.run(job, reask=True)
    assert result.columns["topic"]["statuses"]["failed"] == 0
    said = {one.text.rpartition("Text: ")[2].partition("\n")[0]: f"{one.head}\n{one.text}" for one in asked}
    return {key: said[text] for key, text in ROWS if text in said}


def test_every_row_is_shown_what_is_like_it(shop: Shop, endpoint: ScriptedEndpoint, labelled: str) -> None:
    shop.write(ROWS, DDL)
    said = prompts(endpoint, shop, from_table=labelled, version=0, truth="truth", k=2)
    assert "a parcel is lost\nLabel: delivery" in said[1]
    assert "give me my money back\nLabel: refund" in said[2]
    assert "parcel" not in said[2]
    assert "no label" not in said[1] + said[2]
    assert not prompts(endpoint, shop, from_table=labelled, version=0, truth="truth", k=2), "asked a second time"


def test_fixed_examples_are_the_same_for_all(shop: Shop, endpoint: ScriptedEndpoint, labelled: str) -> None:
    shop.write(ROWS, DDL)
    said = prompts(endpoint, shop, from_table=labelled, version=0, truth="truth", k=3, select="fixed")
    heads = {
        text.partition("my parcel is late")[0].partition("I want my money back, please")[0] for text in said.values()
    }
    assert len(heads) == 1
    assert heads.pop().count("Label:") >= 3


def test_another_version_of_the_examples_is_another_question(
    spark: SparkSession, shop: Shop, endpoint: ScriptedEndpoint, labelled: str
) -> None:
    shop.write(ROWS, DDL)
    prompts(endpoint, shop, from_table=labelled, version=0, truth="truth", k=2)
    spark.createDataFrame([("parcel parcel late", "delivery")], "text string, truth string").write.format("delta").mode(
        "append"
    ).save(labelled)
    assert not prompts(endpoint, shop, from_table=labelled, version=0, truth="truth", k=2), "the version is pinned"
    said = prompts(endpoint, shop, from_table=labelled, version=1, truth="truth", k=2)
    assert "parcel parcel late" in said[1]


def test_what_cannot_be_shown_is_refused_before_a_question(shop: Shop, labelled: str) -> None:
    shop.write(ROWS, DDL)
    with pytest.raises(DataContractError, match="lacks answer"):
        shop.run(shop.job({**TOPIC, "examples": {"from_table": labelled, "version": 0, "truth": "answer"}}))
    with pytest.raises(DataContractError, match="has no version 7"):
        shop.run(shop.job({**TOPIC, "examples": {"from_table": labelled, "version": 7, "truth": "truth"}}))
    other = TOPIC | {"labels": ["red", "blue"], "examples": {"from_table": labelled, "version": 0, "truth": "truth"}}
    with pytest.raises(DataContractError, match="has a truth that fits the task"):
        shop.run(shop.job(other))
