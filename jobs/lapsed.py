"""What people said of rows whose inputs have changed since: it holds no more, and somebody may want to look again."""

from typing import Any

from pyspark.sql import functions as F

from jobs import lake
from jobs.cells import inputs_hash, said_note
from jobs.people import as_text
from jobs.prepare import Opened

MOST_LISTED = 1_000


def lapsed(opened: Opened) -> dict[str, dict[str, Any]]:
    """By column with such rows, how many there are, and of some the key with what was said last.

    A cell that burnish itself wrote since, as somebody had said, is none of them; nor is a row that is gone.
    """
    found = {task.name: _of_column(opened, at) for at, task in enumerate(opened.tasks)}
    return {name: one for name, one in found.items() if one["rows"]}


def _of_column(opened: Opened, at: int) -> dict[str, Any]:
    people = opened.cells.rules[opened.tasks[at].name].people
    if people is None:
        return {"rows": 0}
    cells = opened.cells.alone(at)
    rows = cells.rows.select(
        lake.key_json(opened.job.key).alias("key"),
        inputs_hash(cells).alias("now"),
        F.col("_state0").alias("state"),
        F.col("_notes0").alias("notes"),
    )
    stands = F.col("state").startswith("done:") & F.array_contains("notes", said_note(F.col("said")))
    holds = F.coalesce((F.col("inputs_hash") == F.col("now")) | stands, F.lit(False))
    known = rows.join(F.broadcast(people.select("key", "inputs_hash", "said", "reviewed_at")), "key")
    each = known.groupBy("key").agg(F.max(holds).alias("holds"), F.max_by("said", "reviewed_at").alias("said"))
    gone = each.where(~F.col("holds")).select("key", as_text(F.col("said")).alias("said"))
    some = gone.orderBy("key").limit(MOST_LISTED).collect()
    return {"rows": gone.count() if len(some) == MOST_LISTED else len(some), "some": [row.asDict() for row in some]}
