"""The seven tasks a column can ask for: one frozen class each, told apart by `task:`.

Everything else about a task derives from its class: `kind` (what sort of value comes back, hence the Spark
type, the decoding constraint and the parser), `inputs` (the columns that a question is made of) and
`in_place` (whether the named column already exists and is written where it stands).
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from schemas.accept import Accept
from schemas.fields import (
    Attribute,
    AttributeType,
    ColumnName,
    Columns,
    Declared,
    Example,
    Examples,
    Kind,
    LabelMap,
    Labels,
    LabelTable,
    Name,
    WrongField,
    as_attribute,
    as_tuple,
    check_labels,
    check_pattern,
    misfit,
    words_of,
)
from schemas.guards import Guard, Guards
from schemas.scores import OF_LABEL, OF_LABELS, OF_TEXT, ScoreName, ScoreNames


class Task(Declared):
    """What every task has in common.

    Attributes:
        guards: the prompt's guards against instructions in cells; None for those of the job.
        score: which of the scores stored with each answer the confidence is: `share`, `probability` or `label_mass`
            of a label; `probability`, `mean_probability`, `geometric_mean` or `minimum` of a text, of an `extract` the
            probability of all its fields, or the lowest field's. The first is the usual one. Changing it asks nothing.
        second_look: answers less sure than this are asked about once more, whether they are right; what the model says
            to that is a score, `second_look`.
        think: the model writes its reasoning first, and what is scored and written is the output part alone.
    """

    kind: ClassVar[Kind]
    in_place: ClassVar[bool] = False

    name: Name
    instructions: str = ""
    examples: Examples = ()
    guards: Guards | None = None
    accept: Accept | None = None
    score: ScoreName | None = Field(
        default=None,
        description="Which of the scores stored with each answer the confidence is; changing it asks nothing.",
    )
    second_look: float | None = Field(default=None, gt=0, le=1)
    long_input: Literal["cut", "window"] = "cut"
    max_output_tokens: int = Field(default=64, ge=1, le=4096)
    think: bool = False
    max_thinking_tokens: int = Field(default=512, ge=16, le=8192)

    @model_validator(mode="after")
    def _examples_fit(self) -> Self:
        for index, example in enumerate(self.given_examples):
            complaint = misfit(self.kind, example.output, self.example_words)
            if complaint:
                raise WrongField(complaint, "examples", index, "output")
        return self

    @model_validator(mode="after")
    def _looks_at_one_answer(self) -> Self:
        if self.second_look is not None and (self.think or self.kind == "labels"):
            message = "looks at one answer that stands by itself: it goes neither with `think` nor with a multilabel"
            raise WrongField(message, "second_look")
        return self

    @model_validator(mode="after")
    def _score_is_stored(self) -> Self:
        if self.score is not None and self.score not in self.score_names:
            stored = ", ".join(self.score_names)
            raise WrongField(f"answers are stored without {self.score!r} here; their scores are {stored}", "score")
        return self

    @property
    def score_names(self) -> ScoreNames:
        """The scores that its answers are stored with, the usual one first."""
        # a label that ends a piece of reasoning is written freely
        usual = OF_LABEL if self.is_closed and not self.think else OF_TEXT
        return usual if self.second_look is None else (*usual, "second_look")

    @property
    def chosen_score(self) -> ScoreName | None:
        """The score that confidences are, where it is not the usual one."""
        return None if self.score == self.score_names[0] else self.score

    @model_validator(mode="after")
    def _guards_fit(self) -> Self:
        if any(not self.takes_guard(guard) for guard in self.guards or ()):
            message = (
                f"`mark` goes with an answer out of a set, and column {self.name} has none: text that "
                "is copied would bring the marks along; `fence` and `repeat` go with every task"
            )
            raise WrongField(message, "guards")
        return self

    def takes_guard(self, guard: Guard) -> bool:
        """Whether a guard goes with this task: words that are marked may be read, and not copied."""
        return guard != "mark" or self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the answer is one of a set, so that nothing of the row is copied into it."""
        return self.kind in ("label", "labels", "bool")

    @property
    def given_examples(self) -> tuple[Example, ...]:
        """The examples that every row is shown; none where each row gets its own."""
        return self.examples if isinstance(self.examples, tuple) else ()

    @property
    def example_words(self) -> frozenset[str] | None:
        """The labels or attribute names that an example may use; None where any will do."""
        return None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns whose values make up a question, in the order of the prompt."""
        raise NotImplementedError

    @property
    def written(self) -> tuple[str, ...]:
        """Every column that a publish may write for this task."""
        scores = (f"{self.name}_scores",) if self.writes_scores else ()
        return (self.name, f"{self.name}_confidence", f"{self.name}_error", f"{self.name}_meta", *scores)

    @property
    def writes_scores(self) -> bool:
        """Whether a column `x_scores` stands beside the value."""
        return False


class Classify(Task):
    """Pick one of the labels, or abstain.

    Attributes:
        preselect: the prompt lists so many labels only, those whose words are nearest to the row's; any label may
            still be the answer. 0 lists none, for a model that was trained on this very label set.
        prior_correction: each label's probability is divided by what it has without the row's text, which makes up for
            words that a model likes anyhow; as the model's card says by default. A model that was trained on this label
            set knows better: say false.
    """

    kind: ClassVar[Kind] = "label"

    task: Literal["classify"]
    from_: Columns = Field(alias="from")
    labels: Labels
    abstain: str | None = None
    scores: bool = False
    read: Literal["auto", "menu", "text"] = "auto"
    preselect: int | None = Field(default=None, ge=0)
    prior_correction: bool | None = None

    @model_validator(mode="after")
    def _closed_set(self) -> "Classify":
        check_labels(self.labels, least=2)
        if self.preselect == 1:
            raise WrongField("a list of one label is no choice; 0 lists none, 2 or more the nearest", "preselect")
        if self.preselect is not None and self.read == "menu":
            raise WrongField("a menu's letters stand for labels that are listed; `preselect` goes with words", "read")
        return self

    @property
    def example_words(self) -> frozenset[str] | None:
        """The labels and the word for none of them."""
        return words_of(self.labels, self.abstain)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns under `from`."""
        return self.from_

    @property
    def writes_scores(self) -> bool:
        """All labels' scores are written on request."""
        return self.scores


class Multilabel(Task):
    """Pick every label that applies; the array keeps the declared order."""

    kind: ClassVar[Kind] = "labels"

    task: Literal["multilabel"]
    from_: Columns = Field(alias="from")
    labels: Labels

    @model_validator(mode="after")
    def _closed_set(self) -> "Multilabel":
        check_labels(self.labels, least=1)
        if self.think:
            raise WrongField("a multilabel asks yes or no about each label, with no room to think", "think")
        return self

    @property
    def score_names(self) -> ScoreNames:
        """Those of the label that is least sure, or has the least mass: they need not be one label's."""
        return OF_LABELS

    @property
    def example_words(self) -> frozenset[str] | None:
        """The labels."""
        return words_of(self.labels)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns under `from`."""
        return self.from_

    @property
    def writes_scores(self) -> bool:
        """The probability of each label always stands in `x_scores`."""
        return True


class Extract(Task):
    """Fill a struct with what the text states."""

    kind: ClassVar[Kind] = "struct"

    task: Literal["extract"]
    from_: Columns = Field(alias="from")
    attributes: Annotated[
        dict[Name, Attribute],
        BeforeValidator(as_attribute, json_schema_input_type=dict[Name, AttributeType | Attribute]),
        Field(min_length=1),
    ]
    verbatim: bool = False
    max_output_tokens: int = Field(default=128, ge=1, le=4096)

    @model_validator(mode="after")
    def _distinct_attributes(self) -> "Extract":
        seen: dict[str, str] = {}
        for name in self.attributes:
            if (twin := seen.setdefault(name.casefold(), name)) != name:
                raise WrongField(f"{twin!r} and {name!r} differ only by case, and would be one field", "attributes")
        return self

    @property
    def example_words(self) -> frozenset[str] | None:
        """The attributes."""
        return frozenset(self.attributes)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns under `from`."""
        return self.from_

    @property
    def writes_scores(self) -> bool:
        """The confidence of each field always stands in `x_scores`."""
        return True


class Clean(Task):
    """Correct the cells of one existing column where they stand."""

    kind: ClassVar[Kind] = "cell"
    in_place: ClassVar[bool] = True

    task: Literal["clean"]
    name: ColumnName
    rules: str = Field(min_length=1)
    context: Annotated[tuple[ColumnName, ...], BeforeValidator(as_tuple)] = ()
    pattern: str | None = None
    domain: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] | LabelTable | None = None
    max_edit_distance: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _guards(self) -> "Clean":
        check_pattern(self.pattern)
        if self.name in self.context:
            raise WrongField(f"must not repeat the cleaned column {self.name}", "context")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Context first (it repeats from row to row), the cell last."""
        return (*self.context, self.name)


class Reference(Declared):
    """A table whose exact key hits fill a cell without asking the model: source column -> key column."""

    table: str = Field(min_length=1)
    keys: dict[ColumnName, ColumnName] = Field(min_length=1)
    value: ColumnName


class Impute(Task):
    """Fill the null or empty cells of one existing column."""

    kind: ClassVar[Kind] = "cell"
    in_place: ClassVar[bool] = True

    task: Literal["impute"]
    name: ColumnName
    from_: Columns = Field(alias="from")
    labels: Labels | None = None
    reference: Reference | None = None
    read: Literal["auto", "menu", "text"] = "auto"

    @model_validator(mode="after")
    def _closed_set(self) -> "Impute":
        if self.labels is not None:
            check_labels(self.labels, least=2)
        if self.name in self.from_:
            raise WrongField(f"must not hold the column to fill, {self.name}: where it is asked it is empty", "from")
        return self

    @property
    def is_closed(self) -> bool:
        """Its labels, if there are any."""
        return self.labels is not None

    @property
    def example_words(self) -> frozenset[str] | None:
        """The labels, if there are any."""
        return words_of(self.labels)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns under `from`."""
        return self.from_


class Match(Task):
    """Say whether the left and the right record of a row are the same thing."""

    kind: ClassVar[Kind] = "bool"

    task: Literal["match"]
    left: Columns
    right: Columns

    @property
    def inputs(self) -> tuple[str, ...]:
        """Left record, then right record."""
        return (*self.left, *self.right)

    @property
    def written(self) -> tuple[str, ...]:
        """Beside the usual columns, `x_score` = p(match)."""
        return (*super().written, f"{self.name}_score")


class Answer(Task):
    """Answer a question about the row."""

    kind: ClassVar[Kind] = "text"

    task: Literal["answer"]
    from_: Columns = Field(alias="from")
    question: str = Field(min_length=1)
    options: LabelMap | None = None
    not_answerable: str | None = None
    verbatim: bool = False
    read: Literal["auto", "menu", "text"] = "auto"

    @model_validator(mode="after")
    def _closed_set(self) -> "Answer":
        if self.options is not None:
            check_labels(self.options, least=2, field="options")
        return self

    @property
    def is_closed(self) -> bool:
        """Its options, if there are any."""
        return self.options is not None

    @property
    def example_words(self) -> frozenset[str] | None:
        """The options and the word for a question that the row does not answer."""
        return words_of(self.options, self.not_answerable)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns under `from`."""
        return self.from_


AnyTask = Annotated[
    Classify | Multilabel | Extract | Clean | Impute | Match | Answer,
    Field(discriminator="task"),
]
TASK_NAMES = ("classify", "multilabel", "extract", "clean", "impute", "match", "answer")


def has_labels(task: AnyTask) -> bool:
    """Whether a task chooses one of its labels."""
    return (
        isinstance(task, Classify)
        or (isinstance(task, Impute) and bool(task.labels))
        or (isinstance(task, Answer) and bool(task.options))
    )
