"""Values as texts: what prompts show, what hashes see, what two cells are compared by. All in Catalyst."""

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

BLANK = r"(?U)^\s*$"
MICROS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"
_TAGS: tuple[tuple[type[T.DataType], str], ...] = (
    (T.StringType, "s"),
    (T.IntegralType, "i"),
    (T.FractionalType, "f"),
    (T.BooleanType, "b"),
    (T.DateType, "D"),
    (T.TimestampType, "t"),
    (T.TimestampNTZType, "n"),
    (T.BinaryType, "x"),
)


def one_of(text: Column, words: Iterable[str]) -> Column:
    """Whether a text is one of these words; null where it is null.

    Compared by their hashes: words may come from a table, and Spark shows a plan's literals in its UI and event log.
    """
    return F.sha2(text, 256).isin(sorted(hashlib.sha256(word.encode()).hexdigest() for word in set(words)))


def type_tag(kind: T.DataType) -> str:
    """Return the letter of a Spark type in the canonical form; whatever is nested is `j`."""
    if isinstance(kind, T.DecimalType):
        return "d"
    return next((tag for known, tag in _TAGS if isinstance(kind, known)), "j")


def text_of(column: Column, kind: T.DataType) -> Column:
    """Return a value as the text that prompts show and hashes see: UTC times, hex bytes, JSON for what is nested."""
    tag = type_tag(kind)
    if tag == "s":
        return F.make_valid_utf8(column)
    if tag == "t":
        # counted from the epoch: a local time would be ambiguous in the hour that summer time repeats
        passed = F.make_dt_interval(secs=F.unix_micros(column).cast("decimal(20,0)") / F.lit(Decimal(1_000_000)))
        utc = F.lit("1970-01-01 00:00:00").cast("timestamp_ntz") + passed
        return F.date_format(utc, MICROS + "'Z'")
    if tag == "n":
        return F.date_format(column, MICROS)
    if tag == "x":
        return F.lower(F.hex(column))
    if tag == "j":
        micros = {"timestampFormat": MICROS + "'Z'", "timestampNTZFormat": MICROS}
        return F.to_json(column, {"ignoreNullFields": "false", "timeZone": "UTC", **micros})
    return column.cast("string")


def value_of(text: Column, kind: T.DataType) -> Column:
    """Return the value that `text_of` made a text of."""
    tag = type_tag(kind)
    if tag == "s":
        return text
    if tag == "x":
        return F.unhex(text)
    if tag == "j":
        micros = {"timestampFormat": MICROS + "'Z'", "timestampNTZFormat": MICROS, "timeZone": "UTC"}
        return F.from_json(text, F.lit(kind.simpleString()), micros)
    return text.cast(kind)


def canonical(texts: list[Column], tags: list[str]) -> Column:
    """Return `schemas.canonical.canonical` of the same inputs, built by Catalyst."""
    parts = [
        F.when(text.isNull(), F.lit("-")).otherwise(
            F.concat(F.lit(f"{tag}:"), F.octet_length(text).cast("string"), F.lit(":"), text)
        )
        for text, tag in zip(texts, tags, strict=True)
    ]
    return F.concat(*parts)


def input_hash(fingerprint: str | Column, texts: list[Column], tags: list[str]) -> Column:
    """Return `schemas.canonical.question_id` of the same inputs, built by Catalyst."""
    return F.sha2(F.concat(F.lit(fingerprint), canonical(texts, tags)), 256)


def value_hash(text: Column) -> Column:
    """Return the hash of a cell's value as it stands; null has one too."""
    return F.sha2(F.coalesce(F.concat(F.lit("="), text), F.lit("-")), 256)


def seen(values: Sequence[tuple[Column, T.DataType]]) -> Column:
    """Return a hash of values as they stand, by which a row is known to be as it was seen: a bigint, null apart.

    Of the values themselves, without making texts of them: each is computed for every row of a MERGE.
    """
    parts = [part for column, kind in values for part in (column.isNull(), _hashable(column, kind))]
    return F.xxhash64(*parts)


def _hashable(column: Column, kind: T.DataType) -> Column:
    # a map has no order, and Spark no hash of it
    return text_of(column, kind) if "map<" in kind.simpleString() or "variant" in kind.simpleString() else column


def is_blank(text: Column) -> Column:
    """Whether a text is null or nothing but white space of any script."""
    return text.isNull() | text.rlike(BLANK)
