"""The canonical form that Catalyst builds, and the states of cells."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NullType, StringType

from jobs import lake
from jobs.cells import with_cells
from jobs.source import Scope
from jobs.texts import canonical, input_hash, is_blank, seen, text_of, type_tag, value_hash
from schemas import canonical as plain
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tables import META_DDL, META_FIELDS

DDL = (
    "s string, b tinyint, l bigint, d decimal(12,3), x double, f float, t boolean, day date, at timestamp, "
    "local timestamp_ntz, raw binary, many array<string>, one struct<a:int,`b c`:timestamp>, pairs map<string,int>"
)
MOMENT = datetime(2024, 7, 1, 12, 30, 15, 250_001, tzinfo=UTC)
SHOWN = "2024-07-01T12:30:15.250001Z"
FULL = ("é", -1, 2**62, Decimal("1.5"), 0.1, 0.5, True, date(2024, 2, 29), MOMENT, MOMENT.replace(tzinfo=None),
        bytearray(b"\x00\xff"), ["a", None], (1, MOMENT), {"k": 1})  # fmt: skip
FULL_TEXTS = ["é", "-1", str(2**62), "1.500", "0.1", "0.5", "true", "2024-02-29", SHOWN, SHOWN[:-1],
              "00ff", '["a",null]', '{"a":1,"b c":"2024-07-01T12:30:15.250001Z"}', '{"k":1}']  # fmt: skip
TAGS = ["s", "i", "i", "d", "f", "f", "b", "D", "t", "n", "x", "j", "j", "j"]
AWKWARD = [
    "",
    " ",
    "\t\n",
    "\0",
    "a\0b",
    "🙂👩‍👩‍👧",
    "e\u0301",
    "é",
    "s:1:a",
    "-",
    "Ā" * 5000,
    '"quoted"\\',
    "\u2028",
    "ß",
    None,
]


@contextmanager
def session_time_zone(spark: SparkSession, name: str) -> Iterator[None]:
    before = str(spark.conf.get("spark.sql.session.timeZone"))
    spark.conf.set("spark.sql.session.timeZone", name)
    try:
        yield
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_every_type_has_the_canonical_form_of_its_text_in_any_time_zone(spark: SparkSession, zone: str) -> None:
    frame = spark.createDataFrame([FULL, (None,) * len(FULL)], DDL)
    kinds = [field.dataType for field in frame.schema]
    tags = [type_tag(kind) for kind in kinds]
    assert tags == TAGS
    texts = [text_of(lake.col(field.name), field.dataType) for field in frame.schema]
    with session_time_zone(spark, zone):
        rows = frame.select(
            F.array(*texts).alias("texts"), canonical(texts, tags).alias("c"), input_hash("f", texts, tags).alias("h")
        ).collect()
    full = next(row for row in rows if row["texts"][0] is not None)
    assert full["texts"] == FULL_TEXTS
    for row in rows:
        expected = plain.canonical(row["texts"], TAGS)
        assert (row["c"], row["h"]) == (expected, plain.question_id("f", expected))
    assert min(row["c"] for row in rows) == "-" * len(TAGS)


def test_strings_of_any_kind_have_the_same_form_and_never_each_others(spark: SparkSession) -> None:
    chosen = random.Random(7)
    letters = [chr(code) for code in (*range(256), 0x3B1, 0x4E2D, 0x1F600, 0x10FFFF)]
    drawn = ["".join(chosen.choices(letters, k=chosen.randrange(12))) for _ in range(400)]
    pairs = [(one, other) for one, other in zip([*AWKWARD, *drawn], [*drawn, *AWKWARD], strict=True)]
    frame = spark.createDataFrame(pairs, "one string, other string")
    texts = [text_of(F.col(name), frame.schema[name].dataType) for name in ("one", "other")]
    rows = frame.select("*", input_hash("fingerprint", texts, ["s", "s"]).alias("h")).collect()
    found = {(row["one"], row["other"]): row["h"] for row in rows}
    assert found == {
        pair: plain.question_id("fingerprint", plain.canonical(pair, ["s", "s"])) for pair in dict.fromkeys(pairs)
    }
    assert len(set(found.values())) == len(found)


def test_invalid_bytes_are_replaced_and_the_repeated_hour_is_two_hours(spark: SparkSession) -> None:
    broken = spark.sql("SELECT cast(X'61ff62' AS string) AS s")
    assert broken.select(text_of(F.col("s"), broken.schema["s"].dataType)).first()[0] == "a\ufffdb"  # type: ignore[index]
    hours = [(datetime(2024, 10, 27, hour, 30, tzinfo=UTC),) for hour in (0, 1)]
    frame = spark.createDataFrame(hours, "at timestamp")
    with session_time_zone(spark, "Europe/Berlin"):
        found = frame.select(text_of(F.col("at"), frame.schema["at"].dataType)).collect()
    assert sorted(row[0] for row in found) == ["2024-10-27T00:30:00.000000Z", "2024-10-27T01:30:00.000000Z"]


def test_what_stands_is_known_from_anything_else(spark: SparkSession) -> None:
    schema = spark.createDataFrame([], DDL).schema
    rows = [FULL, *(tuple(None if at == hole else value for at, value in enumerate(FULL)) for hole in range(len(FULL)))]
    hashed = seen([(F.col(field.name), field.dataType) for field in schema])
    found = [row[0] for row in spark.createDataFrame(rows, schema).select(hashed).collect()]
    assert len(set(found)) == len(rows)
    pairs = [("a", None), (None, "a"), (None, None), ("", None), (None, ""), ("", ""), ("a", ""), ("", "a")]
    both = spark.createDataFrame(pairs, "one string, other string")
    strings = seen([(F.col(name), both.schema[name].dataType) for name in both.columns])
    assert len({row[0] for row in both.select(strings).collect()}) == len(pairs)
    # a column that is not there yet is one with nothing in it
    absent = seen([(F.lit(None), NullType())])
    assert both.where("one IS NULL").select(absent == seen([(F.col("one"), StringType())])).distinct().collect() == [
        Row(True)
    ]  # fmt: skip


def test_blank_is_white_space_of_any_script(spark: SparkSession) -> None:
    texts = ["", " \t\n", "\u00a0\u3000", None, "a", " a ", "\0", "-"]
    frame = spark.createDataFrame([(text,) for text in texts], "s string").select("s", is_blank(F.col("s")).alias("b"))
    assert [row["b"] for row in frame.coalesce(1).collect()] == [True, True, True, True, False, False, False, False]


TASK = {"task": "classify", "name": "topic", "from": ["text"], "labels": ["a", "b"], "accept": 0.5}
NOW, OLD = "f" * 64, "0" * 64


def meta(status: str, text: str, value: str | None, **words: object) -> dict[str, object]:
    """A cell's record: answered about `text`, the column holding `value` afterwards."""
    found: dict[str, object] = dict.fromkeys(META_FIELDS)
    fingerprint = str(words.get("fingerprint", NOW))
    inputs = plain.question_id(fingerprint, plain.canonical([text], ["s"]))
    found |= {"status": status, "fingerprint": fingerprint, "inputs_after": inputs, "question_id": inputs}
    found |= {"text": text, "notes": []} | words
    return found | {"value": value}


def test_states_of_cells(spark: SparkSession, tmp_path: Path) -> None:
    cases: list[tuple[str, str | None, str | None, float | None, str | None, dict[str, object] | None]] = [
        # name, text now, value now, confidence, error, record
        ("new", "x", None, None, None, None),
        ("blank", " ", None, None, None, None),
        ("blank again", " ", None, None, None, meta("skipped", " ", None)),
        ("done", "x", "a", 0.9, None, meta("accepted", "x", "a")),
        ("review", "x", None, 0.1, None, meta("review", "x", None)),
        ("lifted", "x", None, 0.6, None, meta("review", "x", None)),
        ("held", "x", None, 0.6, None, meta("review", "x", None, notes=["guard:pattern"])),
        ("dropped", "x", "a", 0.4, None, meta("accepted", "x", "a")),
        ("reference", "x", "a", None, None, meta("accepted", "x", "a", notes=["reference"])),
        ("moved", "y", "a", 0.9, None, meta("accepted", "x", "a")),
        ("emptied", "", "a", 0.9, None, meta("accepted", "x", "a")),
        ("edited", "x", "b", 0.9, None, meta("accepted", "x", "a")),
        ("erased", "x", None, 0.9, None, meta("accepted", "x", "a")),
        ("kept", "y", "b", 0.9, None, meta("kept", "x", "a")),
        ("other job", "x", "a", 0.9, None, meta("accepted", "x", "a", fingerprint=OLD)),
        ("other job, moved", "y", "a", 0.9, None, meta("accepted", "x", "a", fingerprint=OLD)),
        ("timeout", "x", None, None, "timeout", meta("failed", "x", None)),
        ("fatal", "x", None, None, "engine_fatal", meta("failed", "x", None)),
        ("fatal, moved", "y", None, None, "engine_fatal", meta("failed", "x", None)),
        ("waits", "y", "a", 0.9, None, meta("pending", "x", "a")),
        ("waited for another job", "x", "a", 0.9, None, meta("pending", "x", "a")),
        ("edit taken back", "x", "a", 0.9, None, meta("kept", "x", "a")),
    ]
    expected = {
        "new": "ask:new", "blank": "skip", "blank again": "done:skipped", "done": "done:accepted",
        "review": "done:review", "lifted": "redecide", "held": "done:review", "dropped": "redecide",
        "reference": "done:accepted", "moved": "ask:input", "emptied": "skip", "edited": "kept", "erased": "kept",
        "kept": "done:kept", "other job": "ask:fingerprint", "other job, moved": "ask:fingerprint",
        "timeout": "ask:failed", "fatal": "done:failed", "fatal, moved": "ask:failed", "waits": "ask:new",
        "waited for another job": "redecide", "edit taken back": "redecide",
    }  # fmt: skip
    rows = []
    for case, text, value, confidence, error, record in cases:
        stood = None if record is None else record["value"]
        struct = None if record is None else Row(**{**{n: record[n] for n in META_FIELDS}, "raw_score": confidence})
        rows.append((case, text, value, confidence, error, struct, stood))
    ddl = (
        "id string, text string, topic string, topic_confidence double, topic_error string, topic_meta {}, stood string"
    )
    frame = spark.createDataFrame(rows, ddl.format(META_DDL))
    hashed = F.col("topic_meta").withField("value_hash", value_hash(F.col("stood")))
    frame = frame.withColumn("topic_meta", F.when(F.col("topic_meta").isNotNull(), hashed)).drop("stood").cache()
    job = EnrichJob.model_validate(
        {"source": {"path": str(tmp_path)}, "key": ["id"], "model": "smollm2", "columns": [TASK]}
    )
    scope = Scope(job, 0, frame, frame.schema, True)

    def states(options: RunOptions, comparable: dict[str, frozenset[str]] | None = None) -> dict[str, str]:
        cells = with_cells(spark, scope, {"topic": NOW}, options, comparable=comparable)
        return {row[0]: row[1] for row in cells.rows.select("id", "_state0").collect()}

    assert states(RunOptions()) == expected
    assert states(RunOptions(retry_failed=True)) == expected | {"fatal": "ask:failed"}
    overwritten = {"edited": "ask:input", "erased": "ask:input", "kept": "ask:new"}
    assert states(RunOptions(overwrite_edits=True)) == expected | overwritten
    old = {"other job": "done:accepted", "other job, moved": "ask:input"}
    assert states(RunOptions(keep_old=True), {"topic": frozenset({OLD})}) == expected | old
    old = {"other job": "done:accepted", "other job, moved": "done:accepted"}
    assert states(RunOptions(keep_old=True)) == expected | old
    # under a fingerprint of other columns nobody can say whether the inputs moved
    assert states(RunOptions(keep_old=True), {"topic": frozenset({NOW})}) == expected | old
    frame.unpersist()
