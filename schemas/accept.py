"""What a column's answers need in order to be written: a least confidence, or a promise about how many are right."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from schemas.fields import Confidence, Declared, WrongField


class Promise(Declared):
    """Of the frame's rows whose answers are written, at least `precision` are right, with probability `assurance`.

    Attributes:
        per_label: each predicted label keeps the promise by itself, where it can.
        joint: `assurance` holds for all labels at once.
        carried: what becomes of rows outside all frames that reach the newest one's threshold; no promise is about
            them.
        on_drift: whether a run only warns, or writes nothing, when their scores are spread otherwise than the frame's.
    """

    precision: Annotated[float, Field(gt=0.0, lt=1.0)]
    assurance: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    per_label: bool = False
    joint: bool = False
    carried: Literal["write", "review"] = "write"
    on_drift: Literal["warn", "stop"] = "warn"

    @model_validator(mode="after")
    def _joint_of_labels(self) -> "Promise":
        if self.joint and not self.per_label:
            raise WrongField("goes with `per_label: true`: a column has one promise already", "joint")
        return self

    @property
    def text(self) -> str:
        """The promise as messages tell it."""
        each = (" of all labels together" if self.joint else " of each label") if self.per_label else ""
        return f"precision {self.precision:g}{each} at assurance {self.assurance:g}"


def _which(value: Any) -> str:
    """Tell at once which of both is meant, so that a mistake in one is not explained by the other."""
    return "Promise" if isinstance(value, dict | Promise) else "float"


Accept = Annotated[
    Annotated[Confidence, Tag("float")] | Annotated[Promise, Tag("Promise")],
    Discriminator(_which),
]
