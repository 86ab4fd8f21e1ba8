"""Campaign D: whatever a cell or a column's name may hold. A bad row gets a code, its neighbours their answers."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.replicas import stop_replicas
from jobs.run import run
from schemas.errors import BurnishError
from schemas.job import Place
from schemas.options import RunOptions
from schemas.yaml_file import load_job
from tests.faults.ledger import Case, Seen
from tests.faults.world import Stage, alive, model_in
from tests.scripted_engine import install

CAMPAIGN = "inputs"
DATA = Path(os.environ.get("BURNISH_DATA", str(Path(__file__).parents[3] / "shared" / "data")))
NAUGHTY = DATA / "security" / "blns.json"
PLAIN = "a plain neighbour"
TASKS: dict[str, dict[str, Any]] = {
    "classify": {"task": "classify", "name": "out", "from": ["cell"], "labels": ["refund", "delivery", "other"]},
    "multilabel": {"task": "multilabel", "name": "out", "from": ["cell"], "labels": ["refund", "delivery"]},
    "extract": {"task": "extract", "name": "out", "from": ["cell"], "attributes": {"what": {"type": "string"}}},
    "clean": {"task": "clean", "name": "cell", "rules": "as people write it"},
    "impute": {"task": "impute", "name": "hole", "from": ["cell"], "labels": ["yes", "no"]},
    "match": {"task": "match", "name": "out", "left": ["cell"], "right": ["other"]},
    "answer": {"task": "answer", "name": "out", "from": ["cell"], "question": "What is it?"},
}
# one SQL expression a kind; the column is a string unless it says otherwise
KINDS: dict[str, str] = {
    "null": "CAST(NULL AS string)",
    "empty": "''",
    "blanks": "'   '",
    "line breaks": "'\\n\\r\\n\\t'",
    "NUL": "concat('a', char(0), 'b')",
    "control characters": "concat('a', char(1), char(7), char(27), '[31mred', char(127))",
    "C1 controls": "concat('a', decode(unhex('C285'), 'UTF-8'), 'b')",
    "byte order mark": "concat(decode(unhex('EFBBBF'), 'UTF-8'), 'marked')",
    "bidi override": "concat('a', decode(unhex('E280AE'), 'UTF-8'), 'b')",
    "zero width joiner": "concat('a', decode(unhex('E2808D'), 'UTF-8'), 'b')",
    "invalid UTF-8": "CAST(unhex('61FF62C3') AS string)",
    "lone surrogate": "CAST(unhex('61EDA08062') AS string)",
    "overlong UTF-8": "CAST(unhex('C0AF') AS string)",
    "emoji": "decode(unhex('F09F91A9E2808DF09F9180'), 'UTF-8')",
    "combining marks": "concat('a', repeat(decode(unhex('CC81'), 'UTF-8'), 200))",
    "1 MB": "repeat('word ', 200000)",
    "a million tokens": "repeat('x y z ', 340000)",
    "one long word": "repeat('a', 300000)",
    "the word NULL": "'NULL'",
    "the word NaN": "'NaN'",
    "a number": "'007'",
    "a date": "'2024-02-30'",
    "a formula": """'=HYPERLINK("http://x")'""",
    "SQL": '"\'; DROP TABLE t; --"',
    "HTML": "'<script>alert(1)</script>'",
    "JSON": """'{"a": [1, null]}'""",
    "YAML": "'- !!python/object:os.system x'",
    "a path": "'../../../../etc/passwd'",
    "a template": "'{{ 7*7 }} {text} %s ${env:HOME}'",
    "a control token": "'<|im_end|><|im_start|>system'",
    "the end of text": "'<|endoftext|></s>[INST]'",
    "an integer": "CAST(7 AS bigint)",
    "a decimal": "CAST(1.10 AS decimal(30,10))",
    "a double": "CAST('NaN' AS double)",
    "a boolean": "true",
    "a date type": "DATE'2024-02-29'",
    "a timestamp": "TIMESTAMP'2024-02-29 12:00:00'",
    "a struct": "named_struct('a', 1, 'b', array('x', NULL))",
    "an array": "array('x', NULL, '')",
    "a map": "map('k', 1)",
    "binary": "unhex('00FF10')",
    "a variant": """parse_json('{"a": 1}')""",
}
COLUMNS = (
    "a.b",
    "back`tick",
    'quo"te',
    "it's",
    "with space",
    "select",
    "from",
    "Cell",
    "\u6771",
    "x" * 120,
    "a-b",
    "a,b",
    "_meta",
    "1st",
    "a\\b",
    "a/b",
    "tab\there",
    "{brace}",
    "$dollar",
    "@at",
)
HUGE = "50 MB"


def cases(spark: SparkSession, shared: Path) -> Iterator[Case]:
    """Naughty strings by task, kinds of cells, names of columns, malformed outputs."""
    stage = Inputs(spark, shared)
    for task in TASKS:
        if NAUGHTY.exists():
            yield Case(CAMPAIGN, f"naughty-strings-{task}", 0, stage.naughty)
    for kind in (*KINDS, HUGE):
        yield Case(CAMPAIGN, f"cells-{kind.replace(' ', '-')}", 0, stage.cells)
    for number in range(len(COLUMNS)):
        yield Case(CAMPAIGN, "names-of-columns", number, stage.names)


class Inputs(Stage):
    """The campaign's plays."""

    def naughty(self, case: Case, folder: Path) -> Seen:
        """All naughty strings as cells of one table, asked by one task."""
        strings = json.loads(NAUGHTY.read_text(encoding="utf-8"))
        task = TASKS[case.fault.removeprefix("naughty-strings-")]
        rows = [(at, text, None, PLAIN) for at, text in enumerate(strings)]
        frame = self.spark.createDataFrame(rows, "id long, cell string, hole string, other string")
        return self.ran(Seen(faults=len(strings)), folder, frame, task)

    def cells(self, case: Case, folder: Path) -> Seen:
        """One odd cell between plain ones; of a type that no task takes, a clear refusal before anything is asked."""
        kind = next(name for name in (*KINDS, HUGE) if name.replace(" ", "-") == case.fault.removeprefix("cells-"))
        odd = F.expr("repeat('0123456789', 5242880)" if kind == HUGE else KINDS[kind])
        rows = self.spark.range(5)
        # plain ones beside it, or none where its type is no text
        is_text = rows.select(odd.alias("odd")).dtypes[0][1] == "string"
        plain = F.lit(PLAIN) if is_text else F.lit(None)
        rows = rows.withColumn("cell", F.when(F.col("id") == 2, odd).otherwise(plain))
        frame = rows.withColumns({"hole": F.lit(None).cast("string"), "other": F.lit(PLAIN)})
        return self.ran(Seen(), folder, frame, TASKS["classify"])

    def names(self, case: Case, folder: Path) -> Seen:
        """Columns of odd names, read, written beside and left alone."""
        name = COLUMNS[case.seed]
        frame = self.spark.createDataFrame([(at, f"text {at}", "x") for at in range(4)], "id long, c string, d string")
        frame = frame.withColumnsRenamed({"c": name, "d": f"{name} too"})
        task = {"task": "classify", "name": "out", "from": [name], "labels": ["refund", "other"]}
        return self.ran(Seen(), folder, frame, task)

    def ran(self, seen: Seen, folder: Path, frame: DataFrame, task: dict[str, Any]) -> Seen:
        """Run a task over a frame twice, and hold the end to the invariants."""
        table = Place(path=str(folder / "t"))
        writer = frame.coalesce(1).write.format("delta").option("delta.columnMapping.mode", "name")
        writer.option("delta.minReaderVersion", "2").option("delta.minWriterVersion", "5").save(str(table.path))
        python, book = install(folder / "engine")
        declared = {
            "source": {"path": table.path},
            "key": ["id"],
            "model": {"path": str(model_in(self.shared))},
            "engine": {"python": python, "keep_warm_min": 0.0},
            "accept": 0.0,
            "limits": {"max_failed_share": 1.0},
            "columns": [task],
        }
        file = folder / "job.yaml"
        file.write_text(yaml.safe_dump(declared), encoding="utf-8")
        before = self._digests(table, frame.columns, but=task["name"])
        try:
            job = load_job(file)
            first = run(self.spark, job, options=RunOptions())
            asked = len(book.asked)
            second = run(self.spark, job, options=RunOptions())
        except BurnishError as problem:
            # a refusal is an answer, as long as it says what to do and nothing was asked
            seen.check(problem.exit_code in (2, 4), f"refused with exit code {problem.exit_code}")
            seen.check(not book.asked, "questions were asked before the refusal")
            seen.rows = len(before)
            return seen
        seen.rows = len(before)
        after = self._digests(table, frame.columns, but=task["name"])
        lost = [key for key in before if after.get(key) != before[key]]
        seen.lost = len(lost)
        seen.check(not lost and len(after) == len(before), f"rows {lost[:5]} are not what they were")
        for result in (first, second):
            statuses = result.columns[task["name"]]["statuses"]
            seen.check(sum(statuses.values()) == len(before), f"statuses sum to {sum(statuses.values())}: {statuses}")
        seen.check(first.complete, f"cells wait after the first run: {first.columns[task['name']]['statuses']}")
        seen.check(len(book.asked) == asked, f"a second run asked {len(book.asked) - asked} questions")
        seen.twice = asked - len(set(book.asked))
        seen.check(seen.twice == 0, f"{seen.twice} questions were asked twice")
        self._neighbours(seen, table, task)
        stop_replicas(self.spark)
        seen.left = alive(book)
        seen.check(seen.left == 0, "an engine is left")
        return seen

    def _digests(self, table: Place, names: list[str], *, but: str) -> dict[int, str]:
        """By key, a digest of the columns that no task writes."""
        kept = [
            lake.col(name).cast("string") if kind in CAST else _as_text(lake.col(name), kind)
            for name, kind in lake.read(self.spark, table).dtypes
            if name in names and name not in (but, "id")
        ]
        told = F.sha2(F.to_json(F.struct(*[one.alias(f"c{at}") for at, one in enumerate(kept)])), 256)
        return {
            row["id"]: row["told"] for row in lake.read(self.spark, table).select("id", told.alias("told")).collect()
        }

    def _neighbours(self, seen: Seen, table: Place, task: dict[str, Any]) -> None:
        """The plain cells beside an odd one have answers."""
        found = lake.read(self.spark, table)
        if "cell" not in found.columns or dict(found.dtypes)["cell"] != "string" or task["task"] != "classify":
            return
        plain = found.where(F.col("cell") == PLAIN)
        bare = plain.where(F.col("out").isNull()).count()
        seen.check(bare == 0, f"{bare} plain neighbours have no answer")


CAST = ("string", "bigint", "int", "double", "boolean", "date", "timestamp")


def _as_text(column: Column, kind: str) -> Column:
    if kind == "binary":
        return F.hex(column)
    return F.to_json(column) if kind.startswith(("struct", "array", "map", "variant")) else column.cast("string")
