"""One stage of training in a process of TorchDistributor: TRL's trainer over packed examples, resumable at a step.

Loss is taken on learned tokens alone, and the model's head computes no other: of the tokens of a labelling mixture
nine in ten are prompts, and the head is a quarter of a small model.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from peft import LoraConfig, PeftModel
from peft.helpers import disable_input_dtype_casting
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from schemas.train import Lora, Stage
from udfs.examples import Stream
from udfs.packs import IGNORED, Row, packed

MARK = "burnish "  # before a line of progress on stdout
COMPLETE = "complete"  # the file that says that a checkpoint was written to its end
LARGE = 1_000_000_000  # parameters from which activations are computed twice instead of kept
HALF_PRECISION = ("avx512_bf16", "amx_bf16", "bf16")


@dataclass(frozen=True)
class StagePlan:
    """All that a training process needs to know of one stage."""

    folder: str
    model: str
    stage: Stage
    stream: Stream
    seed: int
    precision: str
    checkpoint_every: int
    lora: Lora | None = None
    # what the stage before left
    begin_from: str | None = None

    @property
    def final(self) -> Path:
        """Where the stage's adapter or model stands once it is done."""
        return Path(self.folder) / "final"


def train_stage(plan: StagePlan) -> None:
    """Train one stage to its end, from its last complete checkpoint if there is one."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    resumed = last_checkpoint(Path(plan.folder))
    steps_done = int(resumed.name.split("-")[1]) if resumed else 0
    trainer = _trainer(plan, steps_done)
    _pick_learned(trainer)
    # autocast brings inputs to the adapters' precision by itself; PEFT's own casts would double the memory moved
    with disable_input_dtype_casting(trainer.model, active=plan.lora is not None and _is_half(plan)):
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    _save_final(trainer, plan)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a stage that was written to its end."""
    found = [path for path in folder.glob("checkpoint-*") if (path / COMPLETE).is_file()]
    return max(found, key=lambda path: int(path.name.split("-")[1]), default=None)


def has_half_precision() -> bool:
    """Whether this machine computes in bfloat16 itself; where it does not, it would die of an illegal instruction."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in told.splitlines() if line.startswith(("flags", "Features"))), "")
    return any(flag in flags.split() for flag in HALF_PRECISION)


class AnswerTrainer(SFTTrainer):  # type: ignore[misc] # TRL's types are not followed
    """TRL's trainer with the head and the loss on learned tokens only."""

    picked: torch.Tensor

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Cross entropy over learned tokens, divided by how many the whole step has."""
        labels = inputs.pop("labels")[:, 1:]
        self.picked = labels != IGNORED
        logits = model(**inputs, use_cache=False).logits.float()
        targets = labels[self.picked]
        total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        loss = total / (len(targets) if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        right = (logits.detach().argmax(-1) == targets).float().mean()
        self._metrics["train"]["accuracy"].append(right.item())
        return (loss, {"logits": logits}) if return_outputs else loss


def _pick_learned(trainer: AnswerTrainer) -> None:
    """Have the head see the learned tokens alone, as one sequence."""

    def pick(head: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (args[0][:, :-1][trainer.picked],)

    trainer.accelerator.unwrap_model(trainer.model).get_output_embeddings().register_forward_pre_hook(pick)


class Collator:
    """Packs one batch into tensors, and counts tokens."""

    def __init__(self, longest: int) -> None:
        """Start with a count of none."""
        self.longest, self.tokens = longest, 0

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Take the one batch that a feature is."""
        (feature,) = features
        found = packed([Row(ids, mask) for ids, mask in feature["rows"]], self.longest)
        self.tokens += found.tokens
        return {
            "input_ids": torch.from_numpy(found.ids),
            "position_ids": torch.from_numpy(found.positions),
            "attention_mask": torch.from_numpy(found.sees()),
            "labels": torch.from_numpy(found.labels),
        }


class Log(TrainerCallback):  # type: ignore[misc] # transformers' types are not followed
    """Writes a line per step to the stage's log and to stdout, and marks checkpoints that are whole."""

    def __init__(self, plan: StagePlan, collator: Collator) -> None:
        """Count time and tokens from now."""
        self.file, self.collator = Path(plan.folder) / "log.jsonl", collator
        self.began, self.seen, self.computed = 0.0, 0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Start the clock."""
        self.began, self.seen = time.monotonic(), self.collator.tokens

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **more: Any) -> None:
        """Say how a step went; the summary at the end is no step."""
        if not state.is_world_process_zero or "loss" not in logs:
            return
        seconds = time.monotonic() - self.began
        tokens = (self.collator.tokens - self.seen) * args.world_size
        self.seen = self.collator.tokens
        self.computed += tokens
        line = json.dumps(
            {
                "step": state.global_step,
                "steps": state.max_steps,
                "loss": float(logs["loss"]),
                "accuracy": float(logs.get("accuracy", 0.0)),
                "learning_rate": float(logs.get("learning_rate", 0.0)),
                "tokens": tokens,
                "tokens_per_sec": self.computed / max(seconds, 1e-9),
            }
        )
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(f"{MARK}{line}", flush=True)  # noqa: T201 - how TorchDistributor hands lines to the driver

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Mark the checkpoint: one without the mark was cut short by a kill."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _trainer(plan: StagePlan, steps_done: int) -> AnswerTrainer:
    # weights that stay as they are may as well stand in the precision that they are computed in
    dtype = torch.bfloat16 if plan.lora is not None and _is_half(plan) else torch.float32
    model = AutoModelForCausalLM.from_pretrained(plan.model, dtype=dtype, attn_implementation="sdpa")
    is_large = model.num_parameters() >= LARGE
    peft = None
    if plan.begin_from is not None and plan.lora is not None:
        model = PeftModel.from_pretrained(model, plan.begin_from, is_trainable=True)
    elif plan.lora is not None:
        peft = LoraConfig(
            r=plan.lora.rank,
            lora_alpha=plan.lora.alpha,
            lora_dropout=plan.lora.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    stage, collator = plan.stage, Collator(plan.stage.longest)
    each = stage.batch * stage.accumulation * int(os.environ.get("WORLD_SIZE", "1"))
    rows = {"stream": plan.stream, "batch": stage.batch, "start": steps_done * each}
    return AnswerTrainer(
        model=model,
        args=_arguments(plan, is_large=is_large),
        train_dataset=IterableDataset.from_generator(_features, gen_kwargs=rows),
        data_collator=collator,
        processing_class=AutoTokenizer.from_pretrained(plan.model),
        peft_config=peft,
        callbacks=[Log(plan, collator)],
    )


def _features(stream: Stream, batch: int, start: int) -> Iterator[dict[str, Any]]:
    for rows in stream.batches(batch, start=start):
        yield {"rows": [(row.ids, row.mask) for row in rows]}


def _arguments(plan: StagePlan, *, is_large: bool) -> SFTConfig:
    stage = plan.stage
    on_gpu = torch.cuda.is_available()
    schedule, more = _schedule(stage)
    return SFTConfig(
        output_dir=plan.folder,
        max_steps=stage.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=stage.accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=more,
        warmup_steps=round(stage.warmup * stage.steps),
        weight_decay=0.0,
        bf16=_is_half(plan),
        use_cpu=not on_gpu,
        ddp_backend=None if on_gpu else "gloo",
        gradient_checkpointing=is_large,
        save_strategy="steps",
        save_steps=plan.checkpoint_every,
        save_total_limit=2,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        seed=plan.seed,
        data_seed=plan.seed,
        # the stream itself begins where the checkpoint ended
        ignore_data_skip=True,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        dataloader_num_workers=0,
    )


def _is_half(plan: StagePlan) -> bool:
    return plan.precision == "bfloat16" or (plan.precision == "auto" and has_half_precision())


def _schedule(stage: Stage) -> tuple[str, dict[str, float]]:
    if stage.schedule == "cosine":
        return "cosine_with_min_lr", {"min_lr_rate": stage.final}
    if stage.schedule == "linear":
        return "polynomial", {"lr_end": stage.final * stage.learning_rate, "power": 1.0}
    return "constant_with_warmup", {}


def _save_final(trainer: AnswerTrainer, plan: StagePlan) -> None:
    beside = plan.final.with_name("final.part")
    trainer.save_model(str(beside))
    if trainer.is_world_process_zero():
        beside.rename(plan.final)
