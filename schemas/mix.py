"""The mix file: which rows a model learns from, how often, and which it must never have seen."""

import re
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from schemas.fields import ColumnName, Declared, Name, Whole, WrongField, as_tuple
from schemas.job import ModelRef, Place, as_model

Form = Literal["template", "tulu", "completion"]
Pairs = Literal["dates", "phones", "units", "casing", "typos", "records"]
PAIRS = get_args(Pairs)
FILE_SUFFIX = re.compile(r"\.(json|jsonl|csv|parquet)(\.gz)?$")


def _as_keys(value: Any) -> Any:
    """Accept `[a, [b, c]]` for `((a,), (b, c))`: a lone column is a key of its own."""
    if not isinstance(value, list | tuple):
        return value
    return tuple((one,) if isinstance(one, str) else as_tuple(one) for one in value)


SplitKeys = Annotated[
    tuple[Annotated[tuple[ColumnName, ...], Field(min_length=1)], ...],
    BeforeValidator(_as_keys, json_schema_input_type=list[str | list[str]]),
    Field(min_length=1),
]


class Rows(Declared):
    """Rows to read: a Delta table by name or by path, or a file that Spark reads."""

    table: str | None = None
    path: str | None = None
    file: str | None = None
    where: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "Rows":
        given = [name for name in ("table", "path", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            got = ", ".join(given) or "none of them"
            raise ValueError(f"rows come from one of `table`, `path` (a Delta folder) or `file`; got {got}")
        if self.file is not None and not FILE_SUFFIX.search(self.file):
            raise WrongField("takes a file that ends in .json, .jsonl, .csv or .parquet (or .gz after it)", "file")
        if self.place is not None:
            # its own rules about names
            Place(table=self.table, path=self.path)
        return self

    @property
    def place(self) -> Place | None:
        """The Delta table; None for a file."""
        return None if self.file is not None else Place.model_construct(table=self.table, path=self.path)

    @property
    def text(self) -> str:
        """Where the rows are, as messages show it."""
        return self.table or self.path or self.file or ""


class Weighed(Declared):
    """What every source has: a name, how many rows at most, how often each.

    Attributes:
        weight: how often each row occurs: 2 takes every row twice (varied anew), 0.25 every fourth.
        licence: under which the rows may be used, for the card of a model that learned from them.
    """

    name: Name
    rows: int | None = Field(default=None, ge=1)
    weight: float = Field(default=1.0, gt=0, le=100)
    licence: str = ""


class Split(Weighed):
    """A source whose rows a held-out row may share something with.

    Attributes:
        split_by: keys that no held-out row may share, beside the whole text: each a column, or a list of columns
            taken together.
    """

    split_by: SplitKeys | None = None


class JobRows(Split):
    """A labelled table through a job file: the prompts that `run` sends, and the truth as their answers."""

    kind: Literal["job"]
    job: str = Field(min_length=1)
    truth: dict[Name, ColumnName] = Field(min_length=1)
    vary: bool = False


class Instructions(Split, Rows):
    """Alpaca or Dolly records: `instruction`, `input` or `context`, `output` or `response`."""

    kind: Literal["instructions"]


class Conversations(Split, Rows):
    """ShareGPT conversations: `conversations` of `from` and `value`, or `messages` of `role` and `content`."""

    kind: Literal["conversations"]


class Prompts(Split, Rows):
    """Rows of `prompt` and `completion`."""

    kind: Literal["prompts"]


class Generated(Weighed):
    """Pairs made up on the spot: what is dirty and what it should be, or two records and whether they are one."""

    kind: Literal["generated"]
    pairs: Pairs
    rows: int = Field(ge=1)


class ReviewedRows(Split):
    """What people said of a job's answers: their corrections, and the answers that they found right."""

    kind: Literal["reviewed"]
    job: str = Field(min_length=1)
    vary: bool = False


AnySource = Annotated[
    JobRows | ReviewedRows | Instructions | Conversations | Prompts | Generated, Field(discriminator="kind")
]
SOURCE_KINDS = ("job", "reviewed", "instructions", "conversations", "prompts", "generated")


class HeldOut(Rows):
    """Rows that no training row may share a key with; `passages` refuses also 13 words in a row that stand in one."""

    split_by: SplitKeys
    passages: bool = False


class MixFile(Whole):
    """What a user declares of a mixture: sources, what is held out, where it goes, for which model.

    Attributes:
        form: how conversations become tokens; a task's prompts take the form that the model's card names.
        longest: most tokens of a row; longer conversations are cut, and tasks asked as with this `max_model_len`.
    """

    called: ClassVar[str] = "mix file"
    hint: ClassVar[str] = "README, section Training data, shows a whole mix file"
    listed: ClassVar[str] = "sources"
    tag: ClassVar[str] = "kind"
    tags: ClassVar[tuple[str, ...]] = SOURCE_KINDS

    model: Annotated[ModelRef, BeforeValidator(as_model, json_schema_input_type=str | ModelRef)]
    form: Form = "template"
    longest: int = Field(default=2048, ge=64)
    seed: int = 0
    output: Place
    sources: Annotated[tuple[AnySource, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    held_out: Annotated[tuple[HeldOut, ...], BeforeValidator(as_tuple)] = ()

    @field_validator("model")
    @classmethod
    def _has_tokens(cls, value: ModelRef) -> ModelRef:
        if value.endpoint is not None:
            raise ValueError("an endpoint has no tokens to train on; name smollm2, a folder or a pinned hub model")
        return value

    @model_validator(mode="after")
    def _names_and_places(self) -> "MixFile":
        seen: dict[str, int] = {}
        for index, source in enumerate(self.sources):
            first = seen.setdefault(source.name.casefold(), index)
            if first != index:
                raise WrongField(f"sources[{first}] has this name too; rename one", "sources", index, "name")
        for field, rows in (("sources", self.sources), ("held_out", self.held_out)):
            for index, one in enumerate(rows):
                if isinstance(one, Rows) and one.place is not None and self.output.same_as(one.place):
                    raise WrongField("is the output itself, which is written anew", field, index)
        return self
