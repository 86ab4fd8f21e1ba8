"""Cells: one output column of one row. Their canonical inputs and what is to be done with them, all in Catalyst.

A cell's state is one word, sometimes with a reason after a colon:

    ask:new | ask:input | ask:fingerprint | ask:failed   a question is to be asked
    redecide       answered before; the acceptance or score declared now decides otherwise
    reference      the reference table knows the value
    person         a person gave the value, or found the model's right
    kept           edited by somebody since burnish wrote it
    skip           nothing to ask, and that is not written yet
    done:<status>  stands as it should

Reads columns of the source (and, under the prefix `_target_`, of a separate target); adds `_state0`, `_state1`, … with
what they are made of, and makes of the cells to do one struct each: task (int), state, hash, question_id, seen
(a hash of what its MERGE must find), old, old_meta, reference, said, was (the status on record).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs import lake
from jobs.acceptance import Rule, plain_rules
from jobs.chosen import identity, is_by_another
from jobs.columns import broken_rule, compared
from jobs.source import TARGET, Scope, one_column
from jobs.texts import canonical, input_hash, is_blank, seen, text_of, type_tag, value_hash
from schemas.errors import PERMANENT_ROW_CODES, DataContractError
from schemas.options import RunOptions
from schemas.tables import HOLDING_NOTES, META_DDL
from schemas.tasks import AnyTask, Clean, Impute, Match

TO_ASK = "ask"
RECORDED = (
    "status", "fingerprint", "question_id", "inputs_after", "value_hash", "proposed", "notes",
    "raw_score", "label_mass", "promise",
)  # fmt: skip
WRITTEN_STATES = ("redecide", "reference", "person", "kept", "skip")
TO_DO = (TO_ASK, *WRITTEN_STATES)
NOT_ASKED = ("reference", "person")  # notes of values that no model gave
DECLARED_GUARDS = ("guard:pattern", "guard:domain", "guard:edit_distance")
SAME_CONFIDENCE = 1e-9
ANSWERED = ("accepted", "unchanged", "review")
Partitions = Mapping[str, frozenset[str | None]]  # hashes of values, by column


@dataclass(frozen=True)
class CellFrame:
    """The scope's rows with a state per task; `structs` say all of a cell, which few rows are asked for.

    `partitions`: where the rows are those to do alone, by column hashes of the values that it has in all of them.
    """

    scope: Scope
    fingerprints: dict[str, str]
    rows: DataFrame
    structs: tuple[Column, ...]
    rules: Mapping[str, Rule]
    options: RunOptions
    comparable: Mapping[str, frozenset[str]] | None = None
    partitions: Partitions = field(default_factory=dict)

    def alone(self, at: int) -> "CellFrame":
        """The same with one column only, at place 0: a question about it then joins nothing for the others."""
        scope = one_column(self.scope, at)
        spark, known = self.rows.sparkSession, self.comparable
        return with_cells(spark, scope, self.fingerprints, self.options, comparable=known, rules=self.rules)

    def scored_as(self, name: str) -> str:
        """What a column's scores are known by: its fingerprint, and the score where it is not the usual one."""
        return identity(self.fingerprints[name], next(task for task in self.scope.tasks if task.name == name))


class View:
    """One task's columns as they stand in the scope's rows."""

    def __init__(self, scope: Scope, task: AnyTask, at: int, *, comparable: frozenset[str] = frozenset()) -> None:
        self.task, self.at, self.comparable = task, at, comparable
        self.kinds = [scope.schema[name].dataType for name in task.inputs]
        self.texts = [text_of(lake.col(name), kind) for name, kind in zip(task.inputs, self.kinds, strict=True)]
        self.tags = [type_tag(kind) for kind in self.kinds]
        prefix = "" if scope.job.is_in_place else TARGET
        there = scope.rows.schema
        self.seen = seen([self._standing(there, prefix + name) for name in compared(scope.job, task)])
        self.value = self._text(there, prefix + task.name)
        self.whole_meta = self._typed(there, prefix + f"{task.name}_meta", META_DDL)
        self.meta = {field: F.col(f"_{field}{at}") for field in RECORDED}
        self.confidence = self._typed(there, f"{prefix}{task.name}_confidence", "double")
        self.error = self._typed(there, f"{prefix}{task.name}_error", "string")

    def columns(self, fingerprint: str) -> dict[str, Column]:
        """The columns that a state is made of.

        A state asks for each hash in several places, and would compute it in each; and a struct is read whole by
        whatever asks for its fields two steps above the scan.
        """
        hashes = {
            f"_hash{self.at}": input_hash(fingerprint, self.texts, self.tags),
            f"_value{self.at}": value_hash(self.value),
        }
        return hashes | {f"_{field}{self.at}": self.whole_meta[field] for field in RECORDED}

    @staticmethod
    def _standing(there: T.StructType, name: str) -> tuple[Column, T.DataType]:
        # a column that the MERGE will find, since it is added before, and nothing in it
        return (lake.col(name), there[name].dataType) if name in there.names else (F.lit(None), T.NullType())

    @staticmethod
    def _typed(there: T.StructType, name: str, kind: str) -> Column:
        return lake.col(name) if name in there.names else F.lit(None).cast(kind)

    @staticmethod
    def _text(there: T.StructType, name: str) -> Column:
        return text_of(lake.col(name), there[name].dataType) if name in there.names else F.lit(None).cast("string")

    def unmoved(self) -> Column:
        """Whether the inputs stand as under the fingerprint on record; taken for so where they were other columns."""
        same = self.meta["inputs_after"] == input_hash(self.meta["fingerprint"], self.texts, self.tags)
        return same | ~self.meta["fingerprint"].isin(*sorted(self.comparable))

    def proposed(self) -> Column:
        """The model's answer as a text, accepted or not."""
        return F.when(self.meta["status"] == "review", self.meta["proposed"]).otherwise(self.value)

    def blank(self) -> Column:
        """Whether there is nothing to ask: no input at all; for a match, a side without any."""
        return nothing_to_ask(self.task, self.texts)


def nothing_to_ask(task: AnyTask, texts: list[Column]) -> Column:
    """Whether a task's inputs, as texts, say nothing: none at all; for a match, on one side."""
    if isinstance(task, Match):
        cut = len(task.left)
        return _all_blank(texts[:cut]) | _all_blank(texts[cut:])
    if task.task == "clean":
        return is_blank(texts[-1])
    return _all_blank(texts)


def _all_blank(texts: list[Column]) -> Column:
    blank = F.lit(True)
    for text in texts:
        blank = blank & is_blank(text)
    return blank


def with_cells(
    spark: SparkSession,
    scope: Scope,
    fingerprints: dict[str, str],
    options: RunOptions,
    *,
    comparable: Mapping[str, frozenset[str]] | None = None,
    rules: Mapping[str, Rule] | None = None,
) -> CellFrame:
    """Add each task's state to the scope's rows.

    Args:
        comparable: per column, the earlier fingerprints under which its task read the columns that it reads now.
        rules: per column, what its answers need; by default the least confidence that the job declares.
    """
    rules = plain_rules(scope.job) if rules is None else rules
    rows = scope.rows
    views: list[View] = []
    structs: list[Column] = []
    read: dict[str, Column] = {}
    decided: dict[str, Column] = {}
    for at, task in enumerate(scope.tasks):
        reference = F.lit(None).cast("string")
        if isinstance(task, Impute) and task.reference is not None:
            rows, reference = _with_reference(spark, rows, task, at)
        view = View(scope, task, at, comparable=(comparable or {}).get(task.name, frozenset()))
        read |= view.columns(fingerprints[task.name])
        decided[f"_state{at}"] = _state(view, fingerprints[task.name], reference, rules[task.name], options)
        structs.append(_struct(view, reference))
        views.append(view)
    rows = rows.withColumns(read)
    for at, view in enumerate(views):
        name = view.task.name
        rows = rules[name].with_membership(rows, scope.job, at, _asked(view, fingerprints[name]))
        rows = rules[name].with_people(rows, scope.job, at, _inputs_hash(view))
    return CellFrame(scope, fingerprints, rows.withColumns(decided), tuple(structs), rules, options, comparable)


def _struct(view: View, reference: Column) -> Column:
    hashed, state = F.col(f"_hash{view.at}"), F.col(f"_state{view.at}")
    return F.struct(
        F.lit(view.at).alias("task"),
        state.alias("state"),
        hashed.alias("hash"),
        F.when(state == "redecide", view.meta["question_id"]).otherwise(hashed).alias("question_id"),
        view.seen.alias("seen"),
        view.value.alias("old"),
        F.to_json(view.whole_meta).alias("old_meta"),
        reference.alias("reference"),
        view.meta["status"].alias("was"),
        view.error.alias("was_error"),
        view.meta["question_id"].alias("was_question"),
        F.col(f"_framed{view.at}").alias("framed"),
        F.col(f"_said{view.at}").alias("said"),
    )


def _state(view: View, fingerprint: str, reference: Column, rule: Rule, options: RunOptions) -> Column:
    task, meta = view.task, view.meta
    status, hashed = meta["status"], F.col(f"_hash{view.at}")
    edited = F.coalesce(meta["value_hash"] != F.col(f"_value{view.at}"), F.lit(False))
    ours = status.isNotNull() & (status != "skipped") & ~edited
    same_fingerprint = meta["fingerprint"] == fingerprint
    same_inputs = meta["inputs_after"] == hashed
    skip = F.coalesce(view.blank(), F.lit(False))
    if isinstance(task, Impute):
        skip = skip | (~is_blank(view.value) & ~F.coalesce(ours, F.lit(False)))
    settled = status.isin(*ANSWERED, "undone")
    if not options.retry_failed:
        settled = settled | ((status == "failed") & view.error.isin(*sorted(PERMANENT_ROW_CODES)))
    settled = settled & ~edited
    known_skip = (status == "skipped") | (status.isNull() if task.in_place else F.lit(False))
    state = F.when(edited & F.lit(not options.overwrite_edits), _done_or("kept", status))
    said = F.col(f"_said{view.at}").isNotNull()
    is_theirs = F.array_contains(meta["notes"], said_note(F.col(f"_said{view.at}")))
    moves = _promise_moves(view, rule) | is_by_another(task, meta["notes"], meta["raw_score"])
    stands_by_person = said & status.isin(*ANSWERED, "undone") & is_theirs & ~edited & ~moves
    state = state.when(F.coalesce(stands_by_person, F.lit(False)), F.concat(F.lit("done:"), status))
    state = state.when(said & ~skip, F.lit("person"))
    # it waited for another version of the job, or somebody took an edit back: what was answered holds again
    stands = status.isin("pending", "kept") & ~edited
    state = state.when(stands & same_fingerprint & same_inputs, F.lit("redecide"))
    state = state.when(settled & same_fingerprint & same_inputs & _flips(view, rule), F.lit("redecide"))
    state = state.when(settled & same_fingerprint & same_inputs, F.concat(F.lit("done:"), status))
    if options.keep_old:
        state = state.when(settled & ~same_fingerprint & view.unmoved(), F.concat(F.lit("done:"), status))
    state = state.when(skip & F.coalesce(known_skip, F.lit(False)), F.lit("done:skipped"))
    state = state.when(skip, F.lit("skip")).when(reference.isNotNull(), F.lit("reference"))
    state = state.when(status.isNull() | status.isin("skipped", "kept", "pending"), F.lit("ask:new"))
    state = state.when(status == "failed", F.lit("ask:failed"))
    if not options.keep_old:
        state = state.when(~same_fingerprint, F.lit("ask:fingerprint"))
    return state.otherwise(F.lit("ask:input"))


def said_note(said: Column) -> Column:
    """The note of a value that a person gave, by which it is known again."""
    return F.concat(F.lit("said:"), F.substring(F.sha2(said, 256), 1, 16))


def _asked(view: View, fingerprint: str) -> Column:
    """The question whose answer a cell holds, or would be asked: one that is written in place has other inputs now."""
    hashed, question = F.col(f"_hash{view.at}"), view.meta["question_id"]
    stands = (view.meta["inputs_after"] == hashed) & (view.meta["fingerprint"] == fingerprint)
    return F.when(F.coalesce(stands, F.lit(False)), question).otherwise(hashed)


def _inputs_hash(view: View) -> Column:
    return F.sha2(canonical(view.texts, view.tags), 256)


def _done_or(name: str, status: Column) -> Column:
    return F.when(status == name, F.lit(f"done:{name}")).otherwise(F.lit(name))


def _promise_moves(view: View, rule: Rule) -> Column:
    """Whether another promise than on record is made now of a model's answer that a person found right."""
    scored = (view.meta["status"] == "accepted") & view.meta["raw_score"].isNotNull()
    return F.coalesce(scored & ~view.meta["promise"].eqNullSafe(_promise_now(view, rule)), F.lit(False))


def _promise_now(view: View, rule: Rule) -> Column:
    """What promise would be on record of a cell, were it judged now; null where its answer passes no more."""
    framed = F.col(f"_framed{view.at}")
    passes = rule.passes(view.meta["raw_score"], view.meta["label_mass"], view.proposed(), framed)
    return F.when(passes, rule.promised(framed))


def _flips(view: View, rule: Rule) -> Column:
    """Whether the acceptance declared now decides otherwise than the one on record, or another score is chosen."""
    notes = F.coalesce(view.meta["notes"], F.array().cast("array<string>"))
    held_back = holds_back(notes)
    if isinstance(view.task, Clean):
        # its guards are judged as they are declared now, whatever they were
        lasting = F.array_except(notes, F.array(*map(F.lit, DECLARED_GUARDS)))
        held_back = holds_back(lasting) | broken_rule(view.task, view.meta["proposed"], view.value).isNotNull()
    by_reference = F.arrays_overlap(notes, F.array(*map(F.lit, NOT_ASKED)))
    scores = (view.meta["raw_score"], view.meta["label_mass"], view.proposed())
    passes = rule.passes(*scores, F.col(f"_framed{view.at}"))
    accepted = (view.meta["status"] == "accepted") & ~by_reference
    lifted = (view.meta["status"] == "review") & ~held_back & passes
    # what was written in place stays where a promise is withdrawn, and its mark goes; a person's yes to it was said of
    # what stood there before
    marked = (view.meta["status"] == "accepted") if view.task.in_place else accepted
    moved = marked & ~view.meta["promise"].eqNullSafe(_promise_now(view, rule))
    if rule.calibration is not None:
        # it may be another one than that by which the confidence was written
        differs = F.abs(view.confidence - rule.confidence(*scores)) > SAME_CONFIDENCE
        moved = moved | (view.meta["status"].isin(*ANSWERED) & ~by_reference & F.coalesce(differs, F.lit(False)))
    is_other = is_by_another(view.task, view.meta["notes"], view.meta["raw_score"])
    moved = moved | (view.meta["status"].isin(*ANSWERED) & ~by_reference & is_other)
    if view.task.in_place:
        return lifted | moved
    return lifted | moved | (accepted & ~passes)


def holds_back(notes: Column) -> Column:
    """Whether one of an answer's notes sends it to review."""
    # as one text: a lambda would keep the whole step from being compiled
    told = F.concat(F.lit("\n"), F.coalesce(F.array_join(notes, "\n"), F.lit("")))
    found = F.lit(False)
    for beginning in HOLDING_NOTES:
        found = found | told.contains(f"\n{beginning}")
    return found


def _with_reference(spark: SparkSession, rows: DataFrame, task: Impute, at: int) -> tuple[DataFrame, Column]:
    """Join the reference table's value; a key with two different values there is no hit."""
    reference = task.reference
    if reference is None:
        raise AssertionError("called without a reference")
    table = lake.read_lookup(spark, reference.table)
    missing = sorted({reference.value, *reference.keys.values()} - set(table.columns))
    if missing:
        raise DataContractError(
            f"reference table {reference.table} lacks {', '.join(missing)}; it has {', '.join(table.columns)}"
        )
    keys = [lake.col(name).cast("string").alias(f"_key{at}_{n}") for n, name in enumerate(reference.keys.values())]
    value = lake.col(reference.value).cast("string")
    found = (
        table.select(*keys, value.alias(f"_ref{at}"))
        .groupBy(*[f"_key{at}_{n}" for n in range(len(keys))])
        .agg(F.collect_set(f"_ref{at}").alias(f"_ref{at}"))
        .where(F.size(f"_ref{at}") == 1)
        .withColumn(f"_ref{at}", F.col(f"_ref{at}")[0])
    )
    matched = F.lit(True)
    for n, name in enumerate(reference.keys):
        matched = matched & (lake.col(name).cast("string") == F.col(f"_key{at}_{n}"))
    joined = rows.join(found, matched, "left").drop(*[f"_key{at}_{n}" for n in range(len(keys))])
    return joined, F.col(f"_ref{at}")


def _only(cells: CellFrame) -> tuple[AnyTask, View]:
    """The task of cells of one column, and its view."""
    (task,) = cells.scope.tasks
    return task, View(cells.scope, task, 0)


def proposed_text(cells: CellFrame) -> Column:
    """The answer on record to each row, as a text; `cells` are those of one column, here and below."""
    _, view = _only(cells)
    return view.proposed()


def asked_question(cells: CellFrame) -> Column:
    """The question whose answer each row holds, or would be asked."""
    task, view = _only(cells)
    return _asked(view, cells.fingerprints[task.name])


def question_of(cells: CellFrame, inputs: Column) -> Column:
    """The question that such inputs would be, given as an array of texts."""
    task, view = _only(cells)
    texts = [F.get(inputs, F.lit(place)) for place in range(len(task.inputs))]
    return input_hash(cells.fingerprints[task.name], texts, view.tags)


def inputs_hash(cells: CellFrame) -> Column:
    """The hash of each row's canonical inputs, whatever model or prompt they are shown in."""
    return _inputs_hash(_only(cells)[1])


def input_texts(cells: CellFrame) -> Column:
    """What a question about each row shows, as an array of texts."""
    return F.array(*_only(cells)[1].texts)
