"""Tasks whose answer is one of a closed set: classify, impute and answer with labels, match, multilabel."""

import itertools
import json
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from schemas.scores import OF_TEXT
from schemas.tasks import Answer, AnyTask, Classify, Impute, Match, Multilabel
from udfs.closed_set import ClosedSet
from udfs.confidence import (
    Named,
    label_mass,
    lowest,
    mass_of_labels,
    probability,
    scores_of_labels,
    token_spans,
    two_sided,
    within,
)
from udfs.confidence import free_text as scores_of_text
from udfs.fitting import Ids
from udfs.masked import Unteachable
from udfs.parse import InvalidOutput, dumps, free_text
from udfs.prompts import NO, YES, closed_labels
from udfs.questions import Answered, Inquiry, Setting
from udfs.wire import Read, Reply

# what training teaches as it teaches `match`: their prior says how rare a yes is
VERDICTS = frozenset({"yes", "no", "true", "false"})


class ClosedInquiry(Inquiry):
    """A task with one closed set per cue: its labels' words, or the codes of a menu."""

    def __init__(self, task: AnyTask, setting: Setting, labels: tuple[str, ...]) -> None:
        """Spell the labels as they follow each cue."""
        # the labels' tokens decide how many are decoded, and the prompt must be known before: two passes
        super().__init__(task, setting, max_tokens=1)
        codes = self._codes(labels) if self._wants_menu() else ()
        spelled = codes or labels
        longest = max(len(self.prompter.encode_answer(text)) for text in spelled) + 1
        super().__init__(task, setting, codes=codes, max_tokens=longest)
        self.labels = labels
        self._sets = [self._build(spelled, cue) for cue in range(len(self.sheet.cues))]
        self._forced_sets = [_one_by_one(closed) for closed in self._sets]
        self._steps = [_steps_of(closed) for closed in self._sets]
        self._prior_known = False

    @property
    def sets(self) -> tuple[ClosedSet, ...]:
        """The cues' sets, and a set of one per label where labels are read by force."""
        forced = self._forced_sets if self.wants_prior or self.wants_scores else []
        return (*self._sets, *(one for ones in forced for one in ones))

    @property
    def wants_prior(self) -> bool:
        """Whether the labels' probabilities without the text are still to be had."""
        return self._is_corrected and not self._prior_known

    @property
    def _is_corrected(self) -> bool:
        """Whether labels' own probabilities are divided out: those of labels that people name, not of yes and no."""
        task = self.task
        if self.setting.is_endpoint or isinstance(task, Match | Multilabel):
            return False
        if isinstance(task, Classify) and (task.prior_correction is not None or task.preselect == 0):
            # labels that need not be listed were trained on
            return bool(task.prior_correction)
        return self.setting.card.prior_correction and not VERDICTS.issuperset(map(str.casefold, self.labels))

    @property
    def wants_scores(self) -> bool:
        """Whether every label's own score is asked for."""
        return isinstance(self.task, Classify) and self.task.scores and not self.setting.is_endpoint

    def prior_reads(self) -> list[Read]:
        """Forced reads of every label of every cue after the prompt without text; none where it does not fit."""
        bodies = self.prompter.fit([None] * len(self.sheet.names)).bodies
        return [read for body in bodies for cue in range(len(self._sets)) for read in self._forced(body, cue)]

    def take_prior(self, masses: Sequence[Sequence[float]]) -> None:
        """Have the label sets subtract what these forced reads found, one row per label and cue."""
        self._prior_known = True
        rows = iter(masses)
        for cue, closed in enumerate(self._sets if masses else ()):
            self._sets[cue] = closed.by_chance([next(rows) for _ in closed.paths])

    def reads(self, body: Ids) -> list[Read]:
        """One read per cue; where scores are asked for, a forced one per label, which say all that it would."""
        if self.wants_scores:
            return self._forced(body, 0)
        return [
            Read(
                self.prompter.finish(body, cue),
                closed.max_tokens,
                choices=closed.name,
                stop_token_ids=closed.stop_token_ids,
            )
            for cue, closed in enumerate(self._sets)
        ]

    def chosen(self, reply: Reply, cue: int = 0) -> tuple[str, float | None, float | None] | None:
        """The label decoded, the product of its shares and its mass; None when the tokens spell no label."""
        closed = self._sets[cue]
        spelled = closed.label_of(reply.token_ids)
        if spelled is None:
            return None
        place = closed.labels.index(spelled)
        mass = label_mass(reply.masses, self._steps[cue][place])
        return self.labels[place], probability(reply.logprobs), mass

    def spelled(self, label: str | None, cue: int = 0) -> Ids:
        """A label's tokens as they follow a cue.

        Raises:
            Unteachable: it is none of the labels.
        """
        if label not in self.labels:
            raise Unteachable("not_a_label")
        return self._sets[cue].paths[self.labels.index(label)]

    def label_scores(self, replies: Sequence[Reply]) -> dict[str, float]:
        """Every label's probability among the labels, from its forced reads."""
        found = scores_of_labels([reply.masses for reply in replies], self._sets[0].prior)
        return dict(zip(self.labels, found, strict=True))

    def _wants_menu(self) -> bool:
        if isinstance(self.task, Classify) and self.task.preselect is not None:
            return False
        named = getattr(self.task, "read", "text")
        return (self.setting.card.read if named == "auto" else named) == "menu" and not self.setting.is_endpoint

    def _codes(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Letters that are one token each after the cue; none when there are too few, and words are read instead."""
        letters = string.ascii_uppercase
        pairs = (one + two for one, two in itertools.product(letters, letters))
        single = (code for code in itertools.chain(letters, pairs) if len(self.prompter.encode_answer(code)) == 1)
        codes = tuple(itertools.islice(single, len(labels)))
        return codes if len(codes) == len(labels) else ()

    def _build(self, spelled: tuple[str, ...], cue: int) -> ClosedSet:
        tokens, card = self.setting.tokens, self.setting.card
        # a model that was not taught to stop ends a label as the prompt's examples do
        ends_by_line = card.prompt == "completion" and not card.tuned
        return ClosedSet.build(
            spelled,
            lambda text: self.prompter.encode_answer(text, cue),
            garbage=tokens.garbage_id,
            eos=self.prompter.line_end if ends_by_line else tokens.eos_ids[0],
        )

    def _forced(self, body: Ids, cue: int) -> list[Read]:
        prompt = self.prompter.finish(body, cue)
        eos = (self._sets[cue].eos,)
        forced = zip(self._forced_sets[cue], self._steps[cue], strict=True)
        return [Read(prompt, steps, choices=one.name, stop_token_ids=eos) for one, steps in forced]


class OneLabel(ClosedInquiry):
    """classify, impute with labels, answer with options, match."""

    def meant(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        """The label, its confidence and its mass: of whole labels where each was read, else of the path decoded."""
        if self.wants_scores:
            scores = self.label_scores(replies)
            label = max(scores, key=scores.__getitem__)
            return self._said(label, scores[label], mass_of_labels([reply.masses for reply in replies]), scores)
        found = self.chosen(replies[0])
        if found is None:
            return Answered(error="invalid_output")
        return self._of_label(*found, {})

    def stated(self, pieces: Sequence[bytes], logprobs: Sequence[float], values: Sequence[str | None]) -> Answered:
        """The label that these bytes spell, in whatever case; as sure as all its tokens together.

        Raises:
            InvalidOutput: they spell none.
        """
        text = free_text(b"".join(pieces), one_line=False)
        label = next((one for one in self.labels if one.casefold() == text.value.casefold()), None)
        if label is None:
            raise InvalidOutput("none of the labels")
        own = within(token_spans(pieces), [text.span])
        scores = scores_of_text([logprobs[place] for place in own] if logprobs else [])
        return self._of_label(label, scores.get(OF_TEXT[0]), None, scores)

    def _of_label(self, label: str, p: float | None, mass: float | None, scores: Named) -> Answered:
        if isinstance(self.task, Match):
            score = None if p is None else (p if label == YES else 1.0 - p)
            both = scores if score is None else {"score": score, **scores}
            return Answered(dumps(label == YES), two_sided(score), mass, both)
        return self._said(label, p, mass, scores)

    def _said(self, label: str, p: float | None, mass: float | None, scores: dict[str, float]) -> Answered:
        says_nothing = label in (getattr(self.task, "abstain", None), getattr(self.task, "not_answerable", None))
        value = None if isinstance(self.task, Classify) and says_nothing else label
        return Answered(dumps(value), p, mass, scores, stated=int(not says_nothing))

    def taught(self, values: Sequence[str | None], value: Any) -> list[Ids]:
        """The label's tokens, whatever else is read beside it."""
        if isinstance(self.task, Match):
            value = YES if value else NO
        elif isinstance(self.task, Classify) and value is None:
            value = self.task.abstain
        return [self.spelled(value)]


class EachLabel(ClosedInquiry):
    """multilabel: one yes/no read per label over one shared prefix."""

    def __init__(self, task: Multilabel, setting: Setting) -> None:
        """Ask yes or no about every label."""
        super().__init__(task, setting, (YES, NO))
        self.names = tuple(task.labels) if isinstance(task.labels, dict) else ()

    def meant(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        """The labels that got a yes, in declared order; as sure as the least sure of them all."""
        chosen, sure, masses = [], [], []
        scores: dict[str, float] = {}
        for cue, (name, reply) in enumerate(zip(self.names, replies, strict=True)):
            found = self.chosen(reply, cue)
            if found is None:
                return Answered(error="invalid_output")
            label, p, mass = found
            if label == YES:
                chosen.append(name)
            if p is not None:
                scores[name] = p if label == YES else 1.0 - p
            sure.append(two_sided(p))
            masses.append(mass)
        return Answered(dumps(chosen), lowest(sure), lowest(masses), scores, stated=len(chosen))

    def combined(self, parts: Sequence[Answered]) -> Answered:
        """Each label as the window has it that says yes to it most surely: a text fits a label if a part of it does."""
        found = {name for part in parts for name in json.loads(part.value or "[]")}
        chosen = [name for name in self.names if name in found]
        scores = {
            name: max(part.scores[name] for part in parts)
            for name in self.names
            if all(name in part.scores for part in parts)
        }
        sure = [two_sided(scores.get(name)) for name in self.names]
        mass = lowest([part.label_mass for part in parts])
        return Answered(dumps(chosen), lowest(sure), mass, scores, stated=len(chosen))

    def taught(self, values: Sequence[str | None], value: Any) -> list[Ids]:
        """A yes or no for every label."""
        if not set(value) <= set(self.names):
            raise Unteachable("not_a_label")
        return [self.spelled(YES if name in value else NO, cue) for cue, name in enumerate(self.names)]


def closed_inquiry(task: AnyTask, setting: Setting) -> ClosedInquiry | None:
    """The task as a closed one; None when its answer is free."""
    if isinstance(task, Multilabel):
        return EachLabel(task, setting)
    labels = closed_labels(task)
    if isinstance(task, Classify | Impute | Answer | Match) and labels:
        return OneLabel(task, setting, labels)
    return None


def _one_by_one(closed: ClosedSet) -> list[ClosedSet]:
    """A set of its own for each label: decoding it tells the label's probability, step by step, its end's too."""
    pairs = zip(closed.labels, closed.paths, strict=True)
    return [replace(closed, labels=(label,), paths=(path,), prior=None, reads_end=True) for label, path in pairs]


def _steps_of(closed: ClosedSet) -> list[int]:
    """Steps that decide each label: its tokens, and the end of the text where another label goes on."""
    inner = {path[:end] for path in closed.paths for end in range(1, len(path))}
    return [len(path) + (path in inner) for path in closed.paths]
