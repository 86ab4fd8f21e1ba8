"""Canonical forms and digests: what makes two questions the same, and two answers interchangeable.

A question is one distinct input to one task. Its canonical form is encoding only (type tag, byte length, text):
no trimming and no case folding, since `clean` is asked about just those. `jobs.cells` builds the same bytes in
Catalyst; a test holds the two equal.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.scores import OF_TEXT
from schemas.tasks import AnyTask

PROMPT_VERSION = 2
# what the scores of texts and fields are taken over; labels have kept theirs
TEXT_SCORES_VERSION = 2
NULL_TAG = "-"


def canonical(values: Sequence[str | None], tags: Sequence[str]) -> str:
    """Encode values as `tag:bytes:text` one after another; null is `-`.

    Args:
        values: each input as text (strings as they are, other types as Spark casts them, times in UTC).
        tags: one letter per input, from its Spark type (see `jobs.cells.type_tag`).
    """
    parts = []
    for value, tag in zip(values, tags, strict=True):
        parts.append(NULL_TAG if value is None else f"{tag}:{len(value.encode())}:{value}")
    return "".join(parts)


def question_id(fingerprint: str, canonical_inputs: str) -> str:
    """Return sha256(fingerprint ‖ canonical inputs) in hex."""
    return hashlib.sha256((fingerprint + canonical_inputs).encode()).hexdigest()


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-able value in its canonical form (sorted keys, no blanks)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def declared(task: AnyTask) -> dict[str, Any]:
    """Return what of a task changes its answers.

    That is all but acceptance, checks of what is written, reference hits and the choice of score. The order of labels
    and attributes counts (it is the order of the prompt), hence pairs instead of maps.
    """
    outside = {"accept", "reference", "score"}
    # a cell's own column name is part of its prompt; the name of a new column is not
    outside |= set() if task.in_place else {"name"}
    # these decide what is accepted, not what is asked
    if task.task == "clean":
        outside |= {"pattern", "domain", "max_edit_distance"}
    # a field that came later changes no fingerprint where it is not used
    outside |= set() if task.think else {"think", "max_thinking_tokens"}
    outside |= set() if task.guards else {"guards"}
    outside |= {"second_look"} if task.second_look is None else set()
    outside |= {"prior_correction"} if getattr(task, "prior_correction", None) is None else set()
    outside |= {"preselect"} if getattr(task, "preselect", None) is None else set()
    found = task.model_dump(mode="json", by_alias=True, exclude=outside)
    for field in ("labels", "options", "attributes"):
        if isinstance(found.get(field), dict):
            found[field] = list(found[field].items())
    return found


def fingerprint(task: AnyTask, model: Mapping[str, Any]) -> str:
    """Return the sha256 over all that changes an answer of this task by this model.

    Args:
        task: the task with its labels resolved (no `LabelTable` left).
        model: digest or revision of the weights, prompt form, read, decoding and the engine's settings that count
            (see `udfs.ask.model_facts`).
    """
    scores = {"text_scores_version": TEXT_SCORES_VERSION} if task.score_names[0] == OF_TEXT[0] else {}
    return digest({"prompt_version": PROMPT_VERSION, "task": declared(task), "model": dict(model), **scores})
