"""Why an engine did not start, read from its log and told in one sentence."""

import re
from pathlib import Path
from typing import Final

from schemas.errors import EnvironmentProblem

# What the log says, what it means, what to do. The first that matches, in this order, is told.
CAUSES: Final = (
    (
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \([^=]*=(\d+)",
        "the context of {0} tokens is longer than the model's {1}",
        "Lower engine.max_model_len.",
    ),
    (
        r"max seq len \((\d+)\), \(?([\d.]+ GiB) KV cache is needed.*?available KV cache memory \(([\d.]+ GiB)\)",
        "a context of {0} tokens needs {1} of cache and {2} is free",
        "Lower engine.max_model_len, or give the engine more memory.",
    ),
    (
        r"[Ff]ree memory on device[^(]*\(([\d.]+/[\d.]+) GiB\)"
        r".*?desired GPU memory utilization \(([\d.]+), ([\d.]+) GiB\)",
        "out of memory: {2} GiB asked, {0} GiB free",
        "End what else uses the device, or lower gpu-memory-utilization.",
    ),
    (
        r"(CUDA out of memory[^\n]{0,120}|No available memory for the cache blocks|Cannot allocate memory|MemoryError"
        r"|not enough memory[^\n]{0,120})",
        "out of memory ({0})",
        "Choose a smaller model, or lower engine.max_model_len and engine.max_num_seqs.",
    ),
    (
        r"Model architectures (\[[^\]]*\]) (?:are not supported|failed to be inspected)",
        "this vLLM does not support the architecture {0}",
        "Choose another model or a newer vLLM.",
    ),
    (
        r"model type `?'?(\w+)`?'? but Transformers does not recognize",
        "this vLLM does not know the model type {0}",
        "Choose another model or a newer vLLM.",
    ),
    (
        r"(?:Cannot find any model weights|does not appear to have a file named|is not a local folder"
        r"|Invalid repository ID or local directory)",
        "the model's folder lacks its weights or its config",
        "Stage the model again, or check model.path.",
    ),
    (
        r"error: (unrecognized arguments: [^\n]*|argument --[^\n]*)",
        "vLLM refuses the arguments ({0})",
        "Check engine.vllm.",
    ),
)


# what runtimes say when a device or the machine has no memory left; the last that an engine says
OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|OutOfMemoryError|Cannot allocate memory|not enough memory", re.IGNORECASE
)
LAST_WORDS: Final = 20_000  # characters of the log


def ran_out_of_memory(log: Path) -> bool:
    """Whether the last that an engine said is that it had no memory left."""
    text = log.read_text(errors="replace")[-LAST_WORDS:] if log.exists() else ""
    return OUT_OF_MEMORY.search(text) is not None


def explain(log: Path, *, exit_code: int | None, waited_sec: float) -> EnvironmentProblem:
    """One sentence on why the engine did not start, from its log."""
    text = log.read_text(errors="replace")[-200_000:] if log.exists() else ""
    for pattern, meaning, hint in CAUSES:
        if match := re.search(pattern, text, re.DOTALL):
            return _problem(meaning.format(*match.groups()), log, hint)
    if exit_code is None:
        return _problem(f"it was not ready after {waited_sec:.0f} s", log, "Raise engine.start_timeout_min.")
    if exit_code == -9:
        return _problem("it was killed, most likely for its memory", log, "Choose a smaller model or a larger machine.")
    if exit_code == -4:
        return _problem("the processor lacks an instruction that it uses", log, "Keep dtype float32 on this machine.")
    errors = re.findall(r"\b(\w+(?:Error|Exception): [^\n]{1,200})", text)
    cause = errors[-1] if errors else f"it ended with code {exit_code}"
    return _problem(cause, log, "The log says more.")


def _problem(cause: str, log: Path, hint: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"The engine did not start: {cause.rstrip('.')}. Its log is {log}.", hint=hint)
