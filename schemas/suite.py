"""The suite file: job files on tables whose truth is known, and what stands beside the model in the comparison."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.fields import ColumnName, Declared, Name, Whole, WrongField, as_tuple
from schemas.job import ModelRef, Place, Source, as_model

# the columns of RefuelLLM-2's table, and what burnish does beside them
Kind = Literal["classification", "reading comprehension", "extraction", "entity matching", "cleaning", "enrichment"]
Baseline = Literal["majority", "linear"]
BASELINES: tuple[Baseline, ...] = ("majority", "linear")


class SuiteSet(Declared):
    """One job on one table with truth.

    Attributes:
        source: rows to be judged by, instead of the job's own.
        truth: the column that holds what is right, by output.
        train: rows that a baseline may learn from, of the same columns.
        kind: under which heading the set is averaged; by its task otherwise.
        rows: how many rows are taken, instead of the suite's number.
        note: what a reader of the table must know of the set.
    """

    name: Name
    job: str = Field(min_length=1)
    source: Source | None = None
    truth: dict[Name, ColumnName] = Field(min_length=1)
    train: Place | None = None
    kind: Kind | None = None
    rows: int | None = Field(default=None, ge=1)
    note: str = ""


Models = Annotated[
    tuple[Annotated[ModelRef, BeforeValidator(as_model, json_schema_input_type=str | ModelRef)], ...],
    BeforeValidator(as_tuple),
]


class SuiteFile(Whole):
    """What a user declares of an evaluation.

    Attributes:
        output: a folder for the sampled rows, the answers and the tables of scores.
        models: asked one after the other, instead of each job's own; the first is the one that is judged.
        rows: how many rows of each set are taken, drawn by `seed` and their keys.
        resamples: of the bootstrap that gives intervals.
    """

    called: ClassVar[str] = "suite file"
    hint: ClassVar[str] = "README, section Evaluation, shows a whole suite file"

    output: str = Field(min_length=1)
    models: Models = ()
    baselines: Annotated[tuple[Baseline, ...], BeforeValidator(as_tuple)] = BASELINES
    rows: int = Field(default=300, ge=1)
    seed: int = 0
    resamples: int = Field(default=1000, ge=100, le=100_000)
    sets: Annotated[tuple[SuiteSet, ...], BeforeValidator(as_tuple)] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> "SuiteFile":
        seen: dict[str, int] = {}
        for index, one in enumerate(self.sets):
            if seen.setdefault(one.name.casefold(), index) != index:
                raise WrongField("another set has this name too; rename one", "sets", index, "name")
        return self
