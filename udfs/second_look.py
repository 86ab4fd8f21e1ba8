"""A second question about doubtful answers: whether the answer is right. What the model says to it is one more score.

Kadavath et al. 2022, "Language Models (Mostly) Know What They Know", call it P(True). It costs a doubtful row one more
read, whose prompt begins as the first one did and is served by the prefix cache.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from schemas.scores import LOOK_KEY
from udfs.closed_set import ClosedSet
from udfs.confidence import probability
from udfs.prompts import NO, YES
from udfs.questions import Answered, Asked, Inquiry
from udfs.wire import Read, Reply

ASK = "Is that right?"


class SecondLook:
    """Looks once more at answers that are less sure than `below`.

    Its score lies between 0 and 1: an answer as sure as that keeps its confidence; a doubtful one gets the probability
    of a yes, times `below`, so that it stays behind all that needed no second look. A doubtful answer that could not be
    looked at (several windows, no room for the question, no yes or no to it) has no such score: its confidence is none.
    """

    def __init__(self, inquiry: Inquiry, below: float) -> None:
        """Spell yes and no as they follow the question."""
        self._inquiry, self._below = inquiry, below
        tokens, card, prompter = inquiry.setting.tokens, inquiry.setting.card, inquiry.prompter
        ends_by_line = card.prompt == "completion" and not card.tuned
        self.closed = ClosedSet.build(
            (YES, NO),
            lambda text: prompter.encode_after(ASK, text),
            garbage=tokens.garbage_id,
            eos=prompter.line_end if ends_by_line else tokens.eos_ids[0],
        )

    def read(self, asked: Asked, answer: Answered) -> Read | None:
        """The second question; None where the answer is sure, has no score, or none can be asked."""
        if answer.error or answer.confidence is None or self._is_sure(answer.confidence) or asked.windows != 1:
            return None
        value = json.loads(answer.value or "null")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = {"true": YES, "false": NO}.get(text, text)
        prompt = self._inquiry.prompter.asked_about(asked.reads[0].prompt, text, ASK)
        if len(prompt) + self.closed.max_tokens > self._inquiry.setting.max_model_len:
            return None
        closed = self.closed
        return Read(prompt, closed.max_tokens, choices=closed.name, stop_token_ids=closed.stop_token_ids)

    def scored(self, answer: Answered, replies: Sequence[Reply] = ()) -> Answered:
        """An answer with this score beside its others; without it where it is doubtful and was not looked at."""
        if answer.error or answer.confidence is None:
            return answer
        score = answer.confidence if self._is_sure(answer.confidence) else self._after_looking(replies)
        return answer if score is None else replace(answer, scores={**answer.scores, LOOK_KEY: score})

    def _is_sure(self, confidence: float) -> bool:
        return confidence >= self._below

    def _after_looking(self, replies: Sequence[Reply]) -> float | None:
        p = self._p_true(replies[0]) if replies else None
        return None if p is None else p * self._below

    def _p_true(self, reply: Reply) -> float | None:
        said = None if reply.error else self.closed.label_of(reply.token_ids)
        p = probability(reply.logprobs)
        if said is None or p is None:
            return None
        return p if said == YES else 1.0 - p
