"""The gate before a publish: how far a night's answers may lie from those of the last good run."""

from typing import Literal

from schemas.fields import Confidence, Declared


class Gate(Declared):
    """What a night may differ by; a column with fewer than 50 answers in either run is not compared.

    Attributes:
        otherwise: what happens to a column that differs more: the run stops before anything is written, goes on with
            a warning, or sends that column's answers to review.
        failed_share, null_share: how much larger the share of failed questions, of empty answers may be.
        confidence: how much lower the mean confidence may be.
        label_mix: how large a share of the answers may have gone to other labels (total variation distance).
        changed_share: how large a share of the answered cells may change a value that stood there.
    """

    otherwise: Literal["stop", "warn", "review"] = "stop"
    failed_share: Confidence = 0.05
    null_share: Confidence = 0.1
    confidence: Confidence = 0.1
    label_mix: Confidence = 0.15
    changed_share: Confidence = 0.5
