"""`burnish mix`: rows of many sources as one Delta table that training reads, and the proof of what is not in it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.held_out import Guard, own_keys, shown
from jobs.mix_files import MixPlan
from jobs.records import records_of
from jobs.source import resolve_labels
from schemas.errors import DataContractError, JobFileError
from schemas.messages import Message
from schemas.mix import Generated, JobRows, MixFile, ReviewedRows
from schemas.training_row import TRAINING_ROWS
from udfs.ask import code_digest, inquiry_of
from udfs.cards import card_of
from udfs.conversations import encode_conversation
from udfs.generated import NEEDS_FAKER, check_faker
from udfs.mixture import ROWS_DDL, MixSpec, renderer
from udfs.models import stage
from udfs.questions import Setting
from udfs.tokens import load_tokens

TASKS_PER_CORE = 2
PARTS = 1_000_000  # how finely a weight is kept
SAMPLE = (Message(role="user", content="a"), Message(role="assistant", content="b"))


@dataclass(frozen=True)
class DataSet:
    """One source's share of a mixture: rows, means (per row, and in tokens per answer), and what was left out."""

    instances: int
    turns: float
    prompt_tokens: float
    completion_tokens: float
    dropped: dict[str, int]


@dataclass(frozen=True)
class Mixed:
    """What a mixture holds."""

    output: str
    version: int
    sources: dict[str, DataSet]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**vars(self), "sources": {name: vars(one) for name, one in self.sources.items()}}

    def render(self) -> Group:
        """Return the statistics for a terminal, as TÜLU's Table 1 gives them."""
        table = Table(title=f"{self.output}, version {self.version}", title_justify="left")
        table.add_column("data set")
        for heading in ("instances", "turns", "prompt", "completion"):
            table.add_column(heading, justify="right")
        table.add_column("left out")
        for name, one in self.sources.items():
            means = (f"{mean:.1f}" for mean in (one.turns, one.prompt_tokens, one.completion_tokens))
            left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(one.dropped.items()))
            table.add_row(name, f"{one.instances:,}", *means, left_out)
        total = sum(one.instances for one in self.sources.values())
        return Group(table, Text(f"{total:,} rows; turns per row, prompt and completion in tokens per turn"))


@dataclass(frozen=True)
class Checked:
    """How many rows of a mixture share something with what is held out, by data set."""

    output: str
    rows: int
    sharing: dict[str, int]

    @property
    def exit_code(self) -> int:
        """0, or that of a broken data contract."""
        return DataContractError.exit_code if self.sharing else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return dict(vars(self))

    def render(self) -> Text:
        """Return the verdict for a terminal."""
        if not self.sharing:
            return Text(f"{self.output}: none of {self.rows:,} rows shares a key or a passage with what is held out")
        found = ", ".join(f"{count:,} of {name}" for name, count in self.sharing.items())
        return Text(f"{self.output}: {sum(self.sharing.values()):,} of {self.rows:,} rows are held out: {found}")


def mix(spark: SparkSession, plan: MixPlan) -> Mixed:
    """Write a mixture and return its statistics. The same files and the same seed give the same rows.

    Raises:
        DataContractError: a table or column is missing, the output is no mixture, or a source gives no row.
        EnvironmentProblem: the model is missing, or unfit for the form of conversations.
        JobFileError: two labels of a job are the same to the model.
    """
    file = plan.file
    _check_output(spark, file)
    spec = _spec(spark, plan)
    guard = Guard(spark, file.held_out)
    with (
        _persisted(_ranked(records_of(spark, plan, spec))) as ranked,
        _persisted(guard.sharing(_shown(ranked), "content")) as held,
        _persisted(_rendered(_marked(ranked, held, file), spec, file)) as drawn,
        _persisted(guard.sharing(_keyed(drawn.where("dropped IS NULL")), "id")) as shared,
    ):
        # a way to ask may show what is held out where the source did not: two records the other way round
        late = drawn.join(shared.withColumn("late", F.lit("held_out")), "id", "left")
        rendered = late.withColumn("dropped", F.coalesce("dropped", "late")).drop("late")
        facts = _facts(file, rendered)
        for name, one in facts.items():
            if not one.instances:
                raise DataContractError(f"source {name} gives no row: {one.dropped or 'it is empty'}")
        rows = rendered.where("dropped IS NULL").drop("dropped").orderBy("place", "id")
        # a model's card names them; they belong to this version of the table
        licences = {one.name: one.licence for one in file.sources if one.licence}
        lake.replace(rows, file.output, note=json.dumps({"licences": licences}))
    return Mixed(file.output.text, lake.latest_version(spark, file.output), facts)


@contextmanager
def _persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """Keep what would otherwise be computed for every use, for as long as the block lasts."""
    frame.persist()
    try:
        yield frame
    finally:
        frame.unpersist()


def check(spark: SparkSession, plan: MixPlan) -> Checked:
    """Look for held-out rows in a mixture as it stands; writes nothing.

    Raises:
        DataContractError: there is no such mixture, or a held-out table cannot be read.
        JobFileError: nothing is held out.
    """
    file = plan.file
    if not file.held_out:
        raise JobFileError("the mix file holds nothing out, so that there is nothing to prove")
    lake.delta_table(spark, file.output)
    _check_output(spark, file)
    table = lake.read(spark, file.output)
    found = table.join(Guard(spark, file.held_out).sharing(_keyed(table), "id"), "id", "left_semi")
    counts = {row["dataset"]: int(row["count"]) for row in found.groupBy("dataset").count().collect()}
    return Checked(file.output.text, table.count(), dict(sorted(counts.items())))


def _keyed(rows: DataFrame) -> DataFrame:
    """What of training rows must not be shared with what is held out, by the row's id."""
    return rows.select(
        "id",
        # what stands in the row is hashed anew; what only the source knew (a paragraph's number) is on record
        F.array_union("split_keys", own_keys("inputs")).alias("split_keys"),
        shown("inputs").alias("shown"),
    )


def _check_output(spark: SparkSession, file: MixFile) -> None:
    """Refuse to write over what is no mixture."""
    if lake.exists(spark, file.output):
        lake.check_columns(spark, file.output, TRAINING_ROWS, maker="burnish mix")
    else:
        lake.refuse_files(spark, file.output)


def _spec(spark: SparkSession, plan: MixPlan) -> MixSpec:
    """Stage the model, and find out now what would fail on executors."""
    file = plan.file
    staged = stage(file.model)
    card, tokens = card_of(file.model, staged.folder), load_tokens(str(staged.folder))
    if any(isinstance(one, Generated) and one.pairs in NEEDS_FAKER for one in file.sources):
        check_faker()
    if any(not isinstance(one, Generated | JobRows | ReviewedRows) for one in file.sources):
        encode_conversation(SAMPLE, tokens, file.form)
    for job in plan.jobs.values():
        for task in resolve_labels(spark, job).columns:
            inquiry_of(task, Setting(tokens, card, file.longest))
    return MixSpec(file.model, staged.digest, card, file.form, file.longest, file.seed, code_digest())


def _ranked(records: DataFrame) -> DataFrame:
    """Add `content`, a hash of all that a record says, and every record's own keys; mark what was said before."""
    said = F.to_json(F.struct("task", "texts", "answer", "messages"), {"ignoreNullFields": "false"})
    empty = F.array().cast("array<string>")
    keyed = records.withColumn("content", F.sha2(said, 256)).withColumn(
        "split_keys", F.concat(F.coalesce("split_keys", empty), own_keys("texts"))
    )
    same = Window.partitionBy("content", "dropped")
    is_repeated = F.row_number().over(same.orderBy("source")) > 1
    # rows that say the same are held out together, whichever of them has the key
    merged = F.array_distinct(F.flatten(F.collect_set("split_keys").over(same)))
    return keyed.withColumns({"split_keys": merged, "dropped": F.coalesce("dropped", F.when(is_repeated, "duplicate"))})


def _shown(ranked: DataFrame) -> DataFrame:
    return ranked.where("dropped IS NULL").select("content", "split_keys", shown("texts").alias("shown"))


def _marked(ranked: DataFrame, held: DataFrame, file: MixFile) -> DataFrame:
    """Mark also, under `dropped`, what is held out and what a source's cap or weight leaves out."""
    joined = ranked.join(held.withColumn("held", F.lit("held_out")), "content", "left")
    left = joined.withColumn("dropped", F.coalesce("dropped", "held"))
    order = Window.partitionBy("source", F.col("dropped").isNull()).orderBy(_drawn(file, "cap"), "content")
    is_above = F.row_number().over(order) > _by_source([one.rows for one in file.sources], "int")
    why = F.when(is_above, "above_cap").when(_times(file) < 1, "below_weight")
    return left.withColumn("dropped", F.coalesce("dropped", why))


def _rendered(marked: DataFrame, spec: MixSpec, file: MixFile) -> DataFrame:
    """Return the training rows, and a row with nothing but data set and reason for all that is left out."""
    spark = marked.sparkSession
    copies = _copies(marked, file).repartition(TASKS_PER_CORE * spark.sparkContext.defaultParallelism)
    left_out = marked.where("dropped IS NOT NULL").select("dataset", "dropped")
    return copies.mapInPandas(renderer(spec), ROWS_DDL).unionByName(left_out, allowMissingColumns=True)


def _copies(marked: DataFrame, file: MixFile) -> DataFrame:
    """Repeat what is kept as often as its source's weight says, each with the number of its copy.

    `peers` is how many rows one task of one source has.
    """
    copies = F.explode(F.sequence(F.lit(0), _times(file) - 1))
    repeated = marked.where("dropped IS NULL").withColumn("copy", copies)
    return repeated.withColumn("peers", F.count("*").over(Window.partitionBy("source", "task")))


def _times(file: MixFile) -> Column:
    """How often a record occurs: its source's weight, whose fraction is a chance."""
    weight = _by_source([one.weight for one in file.sources], "double")
    is_one_more = _drawn(file, "weight") < (weight - F.floor(weight)) * PARTS
    return F.floor(weight).cast("int") + is_one_more.cast("int")


def _drawn(file: MixFile, what: str) -> Column:
    """A number below `PARTS` that seed and content alone decide."""
    return F.pmod(F.xxhash64(F.lit(file.seed), F.lit(what), F.col("content")), F.lit(PARTS))


def _by_source(values: list[Any], kind: str) -> Column:
    return F.array(*[F.lit(value).cast(kind) for value in values])[F.col("source")]


def _facts(file: MixFile, rendered: DataFrame) -> dict[str, DataSet]:
    sums = [F.sum(name).alias(name) for name in ("turns", "prompt_tokens", "completion_tokens")]
    counted = rendered.groupBy("dataset", "dropped").agg(F.count("*").alias("rows"), *sums).collect()
    kept = {row["dataset"]: row for row in counted if row["dropped"] is None}
    return {
        source.name: _data_set(
            kept.get(source.name),
            {row["dropped"]: int(row["rows"]) for row in counted if row["dropped"] and row["dataset"] == source.name},
        )
        for source in file.sources
    }


def _data_set(row: Any, dropped: dict[str, int]) -> DataSet:
    if row is None:
        return DataSet(0, 0.0, 0.0, 0.0, dropped)
    return DataSet(
        instances=int(row["rows"]),
        turns=row["turns"] / row["rows"],
        prompt_tokens=row["prompt_tokens"] / row["turns"],
        completion_tokens=row["completion_tokens"] / row["turns"],
        dropped=dropped,
    )
