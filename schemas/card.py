"""What is known of a model: the form its prompts take, the read that was measured best, whether it was tuned.

A model folder may carry it as `burnish.json`; without one the defaults stand.
"""

from typing import Literal

from pydantic import Field

from schemas.fields import Declared

CARD_FILE = "burnish.json"


class ModelCard(Declared):
    """Facts that prompts and reads depend on; part of every fingerprint."""

    prompt: Literal["chat", "completion"] = "chat"
    read: Literal["menu", "text"] = "text"
    prior_correction: bool = False
    tuned: bool = True
    note: str = ""
    least_parameters_for_menu: int = Field(default=1_000_000_000, ge=0)
