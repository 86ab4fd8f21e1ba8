"""Fetch a model from the hub, at one pinned revision."""

import shutil
from pathlib import Path

from schemas.errors import EnvironmentProblem

_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt"]
# The same weights once more, in their maker's own layout.
_UNWANTED = ["consolidated*"]


def download(hub: str, revision: str, folder: Path) -> None:
    """Fetch weights, config and tokenizer of one pinned revision into `folder`, and nothing that could run.

    Raises:
        EnvironmentProblem: The hub is out of reach, knows no such revision, or does not let this user in.
    """
    try:
        import httpx
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise EnvironmentProblem(
            f"{hub} is fetched with huggingface_hub, which is not installed", hint="pip install 'burnish[demo]'"
        ) from error
    try:
        snapshot_download(hub, revision=revision, local_dir=folder, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
        # What the download keeps about itself is of no use once the folder is complete.
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    except GatedRepoError as error:
        raise EnvironmentProblem(
            f"{hub} is gated", hint="accept its licence on the hub and set HF_TOKEN where this runs"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise EnvironmentProblem(f"the hub has no {hub} at revision {revision}, or does not show it") from error
    except (OSError, httpx.HTTPError, ValueError) as error:
        raise EnvironmentProblem(
            f"{hub}@{revision[:12]} could not be fetched: {type(error).__name__}",
            hint="the hub is not reached from here; download the model elsewhere and give its folder: "
            "`model: {path: …}`",
        ) from error
