"""`burnish validate`: check a job file without Spark, an engine or the network."""

from pathlib import Path

from schemas.job import EnrichJob
from schemas.yaml_file import load_job


def validate(path: Path) -> EnrichJob:
    """Return the job a file declares.

    Raises:
        JobFileError: anything in it is wrong; names every problem with line and field path.
    """
    return load_job(path)
