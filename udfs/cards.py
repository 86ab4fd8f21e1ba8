"""The card of a model: what its folder says of itself, else what is known, else what holds for models of its size."""

import json
from math import prod
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from schemas.card import CARD_FILE, ModelCard
from schemas.errors import EnvironmentProblem
from schemas.job import EMBEDDED_MODELS, ModelRef
from udfs.fit import weights_files
from udfs.tokens import load_tokens

SMOLLM2: Final = ModelCard(
    prompt="completion",
    read="text",
    prior_correction=False,
    tuned=False,
    note="SmolLM2-135M-Instruct as published: good for trying burnish, far too weak for real labels",
)


def card_of(model: ModelRef, folder: Path) -> ModelCard:
    """The card of a staged model.

    Raises:
        EnvironmentProblem: the folder's card is not one.
    """
    file = folder / CARD_FILE
    if file.is_file():
        try:
            return ModelCard.model_validate_json(file.read_text(encoding="utf-8"))
        except ValidationError as problem:
            raise EnvironmentProblem(f"{file} is no model card: {problem.error_count()} errors.") from problem
    if model.name in EMBEDDED_MODELS:
        return SMOLLM2
    card = ModelCard(prompt="chat" if load_tokens(str(folder)).has_chat else "completion")
    binds_codes = parameters_of(folder) >= card.least_parameters_for_menu
    return card.model_copy(update={"read": "menu"}) if binds_codes else card


def parameters_of(folder: Path) -> int:
    """How many numbers the model's weights files hold, by their headers alone."""
    total = 0
    for path in weights_files(folder):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total
