"""A mix file and the job files that it names, read and checked together before Spark starts."""

from dataclasses import dataclass
from pathlib import Path

from schemas.errors import JobFileError
from schemas.job import EnrichJob
from schemas.mix import JobRows, MixFile, ReviewedRows
from schemas.yaml_file import load_file, load_job


@dataclass(frozen=True)
class MixPlan:
    """What is declared of a mixture: the mix file, and by source the job files it names."""

    file: MixFile
    jobs: dict[str, EnrichJob]


def load_mix(path: Path) -> MixPlan:
    """Read and check a mix file and its job files.

    Raises:
        JobFileError: one cannot be read, anything in it is wrong, or `truth` does not fit its job's columns.
    """
    file = load_file(path, MixFile)
    jobs = {}
    for index, source in enumerate(file.sources):
        if isinstance(source, JobRows | ReviewedRows):
            jobs[source.name] = load_job(Path(source.job))
        if isinstance(source, JobRows):
            _check_truth(jobs[source.name], source, f"{path}: sources[{index}].truth")
    return MixPlan(file, jobs)


def _check_truth(job: EnrichJob, source: JobRows, where: str) -> None:
    written = {task.name: task for task in job.columns}
    unknown = sorted(set(source.truth) - set(written))
    if unknown:
        raise JobFileError(
            f"{where} names {', '.join(unknown)}; {source.job} writes {', '.join(written)}",
            hint="`truth` maps each output column of the job to the source's column that holds what is right",
        )
    for name, column in source.truth.items():
        if column in written[name].inputs:
            raise JobFileError(f"{where}.{name}: the question shows {column}, so that it cannot be the answer too")
