"""Tasks that think first: one free decode whose output part alone is parsed, scored and written.

The form is that of Reflection 70B: `<thinking>` holds plan, reasoning and, if the model wants, `<reflection>` blocks
that check it; `<output>` holds what the user sees. The tags are a contract for parsing. Where the model leaves the
opening tag out, what follows the thinking counts as the output, else the whole text.
"""

import re
from collections.abc import Sequence
from typing import Any

from schemas.tasks import AnyTask
from udfs.confidence import Span, token_spans
from udfs.fitting import Ids
from udfs.masked import Unteachable
from udfs.parse import InvalidOutput
from udfs.questions import Answered, Inquiry, Setting
from udfs.wire import Read, Reply

OUTPUT = re.compile(rb"<output>(.*?)(</output>|\Z)", re.DOTALL)
THOUGHT = re.compile(rb"</thinking>", re.DOTALL)


class Thinking(Inquiry):
    """Any task but multilabel, with reasoning before its answer."""

    def __init__(self, task: AnyTask, setting: Setting, plain: Inquiry) -> None:
        """Take the task asked without thinking, which knows what an answer is."""
        super().__init__(task, setting, max_tokens=task.max_output_tokens + task.max_thinking_tokens)
        self._plain = plain
        self.whole = plain.whole

    def reads(self, body: Ids) -> list[Read]:
        """One free read; line breaks do not end it."""
        return [Read(self.prompter.finish(body), self.max_tokens, stop_token_ids=self.setting.tokens.eos_ids)]

    def meant(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        """What the output part says."""
        reply = replies[0]
        pieces = self.pieces(reply)
        span, is_closed = output_of(b"".join(pieces))
        if reply.finish == "length" and not is_closed:
            return Answered(error="truncated")
        own, logprobs = _within(pieces, reply.logprobs, span)
        try:
            return self._plain.stated(own, logprobs, values)
        except InvalidOutput:
            return Answered(error="invalid_output")

    def taught(self, values: Sequence[str | None], value: Any) -> list[Ids]:
        """A truth holds no reasoning to learn from.

        Raises:
            Unteachable: always.
        """
        raise Unteachable("thinks")


def output_of(decoded: bytes) -> tuple[Span, bool]:
    """Return where the output part's bytes lie, and whether it is closed."""
    if (found := OUTPUT.search(decoded)) is not None:
        return found.span(1), bool(found.group(2))
    thought = THOUGHT.search(decoded)
    return (thought.end() if thought else 0, len(decoded)), False


def _within(pieces: Sequence[bytes], logprobs: Sequence[float], span: Span) -> tuple[list[bytes], list[float]]:
    """The tokens of a span, those at its borders cut, with their log-probabilities."""
    start, end = span
    kept = [
        (piece[max(0, start - first) : end - first], place)
        for place, (piece, (first, last)) in enumerate(zip(pieces, token_spans(pieces), strict=True))
        if last > start and first < end
    ]
    own = [logprobs[place] for _, place in kept] if logprobs else []
    return [piece for piece, _ in kept], own
