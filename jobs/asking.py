"""The driver's view of the model: staged, described by its card, fingerprinted, and what executors are told of it."""

import atexit
import math
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from schemas.canonical import digest, fingerprint
from schemas.card import ModelCard
from schemas.errors import JobFileError
from schemas.job import Engine, EnrichJob, ModelRef
from schemas.tasks import AnyTask
from udfs.ask import AskSpec, code_digest, inquiry_of, model_facts
from udfs.cards import card_of
from udfs.endpoint import CHARACTERS_PER_TOKEN, Capabilities, EndpointTokens, key_of, probe
from udfs.engine_command import ReplicaSpec
from udfs.logs import is_json
from udfs.models import StagedModel, stage
from udfs.questions import Inquiry, Setting
from udfs.tokens import load_tokens

CPU_SEQUENCES = 64
GPU_SEQUENCES = 512
ENDPOINT_IN_FLIGHT = 64
NOTEBOOK_WARM_MIN = 15.0
LEAST_WARM_SEC = 45.0  # a replica must outlive the commit between two waves
FEEDING_SLACK = 1.1
EXECUTOR_GPUS = "spark.executor.resource.gpu.amount"
TASK_GPUS = "spark.task.resource.gpu.amount"
# vLLM's arguments that decide how fast, in what memory and with what log answers come, but not which: all others
# are part of every fingerprint, so that one unknown here can at worst have questions asked again.
NO_ANSWERS_CHANGE = re.compile(
    r"(no-)?(max-num-(seqs|batched-tokens|partial-prefills)|max-long-partial-prefills|long-prefill-token-threshold"
    r"|enable-(chunked-prefill|prefix-caching)|prefix-caching-hash-algo|async-scheduling|stream-interval"
    r"|(gpu|device)-memory-utilization|kv-cache-memory-bytes|num-gpu-blocks-override|block-size|swap-space"
    r"|cpu-offload-gb|kv-offloading-(size|backend)|enforce-eager|(max-)?cudagraph-capture-sizes?"
    r"|(tensor|pipeline|data)-parallel-size|distributed-executor-backend|disable-custom-all-reduce"
    r"|max-parallel-loading-workers|download-dir|(disable|enable)-log-(stats|requests)|max-log-len"
    r"|(uvicorn-)?log-level|disable-uvicorn-access-log)"
)


@dataclass(frozen=True)
class Model:
    """A model that can be asked: staged weights, or an endpoint that was probed."""

    ref: ModelRef
    engine: Engine
    card: ModelCard
    staged: StagedModel | None = None
    capabilities: Capabilities | None = None

    @property
    def digest(self) -> str:
        """What pins the model's answers: of the weights, or of the endpoint's name for them."""
        # an address may hold a secret, and queries compare digests where Spark shows them
        return self.staged.digest if self.staged is not None else digest(self.ref.identity)

    @property
    def scores(self) -> bool:
        """Whether answers carry probabilities at all."""
        return self.capabilities is None or self.capabilities.logprobs

    def fingerprint(self, task: AnyTask) -> str:
        """Return the task's fingerprint with this model."""
        return fingerprint(task, model_facts(self.digest, self.card, self.capabilities, engine=self.engine_facts))

    @property
    def engine_facts(self) -> dict[str, Any]:
        """Return the engine's settings that change answers: what is cut, and all that the weights are run with."""
        facts: dict[str, Any] = {"max_model_len": self.engine.max_model_len}
        if self.staged is not None:
            passed = vllm_arguments(self.engine).items()
            facts["vllm"] = {name: value for name, value in passed if not NO_ANSWERS_CHANGE.fullmatch(name)}
        return facts

    def inquiry(self, task: AnyTask) -> Inquiry:
        """Return the task as it is asked, for counting tokens and showing prompts on the driver."""
        if self.staged is None:
            room = self.engine.max_model_len * CHARACTERS_PER_TOKEN
            card = self.card.model_copy(update={"prompt": "chat"})
            return inquiry_of(task, Setting(EndpointTokens(), card, room, is_endpoint=True))
        return inquiry_of(task, self.setting())

    def setting(self) -> Setting:
        """Return the tokens and card that prompts are made with."""
        if self.staged is None:
            raise ValueError("an endpoint has no tokens of its own")
        return Setting(load_tokens(str(self.staged.folder)), self.card, self.engine.max_model_len)


def ready_model(job: EnrichJob) -> Model:
    """Stage the job's model on this host, or probe its endpoint; no engine starts.

    Raises:
        EnvironmentProblem: the model is missing, unsafe or out of reach.
        JobFileError: `accept` is set and the endpoint returns no log-probabilities.
    """
    if job.model.endpoint is None:
        staged = stage(job.model)
        return Model(job.model, job.engine, card_of(job.model, staged.folder), staged=staged)
    capabilities = probe(job.model, key_of(job.model))
    if not capabilities.logprobs and any(job.accept_of(task) is not None for task in job.columns):
        raise JobFileError(
            f"{job.model.text} returns no log-probabilities, so there is no confidence that `accept` could test",
            hint="take `accept` out to write every answer with a null confidence, or choose another model",
        )
    return Model(job.model, job.engine, ModelCard(), capabilities=capabilities)


@dataclass(frozen=True)
class Cluster:
    """What of a Spark session matters for feeding engines."""

    spark: SparkSession
    engine: Engine

    @cached_property
    def has_gpu(self) -> bool:
        """Whether tasks get GPUs from Spark, or a GPU is visible on a local master's machine."""
        return self._setting(EXECUTOR_GPUS) > 0 or (self.is_local and shutil.which("nvidia-smi") is not None)

    @property
    def is_local(self) -> bool:
        """Whether driver and executor are one process."""
        master = self.spark.sparkContext.master or ""
        return master == "local" or master.startswith("local[")

    @property
    def executors(self) -> int:
        """How many executors there are, as Spark sees them now; a local master is its own."""
        if self.is_local:
            return 1
        context: Any = self.spark.sparkContext
        # the driver is one of those counted
        return max(1, int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1)

    @property
    def slots(self) -> int:
        """How many tasks run at once over all executors, as Spark sees them now: cores and GPUs both bound them."""
        by_cores = self.spark.sparkContext.defaultParallelism // int(self._setting("spark.task.cpus", 1))
        return max(1, by_cores if self._gpu_slots is None else min(by_cores, self.executors * self._gpu_slots))

    @property
    def slots_per_replica(self) -> int:
        """How many tasks feed one replica."""
        return max(1, self.slots // self.replicas)

    @property
    def replicas(self) -> int:
        """How many engines work at once: one an executor, or one for each GPU (or group of GPUs) that tasks get."""
        if self._gpu_slots is None:
            return self.executors
        each = self._setting(EXECUTOR_GPUS) // max(1.0, self._setting(TASK_GPUS))
        return min(self.slots, max(1, int(each)) * self.executors)

    @property
    def _gpu_slots(self) -> int | None:
        """How many tasks of one executor its GPUs allow; None where Spark hands out none."""
        gpus, share = self._setting(EXECUTOR_GPUS), self._setting(TASK_GPUS)
        if gpus <= 0 or share <= 0:
            return None
        # Spark lets tasks share one GPU, but gives none parts of two
        return max(1, int(gpus // share) if share >= 1 else int(gpus) * int(1 / share))

    def _setting(self, name: str, default: float = 0.0) -> float:
        # the context's own conf is copied, setting by setting, each time that it is asked for
        return float(self.spark.conf.get(name, None) or default)

    @property
    def max_num_seqs(self) -> int:
        """How many sequences an engine decodes at once."""
        return self.engine.max_num_seqs or (GPU_SEQUENCES if self.has_gpu else CPU_SEQUENCES)


def keep_warm_sec(engine: Engine, *, is_notebook: bool) -> float:
    """Return how long an idle replica stays: 15 minutes in a notebook, just over a commit elsewhere."""
    minutes = engine.keep_warm_min
    if minutes is None:
        minutes = NOTEBOOK_WARM_MIN if is_notebook else 0.0
    return max(LEAST_WARM_SEC, minutes * 60)


def is_notebook() -> bool:
    """Whether a person sits at an interactive prompt that outlives one call."""
    return "ipykernel" in sys.modules or "DATABRICKS_RUNTIME_VERSION" in os.environ


def spec_of(spark: SparkSession, job: EnrichJob, model: Model, *, run_id: str) -> AskSpec:
    """Return all that executors need to ask this job's questions; never a key.

    Args:
        job: with its labels resolved.
    """
    cluster = Cluster(spark, job.engine)
    fingerprints = tuple((task.name, model.fingerprint(task)) for task in job.columns)
    window = max(64, math.ceil(FEEDING_SLACK * cluster.max_num_seqs / cluster.slots_per_replica))
    return AskSpec(
        tasks=job.columns,
        fingerprints=fingerprints,
        card=model.card,
        model=job.model,
        digest=model.digest,
        replica=_replica(spark, job.engine, model, cluster) if model.staged is not None else None,
        window=window if model.staged is not None else ENDPOINT_IN_FLIGHT,
        run_id=run_id,
        model_name=job.model.text,
        log_json=is_json(),
        code=code_digest(),
        capabilities=model.capabilities,
        key_file=_distributed_key(spark, job.model),
        endpoint_max_model_len=job.engine.max_model_len,
    )


def vllm_arguments(engine: Engine) -> dict[str, str]:
    """Return `engine.vllm` in the one spelling of vLLM's command line; a flag's value is empty."""
    passed = {name.lstrip("-").replace("_", "-"): value for name, value in engine.vllm.items()}
    return {name: "" if value is True else str(value) for name, value in passed.items() if value is not False}


def _replica(spark: SparkSession, engine: Engine, model: Model, cluster: Cluster) -> ReplicaSpec:
    arguments = vllm_arguments(engine)
    if engine.gpu_memory_utilization is not None:
        arguments.setdefault("gpu-memory-utilization", str(engine.gpu_memory_utilization))
    return ReplicaSpec(
        app_id=spark.sparkContext.applicationId,
        model_dir=str(model.staged.folder) if model.staged is not None else "",
        model_digest=model.digest,
        engine_args=tuple(sorted(arguments.items())),
        python=engine.python or sys.executable,
        keep_warm_sec=keep_warm_sec(engine, is_notebook=is_notebook()),
        start_timeout_sec=engine.start_timeout_min * 60,
        max_num_seqs=cluster.max_num_seqs,
        max_model_len=engine.max_model_len,
        env=(("VLLM_CPU_KVCACHE_SPACE", str(max(1, math.ceil(engine.kv_cache_gib)))),),
    )


def _distributed_key(spark: SparkSession, model: ModelRef) -> str:
    """Hand the endpoint's key to executors as a file of Spark's file server: in no conf and no task binary."""
    if model.endpoint is None or model.key_env is None:
        return ""
    folder = Path(tempfile.mkdtemp(prefix="burnish-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="k", delete=False) as file:
        file.write(key_of(model))
    spark.sparkContext.addFile(file.name)
    return Path(file.name).name
