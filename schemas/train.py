"""The train file: which model learns from which mixture, how, in which stages."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from schemas.fields import Declared, Whole, as_tuple
from schemas.job import ModelRef, Place, as_model
from schemas.mix import Form

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["auto", "bfloat16", "float32"]


class Lora(Declared):
    """Low-rank adapters on every linear layer but the head.

    Attributes:
        alpha: the update counts `alpha / rank` times.
    """

    rank: int = Field(default=16, ge=1, le=512)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Stage(Declared):
    """One stretch of training with a learning rate of its own.

    Attributes:
        batch: rows that a process takes at once; a step takes batch times accumulation times processes.
        warmup: share of the steps in which the learning rate rises.
        final: share of the learning rate that is left at the end.
        longest: most tokens of a row; longer ones are cut or left out as `burnish mix` does, and as many tokens are
            laid side by side in one sequence.
        data: another mixture than the file's, for this stage.
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(gt=0, le=1)
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    final: float = Field(default=0.1, ge=0, le=1)
    longest: int = Field(default=2048, ge=32)
    data: Place | None = None


class TrainFile(Whole):
    """What a user declares of a training: model, data, method, stages, and the folder for all that it leaves.

    Attributes:
        output: a folder that driver and training processes share.
        form: how conversations become tokens; a task's prompts take the form of `prompt`.
        prompt: the form of a task's prompts, written into the trained model's card; the model's own card's by default.
        run_on: `driver` trains beside the driver, `executors` in barrier tasks of the cluster.
        checkpoint_every: steps between two checkpoints.
    """

    called: ClassVar[str] = "train file"
    hint: ClassVar[str] = "README, section Training, shows a whole train file"

    model: Annotated[ModelRef, BeforeValidator(as_model, json_schema_input_type=str | ModelRef)]
    data: Place
    output: str = Field(min_length=1)
    method: Literal["lora", "full"] = "lora"
    lora: Lora = Lora()
    form: Form = "template"
    prompt: Literal["chat", "completion"] | None = None
    precision: Precision = "auto"
    processes: int = Field(default=1, ge=1)
    run_on: Literal["driver", "executors"] = "driver"
    seed: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=100, ge=1)
    stages: Annotated[tuple[Stage, ...], BeforeValidator(as_tuple)] = Field(min_length=1)

    @field_validator("model")
    @classmethod
    def _has_weights(cls, value: ModelRef) -> ModelRef:
        if value.endpoint is not None:
            raise ValueError("an endpoint has no weights to train; name smollm2, a folder or a pinned hub model")
        return value

    def data_of(self, stage: Stage) -> Place:
        """The mixture that a stage reads."""
        return stage.data or self.data
