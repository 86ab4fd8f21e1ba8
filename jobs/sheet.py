"""Sheets for people: CSV that a spreadsheet opens, and what they made of it, read back with checks."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from jobs.review import Said
from schemas.errors import JobFileError

SHEET = ("frame", "column", "place", "inputs", "answer", "verdict", "correction")
NEEDED = ("frame", "column", "place", "verdict", "correction")
DELIMITERS = (",", ";", "\t")  # where a comma stands in numbers, spreadsheets part cells by semicolons
# how a cell's text begins that a spreadsheet would take for a formula, or for the end of a cell and then one
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MOST_CHARACTERS = 30_000  # a spreadsheet breaks a cell of more than 32,767 in two
MOST_COMPLAINTS = 20

_Row = tuple[int, list[str]]


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula, or breaks in two."""
    fits = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
    return f"'{fits}" if fits.startswith(FORMULA) else fits


def read_sheet(sheet: Path, read: Callable[[Mapping[str, str]], Said | None]) -> list[Said]:
    """What a sheet says, once of each row.

    Args:
        read: of one line, what it says, if anything; a ValueError is what is wrong with it.

    Raises:
        JobFileError: with every line that cannot be understood, or contradicts another.
    """
    header, lines = _opened(sheet)
    said: dict[tuple[str, str, int], tuple[int, Said]] = {}
    complaints: list[str] = []
    for number, cells in lines:
        try:
            found = read(_named(header, cells))
            if found is not None:
                _keep(said, number, found)
        except ValueError as problem:
            complaints.append(f"line {number}: {problem}")
    if complaints:
        more = len(complaints) - MOST_COMPLAINTS
        listed = "\n".join(complaints[:MOST_COMPLAINTS]) + (f"\nand {more} more" if more > 0 else "")
        raise JobFileError(f"{sheet}: nothing was applied:\n{listed}")
    return [one for _, one in said.values()]


def _keep(said: dict[tuple[str, str, int], tuple[int, Said]], number: int, found: Said) -> None:
    first, known = said.setdefault((found.frame, found.column, found.place), (number, found))
    if known != found:
        raise ValueError(f"it contradicts line {first}, which is about the same row")


def _named(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise ValueError(
            f"it has {len(cells)} cells, the header {len(header)}; a text that holds what parts cells takes quotes"
        )
    return dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))


def _opened(sheet: Path) -> tuple[list[str], Iterator[_Row]]:
    """The header, and the lines after it with their numbers, as a spreadsheet counts them.

    Raises:
        JobFileError: it cannot be read, is no CSV, or its header lacks a column that is needed.
    """
    try:
        with sheet.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except OSError as problem:
        raise JobFileError(f"{sheet}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise JobFileError(
            f"{sheet}: cannot be read as UTF-8 text", hint="spreadsheets call that form `CSV UTF-8`"
        ) from problem
    # the header decides: what a cell holds cannot be taken for what parts cells
    delimiter = max(DELIMITERS, key=lambda one: len(set(NEEDED) & set(_header(text, one))))
    header = _header(text, delimiter)
    _check(sheet, header)
    rows = enumerate(_rows(sheet, text, delimiter), 1)
    return header, (row for row in rows if row[0] > 1)


def _header(text: str, delimiter: str) -> list[str]:
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []
    return [cell.strip().lower() for cell in first]


def _check(sheet: Path, header: Sequence[str]) -> None:
    if missing := [name for name in NEEDED if name not in header]:
        # a first line that is no header may hold anything, and is not repeated
        known = [name for name in header if name in SHEET]
        others = len([name for name in header if name and name not in SHEET])
        has = ", ".join([*known, *([f"{others} others"] if others else [])])
        raise JobFileError(
            f"{sheet}: its first line lacks {', '.join(missing)}; it has {has or 'nothing'}",
            hint="it names the columns, as `review sample` wrote it, with a comma, semicolon or tab between them",
        )
    if repeated := [name for name in NEEDED if header.count(name) > 1]:
        raise JobFileError(f"{sheet}: its first line names {', '.join(repeated)} more than once")


def _rows(sheet: Path, text: str, delimiter: str) -> Iterator[list[str]]:
    # strict: a quote that nothing closes would otherwise swallow the lines after it
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from reader
    except csv.Error as problem:
        raise JobFileError(f"{sheet}: is no CSV before the end of text line {reader.line_num}: {problem}") from problem
