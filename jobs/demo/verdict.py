"""How right the demo's columns are: what stands in the table against the true values that come with it."""

import csv
import importlib.resources
from collections.abc import Callable
from typing import Any

from pyspark.sql import Row
from rich.table import Table

WRITTEN = ("accepted", "unchanged")

Truth = dict[str, str]


def truths() -> dict[str, Truth]:
    """The true values by ticket."""
    text = (importlib.resources.files("jobs.demo") / "truth.csv").read_text(encoding="utf-8")
    return {row["ticket_id"]: row for row in csv.DictReader(text.splitlines())}


def verdict(rows: list[Row]) -> Table:
    """Return, per column, how many cells were answered, how many written, and how many of those are right."""
    known = truths()
    table = Table(title="against the true values", title_justify="left")
    table.add_column("column")
    for heading in ("asked", "written", "right", "of the written"):
        table.add_column(heading, justify="right")
    for name, is_right in CHECKS.items():
        metas = [(row, row[f"{name}_meta"]) for row in rows]
        asked = [(row, meta["status"]) for row, meta in metas if meta is not None and meta["status"] != "skipped"]
        written = [row for row, status in asked if status in WRITTEN]
        right = sum(is_right(row[name], known[row["ticket_id"]]) for row in written)
        share = f"{right / len(written):.0%}" if written else ""
        table.add_row(name, str(len(asked)), str(len(written)), str(right), share)
    return table


def _order(value: Row | None, truth: Truth) -> bool:
    found = value.asDict() if value is not None else {}
    return all(_text(found.get(name)) == truth[name].casefold() for name in ("order_id", "bought_on", "item"))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()


def _same_as(column: str) -> Callable[[Any, Truth], bool]:
    return lambda value, truth: _text(value) == truth[column].casefold()


CHECKS: dict[str, Callable[[Any, Truth], bool]] = {
    "topic": _same_as("topic"),
    "mentions": lambda value, truth: set(value or ()) == set(filter(None, truth["mentions"].split("|"))),
    "order": _order,
    "phone": _same_as("phone_clean"),
    "country": _same_as("country_true"),
    "same_product": _same_as("same_product"),
    "asks_for_callback": _same_as("asks_for_callback"),
}
