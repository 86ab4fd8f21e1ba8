"""Every error burnish raises on purpose, and the stable codes of rows that got no answer."""

from typing import Final

from schemas.secrets import redacted


class BurnishError(Exception):
    """Base of all errors; `hint` says what to do, `exit_code` is the process's, `retryable` is for schedulers."""

    code = "error"
    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message apart from the hint, so that a log line can carry either; neither repeats a secret."""
        super().__init__(redacted(message))
        self.hint = redacted(hint)


class JobFileError(BurnishError):
    """The job file or the command line is wrong: nothing was read, nothing was paid."""

    code = "job_file"
    exit_code = 2


class EnvironmentProblem(BurnishError):
    """Java, Spark, Delta, the model, the engine or the disk is not as needed; the tables are untouched."""

    code = "environment"
    exit_code = 3
    retryable = True


class DataContractError(BurnishError):
    """The table breaks what the job relies on: keys null or repeated, a column missing, a name that collides."""

    code = "data_contract"
    exit_code = 4


class ConflictError(BurnishError):
    """Another writer was faster; what was answered is kept, and the same command continues."""

    code = "conflict"
    exit_code = 5
    retryable = True


class Interrupted(BurnishError):
    """Ctrl-C (130) or SIGTERM (143): nothing half was published, the next run continues."""

    code = "interrupted"
    exit_code = 130
    retryable = True


# Why a row has no answer. Retryable ones are asked again by the next run, three times at most;
# the others only when their input changes or under --retry-failed.
# Decoding is greedy: an answer that was cut or malformed once would be so again.
RETRYABLE_ROW_CODES: Final = frozenset({"timeout", "engine_unavailable"})
PERMANENT_ROW_CODES: Final = frozenset(
    {"echo", "engine_fatal", "invalid_input", "invalid_output", "over_long", "refused_request", "truncated"}
)
ROW_CODES: Final = RETRYABLE_ROW_CODES | PERMANENT_ROW_CODES
MAX_ATTEMPTS: Final = 3
