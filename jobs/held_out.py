"""Held-out rows: what of a row must not be shared with them, as hashes, and which rows share it all the same.

Compared are words: upper and lower case, punctuation and blanks apart. A row has a key for its whole text and for
each entry of `split_by`; a passage is known again by any 13 words in a row.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.rows import check_columns, read_rows
from jobs.texts import text_of
from schemas.mix import HeldOut

# as in the decontamination of language models' training data: shorter runs of words are common property
PASSAGE_WORDS = 13
SEPARATOR = "\x1f"


def words(text: Column) -> Column:
    """Return a text's words, small and with one blank between; null for a null."""
    return F.trim(F.regexp_replace(F.lower(text), r"[^\p{L}\p{N}]+", " "))


def key_of(texts: Column) -> Column:
    """Return the key of an array of texts taken together; null where none of them has a word."""
    parts = F.transform(texts, lambda text: F.coalesce(words(text), F.lit("")))
    return F.when(F.exists(parts, lambda part: part != ""), F.sha2(F.array_join(parts, SEPARATOR), 256))


def split_keys(frame: DataFrame, split_by: tuple[tuple[str, ...], ...]) -> Column:
    """Return a row's keys: one for each entry of `split_by`."""
    kinds = {field.name: field.dataType for field in frame.schema}
    named = [key_of(F.array(*[text_of(lake.col(name), kinds[name]) for name in names])) for names in split_by]
    return F.array_compact(F.array(*named).cast("array<string>"))


def passages(texts: Column) -> Column:
    """Return a hash for each 13 words in a row of an array of texts."""
    # split first and then walk over the words as a lambda's variable: written in one, each step would split again
    split = F.transform(texts, lambda text: F.split(words(F.coalesce(text, F.lit(""))), " "))
    return F.array_distinct(F.flatten(F.transform(split, _runs)))


def _runs(found: Column) -> Column:
    none = F.array().cast("array<int>")
    last = F.size(found) - PASSAGE_WORDS + 1
    starts = F.when(last >= 1, F.sequence(F.lit(1), last)).otherwise(none)
    return F.transform(starts, lambda at: F.xxhash64(F.array_join(F.slice(found, at, PASSAGE_WORDS), " ")))


class Guard:
    """Knows what is held out, and finds rows that share it."""

    def __init__(self, spark: SparkSession, held_out: tuple[HeldOut, ...]) -> None:
        """Read nothing yet but the tables' columns.

        Raises:
            DataContractError: one cannot be read, or lacks a column of its `split_by`.
        """
        self._keys: list[DataFrame] = []
        self._passages: list[DataFrame] = []
        for held in held_out:
            frame = read_rows(spark, held)
            names = [name for names in held.split_by for name in names]
            check_columns(frame, names, held.text)
            self._keys.append(frame.select(F.explode(split_keys(frame, held.split_by)).alias("found")))
            if held.passages:
                kinds = {field.name: field.dataType for field in frame.schema}
                texts = F.array(*[text_of(lake.col(name), kinds[name]) for name in names])
                self._passages.append(frame.select(F.explode(passages(texts)).alias("found")))

    def sharing(self, rows: DataFrame, name: str) -> DataFrame:
        """Return the distinct values of column `name` of the rows that share a key or a passage.

        Args:
            rows: with columns `split_keys` and `shown` (see there).
        """
        found = rows.select(name).where("false")
        for held, shown in ((self._keys, F.col("split_keys")), (self._passages, passages(F.col("shown")))):
            if held:
                known = reduce(DataFrame.union, held).distinct()
                exploded = rows.select(name, F.explode(shown).alias("found"))
                found = found.union(exploded.join(known, "found", "left_semi").select(name))
        return found.distinct()


def shown(texts: str) -> Column:
    """Return everything that a row shows as an array: a task's texts (in column `texts`), its answer, the messages."""
    said = F.transform(F.col("messages"), lambda message: message["content"])
    empty = F.array().cast("array<string>")
    return F.concat(F.coalesce(F.col(texts), empty), F.array("answer"), F.coalesce(said, empty))


def own_keys(texts: str) -> Column:
    """Return the keys that every row has: its texts (in column `texts`) together, or each that a user says."""
    asked = F.filter(F.col("messages"), lambda message: message["role"] == "user")
    said = F.transform(asked, lambda message: key_of(F.array(message["content"])))
    return F.array_compact(F.coalesce(said, F.array(key_of(F.col(texts)))))
