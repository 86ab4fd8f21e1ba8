"""Prompt guards: what a prompt does so that a row's own text is read as data and not as instructions."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator

from schemas.fields import as_tuple

Guard = Literal["fence", "mark", "repeat"]
GUARDS: tuple[Guard, ...] = get_args(Guard)


def _in_order(value: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """Refuse a guard that stands twice; the order in a file changes no prompt, and so no fingerprint."""
    if len(set(value)) < len(value):
        raise ValueError("one of them stands twice")
    return tuple(guard for guard in GUARDS if guard in value)


Guards = Annotated[
    tuple[Guard, ...],
    BeforeValidator(as_tuple, json_schema_input_type=list[Guard]),
    AfterValidator(_in_order),
]
