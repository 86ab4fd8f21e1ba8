"""What `${env:…}` put into a file where a secret may stand, so that nothing that is shown or kept repeats it."""

import json
from typing import Any, Final

SHORTEST: Final = 6  # a shorter value is a word like any other, and would be found in half of all texts

_known: dict[str, str] = {}


def remember(name: str, value: str) -> None:
    """Take the value of an environment variable for a secret from now on, in this process."""
    if len(value) >= SHORTEST:
        shown = f"${{env:{name}}}"
        # as it stands, and as JSON writes it
        _known.update({value: shown, json.dumps(value)[1:-1]: shown})


def redacted(text: str) -> str:
    """Return a text with every remembered value replaced by the name of its variable."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, _known[value])
    return text


def without_secrets(value: Any) -> Any:
    """Return JSON-able values with every text redacted, keys included."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {without_secrets(key): without_secrets(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one) for one in value]
    return value
