"""`burnish doctor`: everything a run needs, looked at before anything long starts."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from jobs.jars import delta_coordinate, fetch_jars, installed_pair, jars_at_hand
from jobs.machine import (
    Check,
    check_disks,
    check_engine,
    check_java,
    check_memory,
    check_python,
    failed,
    gpus,
    memory_bytes,
)
from jobs.session import new_log
from schemas.errors import EnvironmentProblem
from schemas.job import Engine, EnrichJob, ModelRef

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DEDICATED = frozenset({"", "NONE", "SINGLE_USER", "DEDICATED"})
_EMBEDDED_GIB = 1.5
_USUAL_SEQUENCES = 64


def check(
    spark: "SparkSession | None", *, job: EnrichJob | None = None, orphans: Literal["skip", "list", "end"] = "list"
) -> list[Check]:
    """Look at all that a run of `job` needs; with a session neither Java nor Maven is asked for.

    Args:
        orphans: what becomes of this user's replicas whose run is dead, wherever the session's tasks run.
    """
    checks = [check_python(), check_packages()]
    if spark is None:
        checks += [*_check_local_spark()]
    else:
        checks += [*_check_session(spark)]
        if not all(one.ok for one in checks):
            return checks
    if spark is None or _is_local(spark):
        checks += [*_check_engine_here(job)]
    return checks if orphans == "skip" else [*checks, check_leftovers(spark, end=orphans == "end")]


def check_leftovers(spark: "SparkSession | None" = None, *, end: bool = False) -> Check:
    """List replicas of this user whose run is dead, or end them; none of another user's is ever looked at."""
    from jobs.replicas import end_orphans, list_replicas

    try:
        if end:
            gone = end_orphans(spark)
            named = ", ".join(f"{one['pid']} on {one['host']}" for one in gone)
            return Check("leftovers", True, f"ended: processes {named}" if gone else "none")
        left = [one for one in list_replicas(spark) if one["is_orphan"]]
    except EnvironmentProblem as problem:
        return failed("leftovers", problem)
    if not left:
        return Check("leftovers", True, "none")
    named = "; ".join(f"{', '.join(map(str, one['processes']))} on {one['host']} ({one['folder']})" for one in left)
    advice = "the next start ends them, and so does `burnish doctor --end-orphans`"
    return Check("leftovers", True, f"processes that outlived their run: {named}; {advice}")


def report(checks: list[Check], *, console: Console | None = None) -> bool:
    """Print the checks as a table with what to do about the failed ones; returns whether all are fine."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in checks:
        table.add_row("[green]ok[/]" if one.ok else "[red]FAIL[/]", one.name, _plain(one.detail))
        if not one.ok and one.hint:
            table.add_row("", "", f"[yellow]{_plain(one.hint)}[/]")
    (console or Console()).print(table)
    return all(one.ok for one in checks)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def check_packages() -> Check:
    """Look whether `jobs`, `udfs` and `schemas` come from one folder: another one of these names would hide ours."""
    home = Path(__file__).resolve().parents[1]
    strangers = [place for name in ("udfs", "schemas") if (place := _place_of(name)) != home / name]
    if strangers:
        shown = ", ".join(str(place) for place in strangers)
        return Check(
            "packages",
            False,
            f"{shown} hides burnish's own package of that name in {home}",
            "set PYTHONSAFEPATH=1, start elsewhere, or rename that folder",
        )
    return Check("packages", True, str(home))


def _place_of(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    roots = list(spec.submodule_search_locations or []) if spec else []
    return Path(roots[0]).resolve() if roots else None


def _check_local_spark() -> Iterator[Check]:
    try:
        spark, delta = installed_pair()
    except EnvironmentProblem as problem:
        yield failed("spark", problem)
        return
    yield Check("spark", True, f"pyspark {spark} with delta-spark {delta}")
    java = check_java()
    yield java
    if java.ok:
        yield _check_jars()


def _check_jars() -> Check:
    if (jar := jars_at_hand()) is not None:
        return Check("delta jars", True, f"at hand in {jar.parent}")
    try:
        fetch_jars(new_log("resolver"))
    except EnvironmentProblem as problem:
        return failed("delta jars", problem)
    return Check("delta jars", True, f"{delta_coordinate()} fetched by Spark's resolver")


def _check_session(spark: "SparkSession") -> Iterator[Check]:
    hint = "burnish starts processes and sockets on executors: use a cluster with dedicated (single-user) access"
    # Over Spark Connect (serverless always is) the session class is another one, without a JVM to talk to.
    if ".connect." in type(spark).__module__:
        yield Check("session", False, "Spark Connect or serverless", hint)
        return
    mode = _setting(spark, "spark.databricks.clusterUsageTags.dataSecurityMode")
    if mode.removeprefix("DATA_SECURITY_MODE_") not in _DEDICATED:
        yield Check("session", False, f"a cluster with shared access ({mode})", hint)
        return
    yield Check("session", True, f"Spark {spark.version} at {spark.sparkContext.master}, used as it is")
    settings = _setting(spark, "spark.sql.extensions") + _setting(spark, "spark.sql.catalog.spark_catalog")
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ and "delta" not in settings.lower():
        wanted = "spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension"
        yield Check(
            "delta", False, "this session was made without Delta", f"start it with {wanted} and Delta's catalog"
        )
    else:
        yield Check("delta", True, "known to this session")


def _setting(spark: "SparkSession", key: str) -> str:
    return spark.conf.get(key, "") or ""


def _is_local(spark: Any) -> bool:
    return str(spark.sparkContext.master).startswith("local")


def _check_engine_here(job: EnrichJob | None) -> Iterator[Check]:
    from udfs.models import cache_folder

    model = job.model if job is not None else ModelRef(name="smollm2")
    engine = job.engine if job is not None else Engine()
    yield from check_disks(cache_folder(), cache_needs_gib=_EMBEDDED_GIB)
    yield check_memory()
    if model.endpoint is not None:
        yield _check_key(model)
        return
    seen = gpus()
    built = check_engine(engine.python or sys.executable, seen=seen)
    yield built
    yield from _check_model(model, engine, on_gpu=built.ok and built.detail.startswith("vllm in"))


def _check_key(model: ModelRef) -> Check:
    ok = model.key_env is None or bool(os.environ.get(model.key_env))
    hint = "" if ok else f"export {model.key_env} where burnish is started"
    return Check("endpoint", ok, model.text if ok else f"{model.key_env} is not set", hint)


def _check_model(model: ModelRef, engine: Engine, *, on_gpu: bool) -> Iterator[Check]:
    from udfs.fit import fits
    from udfs.models import staged_folder

    try:
        folder = staged_folder(model)
    except EnvironmentProblem as problem:
        yield failed("model", problem)
        return
    if folder is None:
        yield Check("model", True, f"{model.text}: will be staged on first use")
        return
    yield Check("model", True, f"{model.text} in {folder}")
    share = engine.gpu_memory_utilization or 0.9
    fit = fits(
        folder,
        memory_bytes=int(min(gpu.memory_bytes for gpu in gpus()) * share) if on_gpu else memory_bytes(),
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs or _USUAL_SEQUENCES,
        dtype=str(engine.vllm.get("dtype", "auto" if on_gpu else "float32")),
        tensor_parallel_size=_devices(engine),
    )
    hint = "" if fit.ok else "take a smaller model, a lower engine.max_model_len, or a machine with more memory"
    yield Check("fit", fit.ok, fit.sentence, hint)


def _devices(engine: Engine) -> int:
    named = {name.lstrip("-").replace("-", "_"): value for name, value in engine.vllm.items()}
    return int(named.get("tensor_parallel_size", 1))
