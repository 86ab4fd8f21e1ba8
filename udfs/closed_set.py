"""A closed set of answers as a trie of token ids, in the file form that the replica's logits processor reads."""

import hashlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from schemas.errors import JobFileError

TokenPath = tuple[int, ...]
LEAST_PRIOR = 1e-12


@dataclass(frozen=True)
class ClosedSet:
    """Labels with the tokens that spell them.

    `eos` is the token that ends a label where it stands: a template's end of turn, a plain prompt's line break.
    `garbage` is a special token that no label holds: the engine reports the allowed tokens' probability mass on it.
    `prior` holds a log-probability per token of each path (one more for the end of text where wanted), subtracted
    before the choice. `reads_end` has the mass of the end after a whole label reported too, which is 1 otherwise.
    """

    labels: tuple[str, ...]
    paths: tuple[TokenPath, ...]
    garbage: int
    eos: int
    prior: tuple[tuple[float, ...], ...] | None = None
    reads_end: bool = False

    @classmethod
    def build(
        cls,
        labels: Sequence[str],
        encode: Callable[[str], Sequence[int]],
        *,
        garbage: int,
        eos: int,
        prior: Sequence[Sequence[float]] | None = None,
    ) -> "ClosedSet":
        """Spell each label by `encode`, the tokenizer's canonical tokens of the label as it follows the prompt.

        Raises:
            JobFileError: there is no label, two are spelled alike, or one is empty or holds a reserved token.
        """
        paths = tuple(tuple(encode(label)) for label in labels)
        _check(labels, paths, reserved={garbage, eos})
        shares = None if prior is None else tuple(tuple(float(value) for value in path) for path in prior)
        if shares is not None:
            _check_prior(paths, shares)
        return cls(tuple(labels), paths, garbage, eos, shares)

    @cached_property
    def json(self) -> str:
        """The canonical text whose sha256 names the set."""
        content = {"paths": self.paths, "garbage": self.garbage, "eos": self.eos, "prior": self.prior}
        return json.dumps(content | {"reads_end": self.reads_end}, sort_keys=True, separators=(",", ":"))

    @cached_property
    def name(self) -> str:
        """Hex sha256 of the set's text."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that only ever end a label that no other label continues: decoding them spends no step on the end."""
        inner = {token for path in self.paths for token in path[:-1]}
        inner |= {path[-1] for path in self.paths if self._goes_on(path)}
        ends = {path[-1] for path in self.paths} - inner
        return (*sorted(ends), self.eos)

    @cached_property
    def max_tokens(self) -> int:
        """Most tokens that any label takes, its end included where one must be decoded."""
        stops = frozenset(self.stop_token_ids)
        return max(len(path) + (path[-1] not in stops) for path in self.paths)

    @cached_property
    def _labels_by_path(self) -> dict[TokenPath, str]:
        return dict(zip(self.paths, self.labels, strict=True))

    @cached_property
    def _labels_by_beginning(self) -> dict[TokenPath, str]:
        begun: dict[TokenPath, set[str]] = {}
        for path, label in zip(self.paths, self.labels, strict=True):
            for end in range(1, len(path)):
                begun.setdefault(path[:end], set()).add(label)
        return {beginning: next(iter(labels)) for beginning, labels in begun.items() if len(labels) == 1}

    @cached_property
    def _inner(self) -> frozenset[TokenPath]:
        return frozenset(path[:end] for path in self.paths for end in range(1, len(path)))

    def _goes_on(self, path: TokenPath) -> bool:
        return path in self._inner

    def label_of(self, token_ids: Sequence[int]) -> str | None:
        """The label that these decoded tokens spell, or the only one that begins with them; None if there is none."""
        spelled = tuple(token_ids)
        if spelled and spelled[-1] == self.eos:
            return self._labels_by_path.get(spelled[:-1])
        if spelled in self._labels_by_path:
            return self._labels_by_path[spelled]
        return self._labels_by_beginning.get(spelled)

    def by_chance(self, masses: Sequence[Sequence[float]]) -> "ClosedSet":
        """The same set with what its labels have by chance as their prior, so that without a text all are as likely.

        Args:
            masses: per label and step, the probability of its token without a text; one more for its end where wanted.
        """
        begun = Counter(path[:end] for path in self.paths for end in range(len(path) + 1))
        prior = []
        for path, steps in zip(self.paths, masses, strict=True):
            below = [begun[path[:end]] for end in range(len(path) + 1)] + [1]
            # a branch of the trie that holds more labels is that much likelier to hold the right one
            due = [below[at + 1] / below[at] for at in range(len(steps))]
            prior.append(
                tuple(math.log(max(mass, LEAST_PRIOR) / share) for mass, share in zip(steps, due, strict=True))
            )
        return replace(self, prior=tuple(prior))

    def write(self, folder: Path) -> Path:
        """Put the set where the replica looks for it; readers see the whole file or none."""
        target = folder / f"{self.name}.json"
        if not target.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as part:
                part.write(self.json)
            Path(part.name).replace(target)
        return target


@lru_cache(maxsize=4096)
def garbage_token(folder: Path, name: str) -> int:
    """The garbage token of the set of this name, as written under `folder`."""
    return int(json.loads((folder / f"{name}.json").read_text())["garbage"])


def _check(labels: Sequence[str], paths: Sequence[TokenPath], *, reserved: set[int]) -> None:
    if not labels:
        raise JobFileError("A closed set has no labels.", hint="Give at least one label.")
    seen: dict[TokenPath, str] = {}
    for label, path in zip(labels, paths, strict=True):
        if not path:
            raise JobFileError(
                f"Label {label!r} has no tokens.", hint="Give every label at least one visible character."
            )
        if path in seen:
            raise JobFileError(
                f"Labels {seen[path]!r} and {label!r} are the same tokens to the model.", hint="Rename or drop one."
            )
        if reserved.intersection(path):
            raise JobFileError(
                f"Label {label!r} holds one of the model's control tokens, or the line break that ends a label.",
                hint="Reword the label.",
            )
        seen[path] = label


def _check_prior(paths: Sequence[TokenPath], prior: Sequence[Sequence[float]]) -> None:
    if len(prior) != len(paths) or any(
        len(shares) - len(path) not in (0, 1) for shares, path in zip(prior, paths, strict=True)
    ):
        raise JobFileError("A closed set's prior does not match its labels token by token.")
