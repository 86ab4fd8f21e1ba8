"""One task as reads for an engine, and an engine's replies as one answer: what every kind of task has in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from schemas.card import ModelCard
from schemas.errors import JobFileError
from schemas.fields import ExamplePool
from schemas.tasks import AnyTask, Classify
from udfs.closed_set import ClosedSet
from udfs.echo import Instructions
from udfs.fitting import LEAST_TOKENS, Ids, Prompter, Speech
from udfs.nearest import Nearest, NearestLabels
from udfs.prompts import Sheet, example_text, sheet_of
from udfs.wire import Read, Reply


class Tongue(Speech, Protocol):
    """A tokenizer as reads and answers need it."""

    @property
    def control_ids(self) -> frozenset[int]:
        """Tokens that are no text."""

    @property
    def eos_ids(self) -> Ids:
        """Tokens that end an answer."""

    @property
    def garbage_id(self) -> int:
        """A control token that no label holds."""

    @property
    def newline_ids(self) -> Ids:
        """Tokens that are line breaks alone."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for."""


@dataclass(frozen=True)
class Setting:
    """What a task is asked with."""

    tokens: Tongue
    card: ModelCard
    max_model_len: int
    # an endpoint decodes closed sets by grammar or by chance, and cannot be made to spell a label
    is_endpoint: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's reads, window after window; `error` when it cannot be asked."""

    values: tuple[str | None, ...]
    reads: tuple[Read, ...] = ()
    windows: int = 1
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: `value` is canonical JSON, `stated` how much it says (for choosing between windows)."""

    value: str | None = None
    confidence: float | None = None
    label_mass: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    error: str = ""
    notes: tuple[str, ...] = ()
    stated: int = 1


class Inquiry(ABC):
    """A task that can be asked. Subclasses say which reads a prompt takes and what their replies mean."""

    window_allowed = True
    whole: int | None = None

    def __init__(self, task: AnyTask, setting: Setting, *, codes: tuple[str, ...] = (), max_tokens: int = 0) -> None:
        """Write the task's prompt for this model."""
        self.task, self.setting = task, setting
        self.max_tokens = max_tokens or task.max_output_tokens
        self._near_labels = NearestLabels(task) if isinstance(task, Classify) and task.preselect else None
        listed = task if self._near_labels is None else self._near_labels.longest()
        self.sheet: Sheet = sheet_of(listed, codes=codes)
        self.codes = codes
        self._told = Instructions(task)
        self._nearest = Nearest(task.examples) if isinstance(task.examples, ExamplePool) else None
        room = setting.max_model_len - self.max_tokens
        self.prompter = Prompter(setting.tokens, self.sheet, form=setting.card.prompt, room=room)

    @property
    def sets(self) -> tuple[ClosedSet, ...]:
        """Closed sets that the reads name."""
        return ()

    @abstractmethod
    def reads(self, body: Ids) -> list[Read]:
        """The reads of one prompt, always as many."""

    @abstractmethod
    def meant(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        """What the replies to one prompt's reads mean; none of them is an error."""

    def stated(self, pieces: Sequence[bytes], logprobs: Sequence[float], values: Sequence[str | None]) -> Answered:
        """What an answer that was written freely says: the bytes of its tokens, each with its log-probability.

        Raises:
            InvalidOutput: it is no answer to this task.
        """
        raise NotImplementedError

    @abstractmethod
    def taught(self, values: Sequence[str | None], value: Any) -> list[Ids]:
        """The tokens that each read of a prompt would decode to answer this value, without the one that ends them.

        The opposite of `meant`; training says them after the same prompts.

        Raises:
            Unteachable: no decode gives this value.
        """

    def check_room(self) -> None:
        """Refuse a task that would leave every row over-long.

        Raises:
            JobFileError: beside the prompt's constant part no row of 16 tokens fits the context.
        """
        constant, context = self.prompter.constant_tokens, self.setting.max_model_len
        if constant + LEAST_TOKENS + self.max_tokens > context:
            unit = "characters" if self.setting.is_endpoint else "tokens"
            raise JobFileError(
                f"{self.task.name}: what the prompt says of the task takes {constant} {unit} and the answer up to"
                f" {self.max_tokens}; of a context of {context} that leaves no room for a row.",
                hint="Raise engine.max_model_len, or shorten labels, descriptions and instructions.",
            )

    def asked(self, values: Sequence[str | None]) -> Asked:
        """Make one question's reads."""
        values = tuple(values)
        window = self.window_allowed and self.task.long_input == "window"
        near = self._near_labels
        head = None if near is None else sheet_of(near.task_for(values)).head
        fitted = self.prompter.fit(
            values, window=window, whole=self.whole, examples=self._own_examples(values), head=head
        )
        if fitted.error:
            return Asked(values, error=fitted.error)
        reads = tuple(read for body in fitted.bodies for read in self.reads(body))
        return Asked(values, reads, len(fitted.bodies), (*fitted.notes, *(() if near is None else ("preselected",))))

    def _own_examples(self, values: Sequence[str | None]) -> tuple[str, ...] | None:
        """The examples for one question, the nearest of them last; None where all questions have the same."""
        if self._nearest is None:
            return None
        return tuple(example_text(self.task, example, self.codes) for example in self._nearest.of(values))

    def answered(self, asked: Asked, replies: Sequence[Reply]) -> Answered:
        """Make one answer of the windows' ones; a window that failed has no say where another did not."""
        if asked.error:
            return Answered(error=asked.error)
        each = len(replies) // asked.windows
        parts = [replies[start : start + each] for start in range(0, len(replies), each)]
        found = [self._of_window(asked.values, part) for part in parts]
        good = [one for one in found if not one.error]
        whole = self.combined(good) if len(good) > 1 else (good or found)[0]
        return replace(whole, notes=(*asked.notes, *whole.notes))

    def combined(self, parts: Sequence[Answered]) -> Answered:
        """One answer of several windows' ones: that which states most, the surest among equals."""
        return max(parts, key=lambda one: (one.stated, -1.0 if one.confidence is None else one.confidence))

    def _of_window(self, values: Sequence[str | None], replies: Sequence[Reply]) -> Answered:
        failed = next((reply.error for reply in replies if reply.error), "")
        if failed:
            return Answered(error=failed)
        found = self.meant(values, replies)
        return Answered(error="echo") if self._told.repeated_in(found.value, values) else found

    def pieces(self, reply: Reply) -> list[bytes]:
        """The bytes of each decoded token; control tokens are none."""
        tokens = self.setting.tokens
        return [b"" if token in tokens.control_ids else tokens.token_bytes(token) for token in reply.token_ids]
