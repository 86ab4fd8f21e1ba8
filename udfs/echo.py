"""Answers that repeat what the instructions say and the row does not: a code of theirs, or a run of their words.

A cell can ask for the instructions, and a small model writes any code that it was shown where one is due. What stands
in quotes in the instructions is there to be written, and may be.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from schemas.fields import ExamplePool
from schemas.tasks import Answer, AnyTask, Clean, Extract

# shorter ones (E.164, UTF-8, ISO 8601) are names of formats, and shorter runs are phrases that anybody writes
LEAST_CODE = 8
RUN_WORDS = 8
QUOTED = re.compile(r"""(?<!\w)("[^"]*"|'[^']*'|`[^`]*`|“[^”]*”|‘[^’]*’|«[^»]*»)(?!\w)""")
BLANKS = re.compile(r"[\W_]+")


class Instructions:
    """What no answer may repeat: words of letters and digits from eight on, and eight words in a row."""

    def __init__(self, task: AnyTask) -> None:
        """Read the task's; its labels, values and examples' answers may be written whatever the instructions say."""
        bare = QUOTED.sub(" ", f"{task.instructions}\n{task.rules if isinstance(task, Clean) else ''}")
        written = list(_written(task))
        beside = bared(" ".join(written))
        codes = {bared(word) for word in bare.split()}
        self._codes = [code for code in sorted(codes) if _is_code(code) and code not in beside]
        self._runs = _runs(bare).difference(*map(_runs, written))

    def repeated_in(self, value: str | None, row: Sequence[str | None]) -> bool:
        """Whether an answer, canonical JSON, has one of them that its row does not have."""
        if value is None or not (self._codes or self._runs):
            return False
        said, stands = "\n".join(_texts(json.loads(value))), "\n".join(text for text in row if text)
        bare, own = bared(said), bared(stands)
        if any((code in bare or code[::-1] in bare) and code not in own for code in self._codes):
            return True
        return not (self._runs & _runs(said)) <= _runs(stands)


def _written(task: AnyTask) -> Iterable[str]:
    yield from task.example_words or ()
    pool = task.examples.rows if isinstance(task.examples, ExamplePool) else ()
    for example in (*task.given_examples, *(row.example for row in pool)):
        yield from _texts(example.output)
    if isinstance(task, Extract):
        for attribute in task.attributes.values():
            yield from attribute.values
    if isinstance(task, Answer) and task.not_answerable:
        yield task.not_answerable


def bared(text: str) -> str:
    """A text's letters and digits, in small letters."""
    return BLANKS.sub("", text).casefold()


def _is_code(word: str) -> bool:
    return len(word) >= LEAST_CODE and any(map(str.isdigit, word)) and any(map(str.isalpha, word))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = BLANKS.sub(" ", text).casefold().split()
    return {tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1)}


def _texts(value: Any) -> list[str]:
    """The texts that an answer is made of."""
    if isinstance(value, dict | list | tuple):
        parts = value.values() if isinstance(value, dict) else value
        return [text for part in parts for text in _texts(part)]
    return [value] if isinstance(value, str) else []
