"""Tasks whose answer is free: clean, impute and answer in free text, extract under a JSON schema."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from schemas.fields import Attribute
from schemas.scores import OF_TEXT, of_field
from schemas.tasks import Answer, AnyTask, Clean, Extract
from udfs.confidence import (
    SURELY_WRONG,
    Named,
    by_field,
    score_of_fields,
    scores_of_fields,
    together,
    token_spans,
    within,
)
from udfs.confidence import free_text as scores_of_text
from udfs.fitting import Ids
from udfs.masked import Unteachable
from udfs.parse import InvalidOutput, Text, dumps, fields_of, free_text, is_verbatim
from udfs.questions import Answered, Asked, Inquiry, Setting
from udfs.wire import Read, Reply

DAY = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
TOKENS_PER_KEY, TOKENS_PER_SCALAR = 5, 8
CHARACTERS_PER_TOKEN = 4
LEAST_CHARACTERS, LEAST_ITEM_CHARACTERS = 48, 24
LEAST_ITEMS, MOST_ITEMS = 4, 16


class FreeText(Inquiry):
    """One text, decoded without constraint."""

    def __init__(self, task: AnyTask, setting: Setting) -> None:
        """Write the prompt and say where the answer stops."""
        super().__init__(task, setting)
        self._is_chat = setting.card.prompt == "chat"
        self._stops = (
            setting.tokens.eos_ids if self._is_chat else (*setting.tokens.newline_ids, *setting.tokens.eos_ids)
        )
        if isinstance(task, Clean):
            self.whole = len(task.inputs) - 1

    def asked(self, values: Sequence[str | None]) -> Asked:
        """Make the reads; a cell of several lines is shown on one where a line break would end the answer."""
        shown = (*values[:-1], escaped(values[-1] or "")) if self._escapes(values) else values
        return replace(super().asked(shown), values=tuple(values))

    def reads(self, body: Ids) -> list[Read]:
        """One free read."""
        return [Read(self.prompter.finish(body), self.max_tokens, stop_token_ids=self._stops)]

    def meant(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        """The text and the scores of its own tokens."""
        reply = replies[0]
        pieces = self.pieces(reply)
        try:
            text = free_text(b"".join(pieces), one_line=self._is_one_line(values))
        except InvalidOutput:
            return Answered(error="invalid_output")
        ended = reply.finish != "length" or text.span[1] < len(b"".join(pieces).rstrip())
        if not ended:
            return Answered(error="truncated")
        if reply.finish == "repetition" or not (text.value or isinstance(self.task, Clean)):
            return Answered(error="invalid_output")
        return self._scored(text, pieces, reply.logprobs, values)

    def stated(self, pieces: Sequence[bytes], logprobs: Sequence[float], values: Sequence[str | None]) -> Answered:
        """The text that these bytes hold, with blanks round it or not."""
        text = free_text(b"".join(pieces), one_line=False)
        if not (text.value or isinstance(self.task, Clean)):
            return Answered(error="invalid_output")
        return self._scored(text, pieces, logprobs, values)

    def taught(self, values: Sequence[str | None], value: Any) -> list[Ids]:
        """The text as it follows the cue; nothing where a cell is cleaned to nothing."""
        text = value or ""
        shown = escaped(text) if self._escapes(values) else text
        return [self.prompter.encode_answer(shown) if shown else ()]

    def _scored(
        self, text: Text, pieces: Sequence[bytes], logprobs: Sequence[float], values: Sequence[str | None]
    ) -> Answered:
        own = within(token_spans(pieces), [text.span])
        # an empty answer is scored by the token that ended it
        scored = [logprobs[place] for place in own or [0]] if logprobs else []
        scores = scores_of_text(scored)
        value = unescaped(text.value) if self._escapes(values) else text.value
        none_text = getattr(self.task, "not_answerable", None)
        copied = not getattr(self.task, "verbatim", False) or value == none_text or is_verbatim(value, values)
        return Answered(
            dumps(value),
            scores.get(OF_TEXT[0]),
            scores=scores,
            notes=() if copied else ("not_verbatim",),
            stated=int(value != none_text),
        )

    def _is_one_line(self, values: Sequence[str | None]) -> bool:
        if not self._is_chat:
            return True
        if isinstance(self.task, Clean):
            return "\n" not in (values[-1] or "")
        return not isinstance(self.task, Answer)

    def _escapes(self, values: Sequence[str | None]) -> bool:
        return isinstance(self.task, Clean) and not self._is_chat and "\n" in (values[-1] or "")


class Struct(Inquiry):
    """Several fields, decoded under a JSON schema."""

    def __init__(self, task: Extract, setting: Setting) -> None:
        """Write the prompt and the schema."""
        super().__init__(task, setting)
        self.attributes, self._verbatim = task.attributes, task.verbatim
        schema = schema_of(task)
        self.schema = json.dumps(schema, ensure_ascii=False)
        self._fields: dict[str, dict[str, Any]] = schema["properties"]
        # the first alternative of each field is its value's, the other one null
        self._bounds = {name: field.get("anyOf", [{}])[0] for name, field in self._fields.items()}

    def reads(self, body: Ids) -> list[Read]:
        """One read under the schema."""
        stops = self.setting.tokens.eos_ids
        return [Read(self.prompter.finish(body), self.max_tokens, schema=self.schema, stop_token_ids=stops)]

    def meant(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        """The fields; each is scored by the tokens that decide it, the whole by all of them."""
        reply = replies[0]
        if reply.finish == "length":
            return Answered(error="truncated")
        try:
            return self.stated(self.pieces(reply), reply.logprobs, values)
        except InvalidOutput:
            return Answered(error="invalid_output")

    def stated(self, pieces: Sequence[bytes], logprobs: Sequence[float], values: Sequence[str | None]) -> Answered:
        """The fields that these bytes hold.

        Raises:
            InvalidOutput: they hold no such JSON.
        """
        found = fields_of(b"".join(pieces), self.attributes)
        scores = scores_of_fields(pieces, logprobs, found.spans)
        # a value that is none of its type was answered, and is surely wrong
        scores |= {name: SURELY_WRONG for name in found.wrong if scores[name]}
        copied = not self._verbatim or all(
            is_verbatim(found.values[name], values) for name in self.attributes if self._is_copied(name)
        )
        notes = [f"invalid:{name}" for name in found.wrong]
        notes += [f"at_limit:{name}" for name, value in found.values.items() if is_at_limit(value, self._bounds[name])]
        notes += [] if copied else ["not_verbatim"]
        return Answered(
            dumps(found.values),
            0.0 if logprobs and found.wrong else score_of_fields(pieces, logprobs, found.spans),
            scores=by_field(scores),
            notes=tuple(notes),
            stated=sum(value not in (None, []) for value in found.values.values()),
        )

    def combined(self, parts: Sequence[Answered]) -> Answered:
        """Each field as the window has it that states it most surely; null as the least sure of all has it."""
        rows = [json.loads(part.value or "{}") for part in parts]

        def says(place: int, name: str) -> tuple[bool, float]:
            # by the mean: by the whole probability a long value would lose to a short one
            score = parts[place].scores.get(of_field(name, "mean_probability"), 0.0)
            is_stated = rows[place][name] not in (None, [])
            return is_stated, score if is_stated else -score

        places = {name: max(range(len(rows)), key=lambda place: says(place, name)) for name in self.attributes}
        values = {name: rows[place][name] for name, place in places.items()}
        scores = {name: _own(parts[place].scores, name) for name, place in places.items()}
        # a note of one field goes with the window that the field is taken from
        notes = (
            note
            for place, part in enumerate(parts)
            for note in part.notes
            if (places[note.partition(":")[2]] == place if ":" in note else place in places.values())
        )
        return Answered(
            dumps(values),
            together([own.get(OF_TEXT[0]) for own in scores.values()]),
            scores=by_field(scores),
            notes=tuple(dict.fromkeys(notes)),
            stated=sum(value not in (None, []) for value in values.values()),
        )

    def taught(self, values: Sequence[str | None], value: Any) -> list[Ids]:
        """The fields as the grammar has them: no blank before, none between.

        Raises:
            Unteachable: the grammar writes no such value.
        """
        fields = {name: value.get(name) for name in self.attributes}
        if not all(_can_be_written(fields[name], kind) for name, kind in self._fields.items()):
            raise Unteachable("not_as_decoded")
        return [self.setting.tokens.encode_cell(dumps(fields))]

    def _is_copied(self, name: str) -> bool:
        attribute = self.attributes[name]
        return attribute.type == "string" or (attribute.type == "list" and attribute.of == "string")


def _own(scores: Named, field: str) -> Named:
    """One field's scores out of an answer's."""
    return {kind: scores[key] for kind in OF_TEXT if (key := of_field(field, kind)) in scores}


def escaped(text: str) -> str:
    """A text of several lines on one."""
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")


def unescaped(text: str) -> str:
    """The opposite of `escaped`; a backslash before anything else stays."""
    plain = {"\\\\": "\\", "\\r": "\r", "\\n": "\n"}
    found, at = [], 0
    while at < len(text):
        pair = text[at : at + 2]
        found.append(plain.get(pair, text[at]))
        at += 2 if pair in plain else 1
    return "".join(found)


def schema_of(task: Extract) -> dict[str, Any]:
    """The JSON schema of a task's fields; texts and lists share what `max_output_tokens` leaves them.

    A decode without these bounds may not leave a text before its tokens are spent. They are no guarantee: every text
    keeps a least length, so that many fields at their longest may still be truncated, and say so.
    """
    long = sum(attribute.type in ("string", "list") for attribute in task.attributes.values())
    fixed = len(task.attributes) * TOKENS_PER_KEY + (len(task.attributes) - long) * TOKENS_PER_SCALAR
    room = max(LEAST_CHARACTERS, (task.max_output_tokens - fixed) * CHARACTERS_PER_TOKEN // max(1, long))
    return {
        "type": "object",
        "properties": {name: _field(attribute, room) for name, attribute in task.attributes.items()},
        "required": list(task.attributes),
        "additionalProperties": False,
    }


def _field(attribute: Attribute, room: int) -> dict[str, Any]:
    if attribute.type == "enum":
        return {"enum": [*attribute.values, None]}
    if attribute.type == "list":
        most = min(MOST_ITEMS, max(LEAST_ITEMS, room // LEAST_ITEM_CHARACTERS))
        # items are rarely long all at once: each may have as much as if there were only a few
        items = _value(attribute.of, max(LEAST_CHARACTERS, room // LEAST_ITEMS))
        inner: dict[str, Any] = {"type": "array", "items": items, "maxItems": most}
    elif attribute.pattern is not None and is_plain_pattern(attribute.pattern):
        # engines take a pattern or a length, not both
        inner = {"type": "string", "pattern": attribute.pattern}
    else:
        inner = _value(attribute.type, room)
    return {"anyOf": [inner, {"type": "null"}]}


def is_at_limit(value: object, bounds: dict[str, Any]) -> bool:
    """Whether a text or list is as long as its schema lets it be, so that the rest may have been cut off."""
    if isinstance(value, list):
        is_full = len(value) >= bounds["maxItems"]
        return is_full or any(is_at_limit(item, bounds["items"]) for item in value)
    return isinstance(value, str) and len(value) >= bounds.get("maxLength", math.inf)


def _can_be_written(value: Any, kind: dict[str, Any]) -> bool:
    """Whether the engine's grammar of a field lets a model write this value."""
    inner = kind["anyOf"][0] if "anyOf" in kind else kind
    if isinstance(value, list):
        return len(value) <= inner["maxItems"] and all(_can_be_written(item, inner["items"]) for item in value)
    if isinstance(value, str) and "maxLength" in inner:
        # a text of limited length has no escapes in that grammar: no quote, no backslash, no line break
        return len(value) <= inner["maxLength"] and dumps(value) == f'"{value}"'
    return True


def _value(kind: str, room: int) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "string": {"type": "string", "maxLength": room},
        "date": {"type": "string", "pattern": DAY},
        "int": {"type": "integer"},
        "float": {"type": "number"},
        "bool": {"type": "boolean"},
    }
    return kinds[kind]


def is_plain_pattern(pattern: str) -> bool:
    """Whether a pattern is of the kind that every grammar engine reads; others are checked after the decode."""
    special = ("(?", "\\b", "\\B", "\\A", "\\Z", *(f"\\{digit}" for digit in range(10)))
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return anchored and not any(mark in pattern for mark in special)
