"""The mean of two adapters' weights, one trained on from the other: `python tests/suite/mean.py A B OUT`.

A short stretch of training gives and takes; half of its way keeps most of both (model soups, Wortsman et al., 2022).
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "adapter_model.safetensors"


def mean(before: Path, after: Path, out: Path) -> None:
    """Write an adapter whose every weight lies halfway; its settings are the later one's."""
    first, second = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    halfway = {name: torch.lerp(first[name].float(), second[name].float(), 0.5) for name in first}
    shutil.copytree(after, out)
    kept = {name: weight.to(first[name].dtype) for name, weight in halfway.items()}
    save_file(kept, out / WEIGHTS, metadata={"format": "pt"})


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    mean(*map(Path, sys.argv[1:4]))
