"""Delta's JARs: which ones the installed packages need, and whether Spark's own resolver can get them."""

import fcntl
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.errors import EnvironmentProblem
from udfs.models import cache_folder

# Delta's poms name what every Spark brings in newer versions already: of 33 artefacts, 87 MB, these leave 8, 13 MB.
BROUGHT_BY_SPARK = (
    "com.fasterxml.jackson.core:*",
    "com.github.luben:*",
    "com.google.code.findbugs:*",
    "commons-logging:*",
    "commons-pool:*",
    "io.airlift:*",
    "javax.annotation:*",
    "org.antlr:*",
    "org.apache.hadoop:*",
    "org.apache.logging.log4j:*",
    "org.apache.parquet:*",
    "org.locationtech.jts:*",
    "org.roaringbitmap:*",
    "org.slf4j:*",
    "org.xerial.snappy:*",
)
# First and last Spark minor release that each Delta minor release has JARs for.
_PAIRS = {"4.0": ("4.0", "4.0"), "4.1": ("4.0", "4.1"), "4.2": ("4.0", "4.1"), "4.3": ("4.0", "4.1")}
_NEWEST_PAIR = ("4.0", "4.2")


def installed_pair() -> tuple[str, str]:
    """Return the installed versions of pyspark and delta-spark.

    Raises:
        EnvironmentProblem: One is missing, or they do not go together.
    """
    try:
        spark, delta = version("pyspark"), version("delta-spark")
    except PackageNotFoundError as error:
        raise EnvironmentProblem(f"{error.name} is not installed", hint="pip install 'burnish[spark]'") from error
    oldest, newest = _PAIRS.get(_minor(delta), _NEWEST_PAIR)
    if not _number(oldest) <= _number(_minor(spark)) <= _number(newest):
        raise EnvironmentProblem(
            f"delta-spark {delta} has no JARs for pyspark {spark} (Spark {oldest} to {newest})",
            hint="the tried pair is pyspark==4.2.0 with delta-spark==4.4.0",
        )
    return spark, delta


def delta_coordinate() -> str:
    """Return the Maven coordinate of Delta for the installed pyspark and delta-spark."""
    spark, delta = installed_pair()
    # The 4.0 line is published for Spark 4.0 alone, without Spark's version in the artefact's name.
    suffix = "" if _minor(delta) == "4.0" else f"_{_minor(spark)}"
    return f"io.delta:delta-spark{suffix}_2.13:{delta}"


def package_settings() -> dict[str, str]:
    """Return the Spark settings that make its resolver fetch Delta, and nothing that Spark brings."""
    return {"spark.jars.packages": delta_coordinate(), "spark.jars.excludes": ",".join(BROUGHT_BY_SPARK)}


def jars_at_hand() -> Path | None:
    """Return the main Delta JAR in Ivy's or Maven's local folder, None if the resolver would have to fetch it."""
    group, artefact, number = delta_coordinate().split(":")
    file = f"{artefact}-{number}.jar"
    # Java takes the home folder from the system's list of users, not from $HOME.
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    places = (
        home / ".ivy2.5.2" / "jars" / f"{group}_{file}",
        home / ".m2" / "repository" / group.replace(".", "/") / artefact / number / file,
    )
    return next((path for path in places if path.is_file()), None)


@contextmanager
def one_fetches() -> Iterator[None]:
    """Let one process of this host fetch missing JARs while others wait: resolvers spoil each other's downloads."""
    if jars_at_hand() is not None:
        yield
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "jars.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch_jars(log: Path, *, patience_s: float = 120) -> None:
    """Let Spark's own resolver fetch Delta's JARs into its cache; gives up after `patience_s` without a sign of life.

    Raises:
        EnvironmentProblem: The resolver failed or fell silent; says why, and where its log is.
    """
    settings = [part for key, value in package_settings().items() for part in ("--conf", f"{key}={value}")]
    with one_fetches(), tempfile.TemporaryDirectory() as folder, log.open("wb") as out:
        # The gateway that `pyspark-shell` starts after resolving ends by itself when its input is closed.
        env = {**os.environ, "_PYSPARK_DRIVER_CONN_INFO_PATH": str(Path(folder) / "gateway"), "SPARK_CONNECT_MODE": "0"}
        command = [str(_spark_submit()), *settings, "pyspark-shell"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        silent = _wait_while_it_writes(process, log, patience_s)
    if silent:
        raise EnvironmentProblem(
            f"Spark's resolver gave no sign for {patience_s:.0f} s (log: {log})", hint=OFFLINE_HINT
        )
    if process.returncode != 0:
        raise launch_problem(log)


OFFLINE_HINT = (
    "without Maven access set DEFAULT_ARTIFACT_REPOSITORY to a mirror, or copy the folder ~/.ivy2.5.2 from a machine "
    "that has it"
)


def launch_problem(log: Path) -> EnvironmentProblem:
    """Return why Spark's launch failed, read from its log."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    if any("unresolved dependenc" in line.lower() for line in lines):
        return EnvironmentProblem(
            f"Delta's JARs ({delta_coordinate()}) are not to be had from here (log: {log})", hint=OFFLINE_HINT
        )
    telling = [line for line in lines if "Error" in line or "Exception" in line or "java" in line]
    return EnvironmentProblem(
        f"Spark did not start: {telling[0][:200] if telling else 'no reason given'} (log: {log})",
        hint="`burnish doctor` checks Java and the rest of the machine",
    )


def _wait_while_it_writes(process: subprocess.Popen[bytes], log: Path, patience_s: float) -> bool:
    """Wait for the process to end; kill it and return True once the log has not grown for `patience_s`."""
    size, changed = -1, time.monotonic()
    while process.poll() is None:
        if (now_size := log.stat().st_size) != size:
            size, changed = now_size, time.monotonic()
        elif time.monotonic() - changed > patience_s:
            process.kill()
            process.wait()
            return True
        time.sleep(0.2)
    return False


def _spark_submit() -> Path:
    from pyspark.find_spark_home import _find_spark_home

    return Path(_find_spark_home()) / "bin" / "spark-submit"


def _minor(number: str) -> str:
    return ".".join(number.split(".")[:2])


def _number(minor: str) -> tuple[int, ...]:
    return tuple(int(part) for part in minor.split("."))
