"""The Spark session: the one that is there, as it is, or a local one with Delta."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.jars import launch_problem, one_fetches, package_settings
from schemas.errors import EnvironmentProblem
from udfs.models import cache_folder

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

_KEPT_LOGS = 20
_GIB = 1024**3
# over a few rows, compiling a plan takes several times as long as interpreting it, and a task as long as its work
SMALL_TABLES = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.databricks.delta.snapshotPartitions": "1",
}


def active_session() -> "SparkSession | None":
    """Return the session that is there already, None where there is none or no Spark."""
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        return None
    return SparkSession.getActiveSession()


def spark_session(
    app_name: str, *, cores: int | None = None, folder: Path | None = None, is_small: bool = False
) -> "SparkSession":
    """Return the session that is there, never changed; else a local one with Delta on `cores` cores (default: all).

    Args:
        folder: where a local session keeps the files of tables that have a name but no path.
        is_small: whether a local session is for tables of a few hundred rows.

    Raises:
        EnvironmentProblem: pyspark or delta-spark is missing, Java does not start, Delta's JARs are not to be had.
    """
    if (session := active_session()) is not None:
        return session
    if _is_submitted():
        from pyspark.sql import SparkSession

        return SparkSession.builder.appName(app_name).getOrCreate()
    settings = local_settings(cores=cores, folder=folder)
    return _local_session(app_name, settings | SMALL_TABLES if is_small else settings)


def _is_submitted() -> bool:
    """Tell whether a platform or spark-submit has decided the settings, so that none may be added here."""
    return "PYSPARK_GATEWAY_PORT" in os.environ or "DATABRICKS_RUNTIME_VERSION" in os.environ


def _local_session(app_name: str, settings: dict[str, str]) -> "SparkSession":
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    # pyspark takes the workers' interpreter from here alone; another one would lack our packages.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    conf = SparkConf().setAppName(app_name).setAll(list(settings.items()))
    if SparkContext._gateway is None:
        _launch(conf)
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def _launch(conf: "SparkConf") -> None:
    """Start the JVM with its output (the resolver's chatter, warnings) in a log: it would break into ours."""
    from pyspark import SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway

    launch: Callable[..., Any] = launch_gateway
    log = new_log("spark")
    try:
        with one_fetches(), log.open("ab") as out:
            gateway = launch(conf, popen_kwargs={"stdout": out, "stderr": out})
    except PySparkRuntimeError as error:
        raise launch_problem(log) from error
    except OSError as error:
        raise EnvironmentProblem(f"Spark could not be launched: {error.strerror}") from error
    SparkContext._ensure_initialized(gateway=gateway, conf=conf)


def local_settings(*, cores: int | None = None, folder: Path | None = None) -> dict[str, str]:
    """Return the settings of a local session."""
    threads = cores or os.cpu_count() or 1
    warehouse = {"spark.sql.warehouse.dir": str((folder / "warehouse").resolve())} if folder else {}
    return {
        "spark.master": f"local[{threads}]",
        **package_settings(),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Delta's default of 50 makes every small operation on a log take seconds.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.shuffle.partitions": str(max(8, 4 * threads)),
        "spark.driver.memory": f"{driver_memory_gib()}g",
        # Neither a host name that does not resolve nor an open port on the network.
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        # the text of each plan would be written for that page, most of it twice
        "spark.sql.ui.explainMode": "simple",
        # the line of our code that made a column would be looked up for each of thousands
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        **warehouse,
    }


def driver_memory_gib() -> int:
    """Return the heap of a local session in GiB: a quarter of the memory, from 1 to 8; the engine needs the rest."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(8, max(1, total // _GIB // 4))


def new_log(kind: str) -> Path:
    """Return the path for a new log in the cache folder, and remove all but the newest ones.

    Raises:
        EnvironmentProblem: The cache folder cannot be written.
    """
    folder = cache_folder() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob(f"{kind}-*.log"))[:-_KEPT_LOGS]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be written: {error.strerror}", hint="set BURNISH_CACHE to a folder that can"
        ) from error
    return folder / f"{kind}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
