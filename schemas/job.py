"""The job file: one `EnrichJob`, frozen and printable, that imports neither Spark nor an engine."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from schemas.accept import Accept, Promise
from schemas.fields import ColumnName, Columns, Confidence, Declared, Whole, WrongField
from schemas.gate import Gate
from schemas.guards import Guards
from schemas.review import Review
from schemas.scores import OF_MASS
from schemas.secrets import redacted
from schemas.tasks import TASK_NAMES, AnyTask, has_labels

PART = r"[A-Za-z_][A-Za-z0-9_\-]*"
TABLE_NAME = re.compile(rf"^{PART}(\.{PART}){{0,2}}$")
REVISION = re.compile(r"^[0-9a-f]{40}$")
# vLLM's arguments that decide where the engine listens, what it loads and how it reads
OURS = (
    *("model", "uds", "host", "port", "trust_remote_code", "load_format", "logits_processors", "logprobs_mode"),
    *("served_model_name", "enable_log_requests"),
)
LOADING = (
    *("config", "code_revision", "tokenizer", "tokenizer_revision", "hf_config_path", "model_loader_extra_config"),
    *("worker_cls", "worker_extension_cls", "scheduler_cls", "middleware", "kv_transfer_config", "ec_transfer_config"),
    *("io_processor_plugin", "reasoning_parser_plugin", "tool_parser_plugin", "allowed_local_media_path"),
)
# the second is the first as it was published, without what burnish trained
EMBEDDED_MODELS = ("smollm2", "smollm2-untuned")


def _check_one_place(table: str | None, path: str | None) -> None:
    if (table is None) == (path is None):
        raise ValueError("give either `table` (a name of one to three parts) or `path` (a Delta folder), not both")
    if table is not None and not TABLE_NAME.match(table):
        raise WrongField(f"takes a name of one to three parts, got {table!r}; a folder goes under `path`", "table")


class Place(Declared):
    """A Delta table, by name or by path."""

    table: str | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "Place":
        _check_one_place(self.table, self.path)
        return self

    @property
    def text(self) -> str:
        """The name or path, as messages show it."""
        return self.table or self.path or ""

    def same_as(self, other: "Place") -> bool:
        """Whether both are written as one table; what only a catalog knows to be one is found when the job starts."""
        names = [place.table.casefold() if place.table else (place.path or "").rstrip("/") for place in (self, other)]
        return (self.table is None) == (other.table is None) and names[0] == names[1]


class Source(Place):
    """Where rows come from: one pinned version, optionally narrowed."""

    where: str | None = None
    version: int | None = Field(default=None, ge=0)
    timestamp: str | None = None
    time: ColumnName | None = None

    @model_validator(mode="after")
    def _one_version(self) -> "Source":
        if self.version is not None and self.timestamp is not None:
            raise WrongField("give `version` or `timestamp`, not both", "timestamp")
        return self


def as_model(value: Any) -> Any:
    """Accept `model: smollm2` for `model: {name: smollm2}`, and `{base: …, adapter: …}` with either way inside."""
    if isinstance(value, dict) and "base" in value:
        base = as_model(value["base"])
        others = {name: one for name, one in value.items() if name != "base"}
        return {**base, **others} if isinstance(base, dict) else value
    return {"name": value} if isinstance(value, str) else value


class ModelRef(Declared):
    """One model, named in exactly one of four ways.

    Attributes:
        adapter: a folder with a LoRA adapter, which is added to the model's weights.
    """

    name: str | None = None
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    adapter: str | None = None
    endpoint: str | None = None
    model: str | None = None
    key_env: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "ModelRef":
        ways = [way for way in ("name", "path", "hub", "endpoint") if getattr(self, way) is not None]
        if len(ways) != 1:
            got = ", ".join(ways) or "none of them"
            raise ValueError(
                "a model is named by one of smollm2, {path: …}, {hub: …, revision: …}, {endpoint: …, model: …}; "
                f"got {got}"
            )
        if self.name is not None and self.name not in EMBEDDED_MODELS:
            allowed = ", ".join(EMBEDDED_MODELS)
            raise ValueError(f"{self.name!r} is no embedded model (known: {allowed}); a folder is {{path: …}}")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("`hub` and `revision` go together")
        if self.revision is not None and not REVISION.match(self.revision):
            raise WrongField("takes the full 40 hexadecimal digits of a commit, so that answers are pinned", "revision")
        if (self.endpoint is None) != (self.model is None) or (self.key_env and self.endpoint is None):
            raise ValueError("`model` and `key_env` belong to `endpoint`, and `endpoint` needs `model`")
        if self.adapter is not None and self.endpoint is not None:
            raise WrongField("an endpoint serves what it serves; adapters go with models that burnish loads", "adapter")
        return self

    @property
    def text(self) -> str:
        """The model as messages and provenance show it; never a key."""
        return redacted(self.identity)

    @property
    def identity(self) -> str:
        """The model as it is declared, for telling it from others; an address may hold a secret."""
        if self.endpoint:
            return f"{self.model} at {self.endpoint}"
        base = f"{self.hub}@{self.revision}" if self.hub else self.name or self.path or ""
        return f"{base} with {self.adapter}" if self.adapter else base


class Engine(Declared):
    """The few engine settings worth a name; `vllm` passes the rest through under vLLM's own names."""

    max_model_len: int = Field(default=2048, ge=64)
    max_num_seqs: int | None = Field(default=None, ge=1)
    gpu_memory_utilization: Confidence | None = None
    kv_cache_gib: float = Field(default=1.0, gt=0)
    keep_warm_min: float | None = Field(default=None, ge=0)
    start_timeout_min: float = Field(default=15, gt=0)
    gpu_hour_price: float | None = Field(default=None, ge=0)
    python: str | None = None
    vllm: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @field_validator("vllm")
    @classmethod
    def _ours_stay_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        names = {key.lstrip("-").replace("-", "_").partition(".")[0].removeprefix("no_"): key for key in value}
        # vLLM takes any beginning of a name for the name
        taken = sorted(key for name, key in names.items() if any(one.startswith(name) for one in OURS))
        if taken:
            raise ValueError(f"burnish sets {', '.join(taken)} itself; take it out of `engine.vllm`")
        if loading := sorted(key for name, key in names.items() if any(one.startswith(name) for one in LOADING)):
            raise ValueError(
                f"{', '.join(loading)} would have the engine load code, a tokenizer or settings that burnish has not "
                "checked; take it out of `engine.vllm`"
            )
        return value


class Limits(Declared):
    """Where a run stops by itself."""

    max_rows: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    max_failed_share: Confidence = 0.05
    max_reask_share: Confidence = 0.1


class EnrichJob(Whole):
    """What a user declares: where from, where to, with what, which columns, how sure."""

    called: ClassVar[str] = "job file"
    hint: ClassVar[str] = "`burnish schema` prints all that a job file may hold"
    listed: ClassVar[str] = "columns"
    tag: ClassVar[str] = "task"
    tags: ClassVar[tuple[str, ...]] = TASK_NAMES

    source: Source
    key: Columns
    target: Place | None = None
    store: str | None = None
    model: Annotated[ModelRef, BeforeValidator(as_model, json_schema_input_type=str | ModelRef)]
    engine: Engine = Engine()
    accept: Accept | None = None
    guards: Guards = ()
    review: Review = Review()
    on_source_delete: Literal["keep", "delete"] = "keep"
    limits: Limits = Limits()
    gate: Gate | None = None
    columns: Annotated[tuple[AnyTask, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)] = Field(
        min_length=1
    )

    @model_validator(mode="after")
    def _names(self) -> "EnrichJob":
        self._check_written()
        for index, task in enumerate(self.columns):
            if task.in_place and not self.is_in_place:
                message = f"{task.task} corrects column {task.name} where it stands: `target` must be the source"
                raise WrongField(message, "columns", index)
            if task.in_place and self.accept_of(task) is None:
                raise WrongField(
                    f"column {task.name} is overwritten in place and has no `accept`: give the least confidence, "
                    "or write `accept: 0` to accept every answer",
                    "columns",
                    index,
                )
            if self.model.endpoint is not None and task.chosen_score in OF_MASS:
                message = f"an endpoint shows no share of its whole vocabulary, which {task.score!r} needs"
                raise WrongField(message, "columns", index, "score")
            accept = self.accept_of(task)
            if isinstance(accept, Promise) and accept.per_label and not has_labels(task):
                message = f"`per_label` needs labels to keep it by, and {task.task} column {task.name} has none"
                raise WrongField(message, "columns", index)
        if self.review.top_up and not any(isinstance(self.accept_of(task), Promise) for task in self.columns):
            message = "draws rows for a promise, and none is made: `accept: {precision: …}` makes one"
            raise WrongField(message, "review", "top_up")
        return self

    def _check_written(self) -> None:
        """Refuse a name that two columns, or a column and the key, would share; Delta does not see case."""
        folded = [name.casefold() for name in self.key]
        if twins := sorted({name for name in self.key if folded.count(name.casefold()) > 1}):
            raise WrongField(f"names a column twice ({', '.join(twins)}); upper and lower case are one", "key")
        taken = {name.casefold(): f"`key` holds {name}, which" for name in self.key}
        for index, task in enumerate(self.columns):
            for name in task.written:
                owner = taken.setdefault(name.casefold(), f"columns[{index}] writes {name}, which")
                if owner != f"columns[{index}] writes {name}, which":
                    raise WrongField(f"{owner} this column would write too; rename it", "columns", index, "name")

    @property
    def is_in_place(self) -> bool:
        """Whether source and target are the same table."""
        if self.target is None:
            return True
        return self.target.same_as(self.source)

    @property
    def target_place(self) -> Place:
        """The table written."""
        return self.target or Place(table=self.source.table, path=self.source.path)

    def accept_of(self, task: AnyTask) -> float | Promise | None:
        """Return what a column's answers need: its own declaration, else the job's."""
        return task.accept if task.accept is not None else self.accept

    def guards_of(self, task: AnyTask) -> Guards:
        """Return a column's prompt guards: its own declaration, else those of the job's that go with its task."""
        if task.guards is not None:
            return task.guards
        return tuple(guard for guard in self.guards if task.takes_guard(guard))

    def task(self, name: str) -> AnyTask:
        """Return the task that writes `name`; KeyError if there is none."""
        return {task.name: task for task in self.columns}[name]
