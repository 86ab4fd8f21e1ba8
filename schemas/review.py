"""What people's answers are for, and which rows they are asked about without somebody drawing them."""

from pydantic import Field

from schemas.fields import Declared


class Review(Declared):
    """How a job's runs deal with people.

    Attributes:
        top_up: how many rows outside all frames each run draws, of each column about which something is promised, for
            the column's next frame.
        spread: what a person said of a row holds for all rows with the same inputs.
    """

    top_up: int | None = Field(default=None, ge=1)
    spread: bool = False
