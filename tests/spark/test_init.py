"""`init` on real Delta tables: keys that were counted, labels that occur, files that validate."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.init import init
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob
from schemas.yaml_file import parse_job

AWKWARD = [
    "yes",
    "no",
    "12:30",
    "a: b",
    "it's",
    'say "x"',
    "line\nbreak",
    "größe",
    "0777",
    "2024-01-02",
    "~",
    "# no",
    "${x}",
]


def written(spark: SparkSession, folder: Path, rows: Sequence[tuple[object, ...]], ddl: str) -> str:
    spark.createDataFrame(rows, ddl).write.format("delta").option("delta.columnMapping.mode", "name").save(str(folder))
    return str(folder)


def drafted(spark: SparkSession, table: str, **words: object) -> EnrichJob:
    found = {"task": "classify", "columns": ["text"], **words}
    return parse_job(init(spark, table, **found), env={})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tickets(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [
        (
            f"text {n}",
            n % 7,
            1000 + n,
            None if n == 3 else f"u{n}",
            date(2024, 1, 1),
            AWKWARD[n % len(AWKWARD)],
            0.5 * n,
        )
        for n in range(200)
    ]
    ddl = "text string, shop_id int, ticket_no bigint, user_uuid string, day date, status string, score double"
    return written(spark, tmp_path_factory.mktemp("init") / "tickets", rows, ddl)


def test_labels_are_the_values_that_occur_however_awkward(spark: SparkSession, tickets: str) -> None:
    job = drafted(spark, tickets, labels_from="status")
    assert job.source.path == tickets
    assert job.key == ("ticket_no",)
    task = job.columns[0]
    assert task.name == "status_suggested"
    assert sorted(task.labels) == sorted(AWKWARD)  # type: ignore[union-attr, arg-type]


def test_the_file_says_what_was_checked(spark: SparkSession, tickets: str) -> None:
    text = init(spark, tickets, task="classify", columns=["text"], labels_from="status")
    assert "never null and never repeated in 200 rows (version 0)" in text
    assert "'yes': ''    # rows: 16" in text


def test_an_asked_column_is_never_the_key(spark: SparkSession, tickets: str) -> None:
    with pytest.raises(DataContractError, match="no pair that was tried"):
        drafted(spark, tickets, columns=["text", "ticket_no", "user_uuid"])


def test_a_pair_is_found_where_no_column_is_enough(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(f"t{n}", n // 10, n % 10, "open") for n in range(100)]
    table = written(spark, tmp_path / "pairs", rows, "text string, shop_id int, line_no int, status string")
    assert drafted(spark, table).key == ("shop_id", "line_no")


def test_a_column_of_unlike_name_is_a_key_if_nothing_better_is(spark: SparkSession, tmp_path: Path) -> None:
    table = written(
        spark, tmp_path / "plain", [("t", 1, "a"), ("t", 1, "b")], "text string, shop_id int, sku_text string"
    )
    assert drafted(spark, table).key == ("sku_text",)


def test_an_empty_table_gets_a_key_that_says_it_was_not_checked(spark: SparkSession, tmp_path: Path) -> None:
    table = written(spark, tmp_path / "empty", [], "text string, id int")
    text = init(spark, table, task="clean", columns=["text"])
    assert "not checked: the table is empty" in text
    assert parse_job(text, env={}).key == ("id",)


def test_a_table_is_found_by_name(spark: SparkSession, tickets: str) -> None:
    spark.sql("CREATE DATABASE IF NOT EXISTS init_shop")
    spark.sql(f"CREATE TABLE IF NOT EXISTS init_shop.tickets USING delta LOCATION '{tickets}'")
    job = drafted(spark, "init_shop.tickets", task="match", columns=["text", "status"])
    assert job.source.table == "init_shop.tickets"
    assert job.columns[0].inputs == ("text", "status")


def test_columns_with_dots_and_blanks_are_columns(spark: SparkSession, tmp_path: Path) -> None:
    ddl = "`the text` string, `row.id` int, `a status` string"
    table = written(spark, tmp_path / "dots", [("x", 1, "yes"), ("y", 2, "no")], ddl)
    job = drafted(spark, table, columns=["the text"], labels_from="a status")
    assert job.key == ("row.id",)
    assert job.columns[0].inputs == ("the text",)


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"columns": ["txt"]}, DataContractError, r"no column txt \(did you mean text\?\)"),
        ({"labels_from": "day"}, DataContractError, "holds 1 different values"),
        ({"task": "clasify"}, JobFileError, r"did you mean classify"),
        ({"name": "score"}, DataContractError, "take another --name"),
    ],
)
def test_what_does_not_fit_is_refused(
    spark: SparkSession, tickets: str, words: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        drafted(spark, tickets, **words)


def test_a_folder_without_a_table_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="does not exist"):
        drafted(spark, str(tmp_path / "nothing"))
