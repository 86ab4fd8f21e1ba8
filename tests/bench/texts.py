"""Generated rows: short customer messages, no two alike, whose shape is the same whatever the seed."""

import random
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

LABELS = {
    "refund": "the customer wants money back",
    "delivery": "where the parcel is, or that it is late",
    "invoice": "asks for an invoice or a receipt",
    "damage": "something arrived broken",
    "account": "cannot log in, or wants data changed",
    "praise": "is content",
    "cancel": "wants to stop an order or a contract",
    "exchange": "wants another size or colour",
    "question": "asks about a product before buying",
    "other": "anything else",
}
CLASSIFY: dict[str, Any] = {"task": "classify", "name": "topic", "from": ["message"], "labels": LABELS}
ANSWER: dict[str, Any] = {
    "task": "answer",
    "name": "wants",
    "from": ["message"],
    "question": "What does the customer want?",
    "max_output_tokens": 16,
}
THINGS = ("lamp", "chair", "kettle", "rug", "shelf", "clock", "mirror", "desk", "sofa", "vase")
WISHES = (
    "has not come and I need it before Friday",
    "came with a crack down one side",
    "was charged twice on my card this month",
    "should go back, please send a label",
    "is lovely, thank you very much",
    "does not fit, can I have the smaller one",
)


def messages(count: int, *, seed: int) -> list[str]:
    """Return messages that differ from those of every other seed."""
    draw = random.Random(seed)
    return [
        f"Order {seed:03d}-{number:07d}: the {draw.choice(THINGS)} {draw.choice(WISHES)}." for number in range(count)
    ]


def write_messages(spark: SparkSession, path: str, texts: list[str]) -> None:
    """Write the messages as a Delta table of `id` and `message`."""
    rows = spark.createDataFrame(list(enumerate(texts)), "id bigint, message string")
    rows.coalesce(2).write.format("delta").mode("overwrite").save(path)


def generated(spark: SparkSession, count: int, *, files: int) -> DataFrame:
    """Return the same kind of rows made by Spark, for tables that no driver should hold."""
    number = F.col("id")
    things, wishes = (F.array(*map(F.lit, words)) for words in (THINGS, WISHES))
    text = F.format_string(
        "Order %09d: the %s %s.",
        number,
        things[(F.abs(F.hash(number, F.lit(1))) % len(THINGS)).cast("int")],
        wishes[(F.abs(F.hash(number, F.lit(2))) % len(WISHES)).cast("int")],
    )
    return spark.range(0, count, 1, files).select("id", text.alias("message"))
