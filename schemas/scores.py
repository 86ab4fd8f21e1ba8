"""Names of the scores that answers are stored with: a column's confidence is one of them.

Of an extract's field they count the tokens from the colon to what ends the value, never a key. Tokens that the grammar
forces there have probability 1 and are among them: `probability` and `minimum` are the same without, and the two means
are a little higher than those of the model's own choices alone. At least one token is a choice, that of null or value.
"""

from typing import Final, Literal

ScoreName = Literal[
    "share", "probability", "label_mass", "mean_probability", "geometric_mean", "minimum", "second_look"
]
ScoreNames = tuple[ScoreName, ...]

# the usual one first
OF_LABEL: Final[ScoreNames] = ("share", "probability", "label_mass")
OF_LABELS: Final[ScoreNames] = ("share", "label_mass")
OF_TEXT: Final[ScoreNames] = ("probability", "mean_probability", "geometric_mean", "minimum")
# of labels, what the whole vocabulary was seen for, which no endpoint shows
OF_MASS: Final[ScoreNames] = ("probability", "label_mass")

FIELD_MARK: Final = ":"  # no attribute's name holds it
LOOK_KEY: Final = f"{FIELD_MARK}second_look"  # in an answer's `scores`: no label, no field and no other score


def of_field(field: str, score: str) -> str:
    """Return the key in an answer's `scores` of one field's score; the usual one stands under the field alone."""
    return field if score == OF_TEXT[0] else f"{field}{FIELD_MARK}{score}"
