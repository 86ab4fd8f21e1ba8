"""The score that a column's confidence is: one of those stored with each answer. All in Catalyst.

A cell's record has the note `score:<name>` where its confidence is another than the usual one; frames and calibrations
are known by the score, too, so that none is used for another.
"""

from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.scores import FIELD_MARK, LOOK_KEY, OF_TEXT, ScoreName, of_field
from schemas.tasks import AnyTask, Extract

NOTE = "score:"
Field = Callable[[str], Column]


def score_of(task: AnyTask, answer: Field, name: ScoreName | None = None) -> Column:
    """A score of an answer as a probability, by default the one that the task chose; null where it was not stored.

    Args:
        answer: gives the columns `confidence`, `label_mass` and `scores` of the answers table.
    """
    name = name or task.chosen_score
    if name in (None, task.score_names[0]):
        return answer("confidence")
    if name == "label_mass":
        return answer("label_mass")
    if name == "probability":
        return answer("confidence") * answer("label_mass")
    scores = answer("scores")
    if name == "second_look":
        return scores[LOOK_KEY]
    if isinstance(task, Extract):
        return _lowest([scores[of_field(field, name)] for field in task.attributes])
    return scores[name]


def with_score(answers: DataFrame, task: AnyTask) -> DataFrame:
    """The answers of one task with the score that it chose as their `confidence`."""
    return answers.withColumn("confidence", score_of(task, F.col))


def shown_scores(task: AnyTask, scores: Column) -> Column:
    """What `x_scores` shows of an answer's scores: a figure for each label or field."""
    if isinstance(task, Extract):
        return F.map_filter(scores, lambda name, _: ~name.contains(FIELD_MARK))
    if task.writes_scores and task.think:
        # no label was read by itself
        return F.map_filter(scores, lambda name, _: ~name.isin(*OF_TEXT))
    # what a second look found is no label's
    return scores if task.second_look is None else F.map_filter(scores, lambda name, _: name != LOOK_KEY)


def identity(fingerprint: str, task: AnyTask) -> str:
    """What the scores of a column are known by in `frames` and `calibrations`: its fingerprint, and the chosen one."""
    return fingerprint if task.chosen_score is None else f"{fingerprint} {task.chosen_score}"


def is_same_question(one: str, other: str) -> bool:
    """Whether two such identities differ by the choice of score at most."""
    return one.partition(" ")[0] == other.partition(" ")[0]


def note_of(task: AnyTask) -> str | None:
    """The note of a confidence that is not the usual one."""
    return None if task.chosen_score is None else NOTE + task.chosen_score


def is_by_choice(task: AnyTask, notes: Column) -> Column:
    """Whether a confidence on record, with these notes, is the score that the task chose."""
    if (note := note_of(task)) is not None:
        return F.coalesce(F.array_contains(notes, note), F.lit(False))
    return ~_has_note(notes)


def is_by_another(task: AnyTask, notes: Column, raw: Column) -> Column:
    """Whether there is a confidence on record that is another score; a cell without one has no note."""
    return (raw.isNotNull() | _has_note(notes)) & ~is_by_choice(task, notes)


def _has_note(notes: Column) -> Column:
    # as one text: a lambda would keep the whole step from being compiled
    told = F.concat(F.lit("\n"), F.coalesce(F.array_join(notes, "\n"), F.lit("")))
    return told.contains("\n" + NOTE)


def _lowest(parts: list[Column]) -> Column:
    """The lowest of all; null where one is."""
    known = reduce(lambda left, right: left & right, [part.isNotNull() for part in parts])
    return F.when(known, F.least(*parts) if len(parts) > 1 else parts[0])
