"""What an engine decoded, as a value in canonical JSON or the code of why there is none."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from schemas.fields import Attribute
from udfs.confidence import Span

MOST_CHARACTERS = 100_000
BLANK = re.compile(r"[ \t\n\r]*")
STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
LITERAL = re.compile(r"true|false|null")
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class InvalidOutput(ValueError):
    """The decoded text is not what was asked for. Its message never quotes the text."""


def dumps(value: Any) -> str:
    """Canonical JSON of an answer's value: no blanks, order kept, no NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A free answer and where its bytes lie in the decoded bytes."""

    value: str
    span: Span


def free_text(decoded: bytes, *, one_line: bool) -> Text:
    """The answer without the blanks round it; of a one-line answer the first line that is not blank.

    Raises:
        InvalidOutput: the answer is no UTF-8 or holds a NUL.
    """
    start = len(decoded) - len(decoded.lstrip())
    body = decoded[start:]
    if one_line:
        body = re.split(rb"[\r\n]", body, maxsplit=1)[0]
    body = body.rstrip()
    try:
        value = body.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise InvalidOutput("the answer is no UTF-8") from problem
    if "\0" in value:
        raise InvalidOutput("the answer holds a NUL")
    return Text(value, (start, start + len(body)))


@dataclass(frozen=True)
class Fields:
    """An extract's values in declared order, the bytes that decide each, and the fields that could not be read.

    A field is decided from its colon, since one token often holds that and the quote which says that no null follows,
    to the character after its value, which says that the value ends there.
    """

    values: dict[str, Any]
    spans: dict[str, Span]
    wrong: list[str] = field(default_factory=list)


def fields_of(decoded: bytes, attributes: Mapping[str, Attribute]) -> Fields:
    """Read a flat JSON object strictly, whatever a grammar promised.

    A value of the wrong type or form (30 February) leaves its field null and named in `wrong`.

    Raises:
        InvalidOutput: no such object, a key that is unknown, repeated or missing, or text that is no UTF-8.
    """
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise InvalidOutput("the answer is no UTF-8") from problem
    if len(text) > MOST_CHARACTERS:
        raise InvalidOutput("the answer is too long")
    found = _Scanner(text).flat_object()
    if set(found) != set(attributes):
        raise InvalidOutput("the answer does not have the fields asked for")
    values: dict[str, Any] = {}
    wrong = []
    for name, attribute in attributes.items():
        raw, _ = found[name]
        try:
            values[name] = normalised(raw, attribute)
        except InvalidOutput:
            values[name] = None
            wrong.append(name)
    offsets = _byte_offsets(text)
    spans = {name: (offsets[start], offsets[end]) for name in attributes for start, end in [found[name][1]]}
    return Fields(values, spans, wrong)


def normalised(raw: Any, attribute: Attribute) -> Any:
    """A JSON value as its attribute's type.

    Raises:
        InvalidOutput: it is not one.
    """
    if raw is None:
        return None
    if attribute.type == "list":
        if not isinstance(raw, list):
            raise InvalidOutput("no list")
        return [_scalar(item, attribute.of) for item in raw]
    if attribute.type == "enum":
        if raw not in attribute.values:
            raise InvalidOutput("not among the values")
        return raw
    value = _scalar(raw, attribute.type)
    if attribute.pattern is not None and re.search(attribute.pattern, value) is None:
        raise InvalidOutput("does not match the pattern")
    return value


def _scalar(raw: Any, kind: str) -> Any:
    if kind == "string" and isinstance(raw, str):
        return raw
    if kind == "date" and isinstance(raw, str) and ISO_DATE.fullmatch(raw):
        try:
            return date.fromisoformat(raw).isoformat()
        except ValueError as problem:
            raise InvalidOutput("no such day") from problem
    if kind == "bool" and isinstance(raw, bool):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return _number(raw, kind)
    raise InvalidOutput(f"no {kind}")


def _number(raw: int | float, kind: str) -> int | float:
    if kind == "float" and abs(raw) <= sys.float_info.max:
        return float(raw)
    if kind == "int" and raw == raw // 1 and abs(raw) < 2**63:
        return int(raw)
    raise InvalidOutput(f"no {kind}")


def is_verbatim(value: Any, inputs: Sequence[str | None]) -> bool:
    """Whether every text in a value occurs in one of the inputs as it stands there."""
    if isinstance(value, str):
        return any(value in text for text in inputs if text)
    if isinstance(value, list):
        return all(is_verbatim(item, inputs) for item in value)
    return True


def _byte_offsets(text: str) -> list[int]:
    offsets = [0]
    for char in text:
        offsets.append(offsets[-1] + len(char.encode("utf-8")))
    return offsets


class _Scanner:
    """Reads `{"key": scalar or list of scalars, …}` and remembers where each value is decided."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def flat_object(self) -> dict[str, tuple[Any, Span]]:
        found: dict[str, tuple[Any, Span]] = {}
        self._expect("{")
        while not self._takes("}"):
            if found:
                self._expect(",")
            key = self._scalar()
            if not isinstance(key, str) or key in found:
                raise InvalidOutput("a key is no text or stands twice")
            self._expect(":")
            colon = self.at - 1
            value = self._value()
            self._skip()
            found[key] = value, (colon, min(self.at + 1, len(self.text)))
        if self.text[self.at :].strip():
            raise InvalidOutput("something follows the answer")
        return found

    def _value(self) -> Any:
        if not self._takes("["):
            return self._scalar()
        items: list[Any] = []
        while not self._takes("]"):
            if items:
                self._expect(",")
            items.append(self._scalar())
        return items

    def _scalar(self) -> Any:
        start = self._skip()
        for pattern in (STRING, LITERAL, NUMBER):
            if match := pattern.match(self.text, start):
                self.at = match.end()
                return self._loaded(match.group())
        raise InvalidOutput("no JSON value where one is due")

    def _loaded(self, text: str) -> Any:
        if len(text) > MOST_CHARACTERS or (text[0] not in '"tfn' and len(text) > 400):
            raise InvalidOutput("a value is too long")
        value = json.loads(text)
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
            raise InvalidOutput("a text holds a NUL or half a character")
        return value

    def _skip(self) -> int:
        match = BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at

    def _takes(self, mark: str) -> bool:
        if not self.text.startswith(mark, self._skip()):
            return False
        self.at += len(mark)
        return True

    def _expect(self, mark: str) -> None:
        if not self._takes(mark):
            raise InvalidOutput(f"{mark} is missing")
