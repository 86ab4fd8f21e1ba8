"""Which labelled rows stand before a question."""

from schemas.fields import Example, ExamplePool, LabelledRow
from udfs.nearest import Nearest

TEXTS = (
    ("my card has not arrived", "delivery"),
    ("where is my new card", "delivery"),
    ("the card never came", "delivery"),
    ("I want my money back", "refund"),
    ("please return the money", "refund"),
    ("your app crashes", "other"),
)


def pool(select: str, k: int) -> ExamplePool:
    rows = tuple(LabelledRow(inputs=(text,), example=Example(input=text, output=label)) for text, label in TEXTS)
    return ExamplePool.model_validate({"select": select, "k": k, "digest": "x", "rows": rows})


def shown(select: str, k: int, text: str) -> list[str]:
    return [example.input for example in Nearest(pool(select, k)).of([text])]


def test_the_most_similar_stands_last() -> None:
    assert shown("similar", 2, "has my card arrived?") == ["where is my new card", "my card has not arrived"]


def test_a_row_is_not_its_own_example() -> None:
    assert "where is my new card" not in shown("similar", 6, "where is my new card")
    assert len(shown("similar", 6, "where is my new card")) == 5


def test_diverse_examples_spread_over_the_labels() -> None:
    found = shown("diverse", 3, "where is my card, or my money")
    labels = [dict(TEXTS)[text] for text in found]
    assert sorted(labels) == ["delivery", "other", "refund"]


def test_more_are_wanted_than_there_are() -> None:
    assert len(shown("diverse", 64, "money")) == len(TEXTS)
    assert len(shown("similar", 64, "money")) == len(TEXTS)


def test_the_rows_do_not_enter_what_is_fingerprinted() -> None:
    assert pool("similar", 2).model_dump(mode="json") == {"select": "similar", "k": 2, "digest": "x"}
