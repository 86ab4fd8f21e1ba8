"""Token ids with a 0/1 mask that says which of them are learned."""

from collections.abc import Iterable
from dataclasses import dataclass

from udfs.fitting import Ids


class Unteachable(ValueError):
    """A row from which nothing can be learned; `reason` is a stable word that statistics count."""

    def __init__(self, reason: str) -> None:
        """Keep the word; rows' own text is never part of it."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Masked:
    """One training example: 1 in `mask` where the loss looks at the token, that is where the model must say it."""

    ids: Ids
    mask: tuple[int, ...]

    @classmethod
    def of(cls, parts: Iterable[tuple[Ids, bool]]) -> "Masked":
        """Put parts together, each with whether it is learned."""
        ids: list[int] = []
        mask: list[int] = []
        for part, is_learned in parts:
            ids += part
            mask += [int(is_learned)] * len(part)
        return cls(tuple(ids), tuple(mask))

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(self.mask)

    @property
    def answers(self) -> int:
        """How many runs of learned tokens there are."""
        return sum(one > before for before, one in zip((0, *self.mask), self.mask, strict=False))

    def cut(self, longest: int) -> "Masked":
        """Keep the first tokens.

        Raises:
            Unteachable: none of them is learned.
        """
        short = self if len(self.ids) <= longest else Masked(self.ids[:longest], self.mask[:longest])
        if not short.learned:
            raise Unteachable("nothing_learned")
        return short
