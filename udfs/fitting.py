"""A sheet and a row's values as token ids that fit the model's context, over-long values cut or windowed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from udfs.guards import CODE_LETTERS, fence_of, lines_of, marked
from udfs.prompts import Form, Sheet
from udfs.tokens import clean_text

Ids = tuple[int, ...]
LEAST_TOKENS = 16
MOST_WINDOWS = 8
OVERLAP = 8
# No ordinary text has more characters to a token; more of a cell is dropped before anything is tokenised.
MOST_CHARACTERS_PER_TOKEN = 16
GAP = " …"


class Speech(Protocol):
    """What a prompt needs of a tokenizer; `udfs.tokens.Tokens` and `udfs.endpoint.EndpointTokens` have it."""

    @property
    def start_ids(self) -> Ids:
        """What stands before a plain text."""

    @property
    def chat_frame(self) -> tuple[Ids, ...]:
        """What stands round system and user text."""

    @property
    def answer_lead(self) -> str:
        """The blank that the template puts before an answer, if any."""

    def encode_cell(self, text: str) -> Ids:
        """Tokens of text that holds no control token."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A question's prompts up to the cue: one, or one per window; `error` when none can be made."""

    bodies: tuple[Ids, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands round one row's inputs: what is constant before them, and the fence of this row, if it has one."""

    head: Ids
    opens: Ids = ()
    closes: Ids = ()

    @property
    def size(self) -> int:
        """Tokens that leave less room for the inputs."""
        return len(self.head) + len(self.opens) + len(self.closes)


class Prompter:
    """Turns the values of one task's rows into prompts of at most `room` tokens."""

    def __init__(self, tokens: Speech, sheet: Sheet, *, form: Form, room: int) -> None:
        """Tokenise all that is the same for every row."""
        self._tokens, self._sheet, self._room = tokens, sheet, room
        self._is_chat = form == "chat"
        self._before = "" if self._is_chat else "\n\n"
        self._is_fenced, self._is_marked = ("fence" in sheet.guards), ("mark" in sheet.guards)
        self._line_end = tokens.encode_cell(f"{self._before}{sheet.names[0]}:")[0]
        lead = "\n" if self._is_fenced else self._before
        self._names = [
            tokens.encode_cell(f"{lead if place == 0 else chr(10)}{name}:") for place, name in enumerate(sheet.names)
        ]
        self._cues = [tokens.encode_cell(f"\n{cue}") for cue in sheet.cues]
        self._again = tokens.encode_cell(f"\n\n{sheet.instruction}") if "repeat" in sheet.guards else ()
        self._gap = tokens.encode_cell(GAP)
        self._end = tokens.chat_frame[-1] if self._is_chat else ()
        # an endpoint's template is out of sight
        self._lead = tokens.answer_lead
        self._fixed = sum(map(len, self._names)) + len(self._again) + max(map(len, self._cues)) + len(self._end)
        self._heads = lru_cache(maxsize=len(sheet.examples) + 1)(self._head)
        facts = json.dumps([sheet.head, sheet.names, sheet.cues])
        self._key = hashlib.sha256(facts.encode()).digest()

    def fit(
        self,
        values: Sequence[str | None],
        *,
        window: bool = False,
        whole: int | None = None,
        examples: Sequence[str] | None = None,
        head: str | None = None,
    ) -> Fitted:
        """Make the prompts of one question.

        Args:
            values: the inputs, in the order of the sheet's names.
            examples: this question's own instead of the sheet's.
            head: the same of the head.
            window: ask about several windows of the longest value instead of cutting it.
            whole: index of a value that must never be cut.
        """
        most = self._room * MOST_CHARACTERS_PER_TOKEN
        texts = [
            clean_text(value if value is None or len(value) <= 2 * most else value[:most] + value[-most:])
            for value in values
        ]
        opens, closes = self._fence(texts)
        read = [marked(text) for text in texts] if self._is_marked else texts
        cells = [self._tokens.encode_cell(" " + text) if text else () for text in read]
        shown = self._sheet.examples if examples is None else examples
        for kept in range(len(shown), -1, -1):
            is_constant = head is None and (examples is None or kept == 0)
            begun = self._heads(kept) if is_constant else self._head_with(shown[:kept], head)
            frame = Frame(begun, opens, closes)
            room = self._room - self._fixed - frame.size
            notes: tuple[str, ...] = () if kept == len(shown) else ("examples_dropped",)
            if sum(map(len, cells)) <= room:
                return Fitted((self._body(frame, cells),), notes)
        return self._shortened(frame, cells, room=room, window=window, whole=whole, notes=notes)

    def finish(self, body: Ids, cue: int = 0) -> Ids:
        """The whole prompt: the body, one cue, and the template's end."""
        return (*body, *self._cues[cue], *self._end)

    def asked_about(self, prompt: Ids, answer: str, asked: str) -> Ids:
        """A whole prompt whose cue, its first, is answered, and something asked about the answer."""
        begun = prompt[: len(prompt) - len(self._end)]
        said = self._tokens.encode_cell(f" {answer}") if self._is_chat else self.encode_answer(answer)
        return (*begun, *said, *self._tokens.encode_cell(f"\n{asked}"), *self._end)

    @property
    def constant_tokens(self) -> int:
        """Tokens of a prompt that no row changes and that cannot be left out, as examples can.

        Of a fence, whose code differs from row to row, as many as it has at most.
        """
        return len(self._heads(0)) + self._fixed + (self._longest_fence() if self._is_fenced else 0)

    @property
    def line_end(self) -> int:
        """The token that ends an answer in the examples of a plain prompt: the break before the next text."""
        return self._line_end

    def encode_answer(self, text: str, cue: int = 0) -> Ids:
        """Tokens of an answer as they follow the prompt: of cue and answer written in one go, or as a template does."""
        return self.encode_after(self._sheet.cues[cue], text)

    def encode_after(self, asked: str, text: str) -> Ids:
        """The same for an answer to whatever was asked."""
        if self._is_chat:
            return self._tokens.encode_cell(self._lead + text)
        before, both = self._tokens.encode_cell(asked), self._tokens.encode_cell(f"{asked} {text}")
        return both[len(before) :] if both[: len(before)] == before else self._tokens.encode_cell(f" {text}")

    def _head(self, examples: int) -> Ids:
        return self._head_with(self._sheet.examples[:examples])

    def _head_with(self, examples: Sequence[str], head: str | None = None) -> Ids:
        text = "\n\n".join((self._sheet.head if head is None else head, *examples))
        if not self._is_chat:
            return (*self._tokens.start_ids, *self._tokens.encode_cell(text))
        frame = self._tokens.chat_frame
        if len(frame) == 2:
            return (*frame[0], *self._tokens.encode_cell(f"{text}\n\n"))
        return (*frame[0], *self._tokens.encode_cell(text), *frame[1])

    def _fence(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        if not self._is_fenced:
            return (), ()
        opens, closes = fence_of(self._key, texts)
        return self._tokens.encode_cell(f"{self._before}{opens}"), self._tokens.encode_cell(f"\n{closes}")

    def _longest_fence(self) -> int:
        # a token for each letter of the code, and one for the blank before it
        bare = [len(self._tokens.encode_cell(f"{self._before}{line}")) for line in lines_of("")]
        return sum(size + CODE_LETTERS + 1 for size in bare)

    def _body(self, frame: Frame, cells: Sequence[Ids]) -> Ids:
        body = [*frame.head, *frame.opens]
        for name, cell in zip(self._names, cells, strict=True):
            body += (*name, *cell)
        return (*body, *frame.closes, *self._again)

    def _shortened(
        self, frame: Frame, cells: list[Ids], *, room: int, window: bool, whole: int | None, notes: tuple[str, ...]
    ) -> Fitted:
        free = room - (0 if whole is None else len(cells[whole]))
        if free < LEAST_TOKENS or (whole is not None and len(cells) == 1):
            return Fitted(error="over_long")
        longest = max((place for place in range(len(cells)) if place != whole), key=lambda place: len(cells[place]))
        if window and whole is None:
            others = [cell for place, cell in enumerate(cells) if place != longest]
            cap = cap_of([len(cell) for cell in others], room // 2)
            short = [self._cut(cell, cap) if place != longest else cell for place, cell in enumerate(cells)]
            size = room - sum(len(cell) for place, cell in enumerate(short) if place != longest)
            parts = windows_of(cells[longest], size)
            bodies = [
                self._body(frame, [*short[:longest], part, *short[longest + 1 :]]) for part in parts[:MOST_WINDOWS]
            ]
            is_cut = len(parts) > MOST_WINDOWS or short != cells
            return Fitted(tuple(bodies), (*notes, "windowed", *(("cut",) if is_cut else ())))
        cap = cap_of([len(cell) for place, cell in enumerate(cells) if place != whole], free)
        if cap < LEAST_TOKENS:
            return Fitted(error="over_long")
        short = [cell if place == whole else self._cut(cell, cap) for place, cell in enumerate(cells)]
        return Fitted((self._body(frame, short),), (*notes, "cut"))

    def _cut(self, cell: Ids, cap: int) -> Ids:
        """Keep the first two thirds and the last third of what fits."""
        if len(cell) <= cap:
            return cell
        kept = cap - len(self._gap)
        tail = kept // 3
        return (*cell[: kept - tail], *self._gap, *cell[len(cell) - tail :])


def cap_of(lengths: Sequence[int], room: int) -> int:
    """The greatest cap under which these lengths, each cut to it, fill no more than `room`."""
    left, cap = room, room
    for place, length in enumerate(sorted(lengths)):
        cap = left // (len(lengths) - place)
        if length > cap:
            return cap
        left -= length
    return max(cap, *lengths, 0) if lengths else room


def windows_of(cell: Ids, size: int) -> list[Ids]:
    """Cut into windows of `size` tokens, each repeating the last eighth of the one before."""
    step = size - size // OVERLAP
    starts = range(0, max(1, len(cell) - size // OVERLAP), step)
    return [cell[start : start + size] for start in starts]
