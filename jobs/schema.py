"""`burnish schema`: the JSON schema of a job file, for editors that complete and check while one types."""

from typing import Any

from schemas.job import EnrichJob

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON schema that editors read; `burnish validate` checks more than it can say."""
    found = EnrichJob.model_json_schema(by_alias=True)
    definitions = {name: _dressed(part) for name, part in found.pop("$defs", {}).items()}
    return {
        "$schema": DIALECT,
        "title": "burnish job file",
        "description": EnrichJob.__doc__,
        **{key: value for key, value in _dressed(found).items() if key not in ("title", "description")},
        "$defs": definitions,
    }


def _dressed(part: dict[str, Any]) -> dict[str, Any]:
    """Drop the titles that pydantic makes from field names (editors show them instead of the description)."""
    properties = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in part.get("properties", {}).items()
    }
    return {**part, "properties": properties} if properties else part
