"""What pydantic found wrong, told in the words of the file: line, field path, what was got, what is allowed."""

import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from schemas.fields import Whole, WrongField
from schemas.yaml_tree import TAG, Path, Place, Problem, Tree, place_of, turned

# Parts that pydantic puts into a path to tell the members of a union apart; no field of ours is called so.
UNION_PART = re.compile(
    r"^(function-|dict\[|tuple\[|list\[|(str|int|float|bool|none|LabelTable|Attribute|Promise|ExampleTable|ReviewedExamples|ExamplePool)$)"
)
WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "int_from_float": "a whole number",
}


class _Located:
    """One pydantic error with its path in the file, and the union members that the path went through."""

    def __init__(self, details: ErrorDetails, tree: Tree, root: type[Whole]) -> None:
        self.details, self.root = details, root
        self.kind = details["type"]
        self.at_key = False
        self.branches: list[tuple[Path, str]] = []
        self.path: Path = ()
        for part in details["loc"]:
            self._follow(part, tree)
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, WrongField):
            self.path += cause.field
        self.node = _nearest_node(tree, self.path)

    def _follow(self, part: str | int, tree: Tree) -> None:
        if part == "[key]":
            self.at_key = True
        elif (*self.path, part) in tree.nodes:
            self.path += (part,)
        elif len(self.path) == 2 and self.path[0] == self.root.listed and part in self.root.tags:
            return
        elif isinstance(part, str) and UNION_PART.match(part):
            self.branches.append((self.path, part))
        else:
            self.path += (part,)

    @property
    def parent(self) -> Path:
        return self.path[:-1]


def explain(errors: Sequence[ErrorDetails], tree: Tree, root: type[Whole]) -> list[Problem]:
    """Turn pydantic's errors into problems of the file, one per mistake."""
    located = _one_branch_per_union([_Located(error, tree, root) for error in errors if not _is_echo(error)])
    misspelt = {(found.parent, _nearest(found)) for found in located if found.kind == "extra_forbidden"}
    problems: dict[tuple[Path, str], Problem] = {}
    for found in located:
        if found.kind == "missing" and (found.parent, found.path[-1]) in misspelt:
            continue
        problem = Problem(_place(found, tree), _shown_path(found), _message(found))
        problems.setdefault((problem.path, problem.message), problem)
    return list(problems.values())


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" for the closest known word, or ""."""
    close = difflib.get_close_matches(word.casefold(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def path_text(path: Path) -> str:
    """Return `columns[2].attributes.bought_on` for a path."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def _is_echo(error: ErrorDetails) -> bool:
    """Tell whether a list is called too short only because pydantic counts its valid entries."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _one_branch_per_union(found: list[_Located]) -> list[_Located]:
    """Keep, of the members of a union, the errors of the one that was meant."""
    by_union: dict[Path, dict[str, list[_Located]]] = {}
    for one in found:
        for path, member in one.branches:
            by_union.setdefault(path, {}).setdefault(member, []).append(one)
    dropped: set[int] = set()
    for path, members in by_union.items():
        fitting = [name for name, errors in members.items() if all(e.path != path for e in errors)]
        meant = fitting[0] if fitting else next(iter(members))
        dropped |= {id(error) for name, errors in members.items() if name != meant for error in errors}
        if not fitting:
            kinds = [error.kind for errors in members.values() for error in errors]
            for error in members[meant]:
                error.details["ctx"] = {"wanted": _wanted(kinds)}
    return [one for one in found if id(one) not in dropped]


def _wanted(kinds: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(WANTED[kind] for kind in kinds if kind in WANTED))


def _nearest_node(tree: Tree, path: Path) -> yaml.Node | None:
    while path and path not in tree.nodes:
        path = path[:-1]
    return tree.nodes.get(path)


def _place(found: _Located, tree: Tree) -> Place:
    if (found.at_key or found.kind == "extra_forbidden") and found.path in tree.keys:
        return tree.keys[found.path]
    if found.kind == "union_tag_invalid":
        return place_of(tree.nodes[(*found.path, found.root.tag)].start_mark)
    return place_of(found.node.start_mark) if found.node is not None else Place(1, 1)


def _shown_path(found: _Located) -> Path:
    return (*found.path, found.root.tag) if found.kind.startswith("union_tag") else found.path


def _message(found: _Located) -> str:
    kind, context, tags = found.kind, found.details.get("ctx", {}), found.root.tags
    if kind == "extra_forbidden":
        known = known_keys(found.details["loc"][:-1], found.root)
        return f"unknown key{nearest(str(found.path[-1]), known)}; known are {', '.join(known)}"
    if kind == "missing":
        return "is missing"
    if kind == "union_tag_not_found":
        return f"is missing; it takes one of {', '.join(tags)}"
    if kind == "union_tag_invalid":
        tag = str(context["tag"])
        return f"takes one of {', '.join(tags)}; got {tag!r}{nearest(tag, tags)}"
    if kind == "value_error":
        return str(context["error"]) + _turned_hint(found.node)
    return _type_message(found, context)


def _type_message(found: _Located, context: Mapping[str, Any]) -> str:
    kind, got = found.kind, repr(found.path[-1]) if found.at_key else _got(found.node)
    wanted = str(context.get("wanted") or WANTED.get(kind, ""))
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        word = found.node.value if isinstance(found.node, yaml.ScalarNode) else ""
        return f"takes one of {', '.join(allowed)}; got {got}{nearest(word, allowed)}" + _turned_hint(found.node)
    if wanted:
        if "text" in wanted and (turn := _turned_hint(found.node)):
            return turn.removeprefix("; ")
        bare = found.node.value if wanted == "a list" and isinstance(found.node, yaml.ScalarNode) else ""
        advice = f"; write [{bare}]" if bare else ""
        if context.get("class_name") in ("Source", "Place") and isinstance(found.node, yaml.ScalarNode):
            advice = f"; write {{table: {found.node.value}}}"
        return f"takes {wanted}; got {got}{advice}"
    if kind == "string_pattern_mismatch":
        return f"takes letters, digits and underscores, not a digit first; got {got}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    return found.details["msg"].replace("Input should be", "must be") + f"; got {got}"


def _got(node: yaml.Node | None) -> str:
    """Return a value as it was written; an expanded `${env:…}` may be a secret and is never shown."""
    if isinstance(node, yaml.ScalarNode):
        written = node.value if len(node.value) <= 60 else node.value[:57] + "…"
        return f"the text {written!r}" if _is_text(node) else f"`{written}`" if written else "nothing"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping"


def _is_text(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == TAG + "str"


def _turned_hint(node: yaml.Node | None) -> str:
    return f"; {turned(node)}" if isinstance(node, yaml.ScalarNode) and not _is_text(node) else ""


def _nearest(found: _Located) -> str:
    known = known_keys(found.details["loc"][:-1], found.root)
    close = difflib.get_close_matches(str(found.path[-1]).casefold(), known, n=1, cutoff=0.6)
    return close[0] if close else ""


def known_keys(location: Iterable[str | int], root: type[Whole]) -> list[str]:
    """Return the keys that a file may hold at a location as pydantic names it."""
    models: list[type[BaseModel]] = [root]
    for part in location:
        stepped = [
            inner
            for model in models
            for name, field in model.model_fields.items()
            if (field.alias or name) == part
            for inner in _models(field.annotation, *field.metadata)
        ]
        tagged = [model for model in models if _tag(model, root.tag) == part]
        models = stepped or tagged or models
    return [field.alias or name for model in models[:1] for name, field in model.model_fields.items()]


def _tag(model: type[BaseModel], tag: str) -> str:
    field = model.model_fields.get(tag)
    return str(typing.get_args(field.annotation)[0]) if field is not None else ""


def _models(*annotations: Any) -> list[type[BaseModel]]:
    """Return the models inside an annotation, however deep."""
    found: list[type[BaseModel]] = []
    for annotation in annotations:
        if isinstance(annotation, type):
            found += [annotation] if issubclass(annotation, BaseModel) else []
        else:
            found += _models(*typing.get_args(annotation))
    return found
