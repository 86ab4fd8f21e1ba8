"""What tasks and job files are made of: names, labels, examples, attributes, and the rules they keep."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    field_validator,
    model_validator,
)

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
SUFFIXES = ("_confidence", "_error", "_meta", "_scores")

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
ColumnList = Annotated[tuple[ColumnName, ...], Field(min_length=1)]
Confidence = Annotated[float, Field(ge=0.0, le=1.0)]
Kind = Literal["label", "labels", "struct", "cell", "bool", "text"]


class Declared(BaseModel):
    """Base of all that a job file declares: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Whole(Declared):
    """Base of what one file declares as a whole, with the words that messages about such a file are made of."""

    called: ClassVar[str]
    hint: ClassVar[str]
    # the one list whose entries are of several classes: its field, the key that tells them apart, what that key takes
    listed: ClassVar[str] = ""
    tag: ClassVar[str] = ""
    tags: ClassVar[tuple[str, ...]] = ()


class WrongField(ValueError):
    """A rule over several fields was broken; `field` is the one to look at, below the object that was checked."""

    def __init__(self, message: str, *field: str | int) -> None:
        """Keep the field apart, so that a message about a file can point at its line."""
        super().__init__(message)
        self.field = field


def as_tuple(value: Any) -> Any:
    """Accept a YAML list where a tuple is declared (strict mode would not)."""
    return tuple(value) if isinstance(value, list) else value


def as_labels(value: Any) -> Any:
    """Accept `[a, b]` and `{from_table, column}` beside `{a: description}`; a list has empty descriptions."""
    if isinstance(value, dict) and _names_a_table(value):
        return LabelTable.model_validate(value)
    if isinstance(value, list | tuple):
        names = _NAMES.validate_python(tuple(value))
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"labels must differ; {', '.join(repeated)} stands more than once")
        return dict.fromkeys(names, "")
    if not isinstance(value, dict | LabelTable):
        raise ValueError("takes a list of labels, or a mapping of each label to its description")
    return value


def _names_a_table(value: dict[str, Any]) -> bool:
    """Whether a mapping is `{from_table, column}`, misspelt or not, and no set of labels of which one is so called."""
    return value.get("from_table", "") != "" and (len(value) <= 2 or "column" in value)


# What a list holds is checked before it becomes a mapping, while each name still has its place.
_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...], config=ConfigDict(strict=True))


class LabelTable(Declared):
    """Labels read from a table's column when the job starts."""

    from_table: str = Field(min_length=1)
    column: ColumnName


LabelMap = Annotated[
    dict[str, str],
    BeforeValidator(as_labels, json_schema_input_type=list[str] | dict[str, str]),
]
Labels = Annotated[
    dict[str, str] | LabelTable,
    BeforeValidator(as_labels, json_schema_input_type=list[str] | LabelTable | dict[str, str]),
]
Columns = Annotated[ColumnList, BeforeValidator(as_tuple)]


class Example(Declared):
    """One worked example: the input as the prompt shows it and the answer wanted."""

    input: str
    output: str | bool | tuple[str, ...] | dict[str, Any] | None

    @field_validator("output", mode="before")
    @classmethod
    def _list_output(cls, value: Any) -> Any:
        return as_tuple(value)


class ExampleTable(Declared):
    """Examples out of a table of labelled rows, whose columns are called as the task's inputs.

    Attributes:
        from_table: a table's name, or a Delta folder.
        version: of that table; raised by hand only, since other examples give other answers.
        truth: the column that holds what is right.
        select: `fixed` shows every row the same examples, `similar` those whose words are most like the row's,
            `diverse` similar ones that differ from each other and spread over the labels.
        k: how many are shown.
    """

    from_table: str = Field(min_length=1)
    version: int = Field(ge=0)
    truth: ColumnName
    select: Literal["fixed", "similar", "diverse"] = "similar"
    k: int = Field(default=4, ge=1, le=64)


class ReviewedExamples(Declared):
    """Examples out of what people said of the column's own rows under `burnish review`.

    Attributes:
        reviewed: the version of the review table, which `burnish review status` tells; raised by hand only.
        select: as of an `ExampleTable`.
        k: how many are shown.
    """

    reviewed: int = Field(ge=0)
    select: Literal["fixed", "similar", "diverse"] = "similar"
    k: int = Field(default=4, ge=1, le=64)


class LabelledRow(Declared):
    """One labelled row that may be an example: the texts of a task's inputs, and its example."""

    inputs: tuple[str | None, ...]
    example: Example


class ExamplePool(Declared):
    """What examples are chosen from, as it was when the job began; `digest` stands for it in every fingerprint."""

    select: Literal["similar", "diverse"]
    k: int
    digest: str
    rows: tuple[LabelledRow, ...] = Field(exclude=True)


def as_examples(value: Any) -> Any:
    """Accept a list of examples, `{from_table, …}` or `{reviewed, …}`."""
    if isinstance(value, dict):
        return (ReviewedExamples if "reviewed" in value else ExampleTable).model_validate(value)
    return as_tuple(value)


def _form_of(value: Any) -> str:
    """Tell the forms apart by themselves: a complaint then speaks of the one that was meant."""
    forms = ExampleTable | ReviewedExamples | ExamplePool
    return type(value).__name__ if isinstance(value, forms) else "list[Example]"


Examples = Annotated[
    Annotated[tuple[Example, ...], Tag("list[Example]")]
    | Annotated[ExampleTable, Tag("ExampleTable")]
    | Annotated[ReviewedExamples, Tag("ReviewedExamples")]
    | Annotated[ExamplePool, Tag("ExamplePool")],
    Discriminator(_form_of),
    BeforeValidator(as_examples, json_schema_input_type=list[Example] | ExampleTable | ReviewedExamples),
]


EXAMPLE_TYPES: dict[Kind, tuple[type, str]] = {
    "label": (str, "text"),
    "labels": (tuple, "a list of labels"),
    "struct": (dict, "a mapping of attributes to values"),
    "cell": (str, "text"),
    "bool": (bool, "true or false"),
    "text": (str, "text"),
}


def misfit(
    kind: Kind, output: str | bool | tuple[str, ...] | dict[str, Any] | None, known: frozenset[str] | None
) -> str:
    """Return what is wrong with an example's output, or ""."""
    wanted, wording = EXAMPLE_TYPES[kind]
    if not isinstance(output, wanted):
        return "" if output is None and wanted is str else f"takes {wording} here"
    if known is None or output is None or isinstance(output, bool):
        return ""
    strange = sorted(({output} if isinstance(output, str) else set(output)) - known)
    return f"holds {', '.join(strange)}, which this column does not declare" if strange else ""


def check_labels(labels: dict[str, str] | LabelTable, *, least: int, field: str = "labels") -> None:
    """Refuse too few labels, blank ones, and two that people would take for one."""
    if isinstance(labels, LabelTable):
        return
    if len(labels) < least:
        raise WrongField(f"needs at least {least} of them, got {len(labels)}", field)
    seen: dict[str, str] = {}
    for label in labels:
        if not label.strip():
            raise WrongField("one of them is empty or blank; give it a name or use `abstain`", field)
        twin = seen.setdefault(label.strip().casefold(), label)
        if twin != label:
            raise WrongField(f"{twin!r} and {label!r} differ only by case or surrounding blanks", field)


def words_of(labels: dict[str, str] | LabelTable | None, *more: str | None) -> frozenset[str] | None:
    """Return what an example may answer; None where the labels stand in a table."""
    if labels is None or isinstance(labels, LabelTable):
        return None
    return frozenset(labels) | {word for word in more if word is not None}


def check_pattern(pattern: str | None) -> None:
    """Refuse what is no regular expression."""
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except re.error as problem:
        raise WrongField(f"{pattern!r} is not a regular expression: {problem}", "pattern") from problem


AttributeType = Literal["string", "int", "float", "date", "bool", "enum", "list"]


class Attribute(Declared):
    """One field of an `extract`; a null field means that the text does not state it."""

    type: AttributeType = "string"
    description: str = ""
    pattern: str | None = None
    values: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = ()
    of: Literal["string", "int", "float", "date", "bool"] = "string"

    @model_validator(mode="after")
    def _consistent(self) -> "Attribute":
        if (self.type == "enum") != bool(self.values):
            raise WrongField("`values` goes with `type: enum`, and only with it", "values")
        if self.pattern is not None and self.type != "string":
            raise WrongField("`pattern` goes with `type: string` only", "pattern")
        check_pattern(self.pattern)
        return self


def as_attribute(value: Any) -> Any:
    """Accept `bought_on: date` for `bought_on: {type: date}`."""
    if isinstance(value, dict):
        return {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in value.items()}
    return value
