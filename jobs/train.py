"""`burnish train`: a model learns from a mixture, stage by stage, and goes on where a kill left it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs import lake
from jobs.examples import DataFacts, write_examples
from jobs.loss import Step, draw, steps_of
from jobs.trained_on import note_mixtures
from jobs.training import run_stage
from schemas.card import ModelCard
from schemas.errors import JobFileError
from schemas.job import Place
from schemas.train import TrainFile
from schemas.training_row import TRAINING_ROWS
from udfs.adapter import export, rank_of
from udfs.ask import code_digest
from udfs.cards import card_of
from udfs.examples import ExampleSpec, row_of
from udfs.extras import need
from udfs.lessons import Teacher
from udfs.masked import Masked, Unteachable
from udfs.models import StagedModel, adapter_of, base_of, stage
from udfs.tokens import Tokens, load_tokens

STATE = "train.json"


@dataclass(frozen=True)
class Trained:
    """What a training left: where, what it read, and how the loss went."""

    output: str
    product: str
    data: dict[str, DataFacts]
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        last = vars(self.steps[-1]) if self.steps else {}
        data = {name: vars(facts) for name, facts in self.data.items()}
        return {"output": self.output, "product": self.product, "data": data, "last_step": last}

    def render(self) -> Group:
        """Return the facts for a terminal."""
        table = Table("data set", title=f"trained: {self.product}", title_justify="left")
        for heading in ("rows", "left out", "examples", "tokens", "learned"):
            table.add_column(heading, justify="right")
        for name, one in self.data.items():
            counts = (one.rows, one.left_out, one.examples, one.tokens, one.learned)
            table.add_row(name, *(f"{count:,}" for count in counts))
        tail = self.steps[-min(20, len(self.steps)) :]
        loss = sum(step.loss for step in tail) / len(tail) if tail else float("nan")
        told = f"{len(self.steps):,} steps; loss {loss:.3f} over the last {len(tail)}; {self.output}/loss.png"
        return Group(table, Text(told))


@dataclass(frozen=True)
class Shown:
    """Rows token by token, each with whether it is learned."""

    rows: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {"rows": [{"id": name, "tokens": [list(token) for token in tokens]} for name, tokens in self.rows]}

    def render(self) -> Group:
        """Return the rows for a terminal: what is learned stands bold between marks."""
        parts: list[Text] = []
        for name, tokens in self.rows:
            text = Text(f"{name}\n", style="dim")
            is_open = False
            for piece, is_learned in tokens:
                if is_learned != is_open:
                    text.append("⟦" if is_learned else "⟧", style="green")
                    is_open = is_learned
                text.append(piece, style="bold green" if is_learned else "")
            parts.append(text.append("⟧\n" if is_open else "\n", style="green"))
        return Group(*parts, Text("learned are the tokens between ⟦ and ⟧, no others"))


def train(spark: SparkSession, file: TrainFile) -> Trained:
    """Train all stages, from where an earlier call of the same file stopped.

    Raises:
        JobFileError: the output folder holds another training.
        DataContractError: a mixture is missing, or is none.
        EnvironmentProblem: an extra is missing, or a training process failed.
    """
    need("matplotlib", "peft", "trl", extra="train", what="trainings")
    folder = Path(file.output).expanduser().resolve()
    staged = stage(file.model)
    card = trained_card(file, staged)
    learner, before = _learner(file, staged)
    versions = _claim(spark, file, staged, folder)
    facts: dict[str, DataFacts] = {}
    for number, one in enumerate(file.stages, 1):
        place = file.data_of(one)
        spec = ExampleSpec(file.model, staged.digest, card, file.form, one.longest, code_digest())
        written = write_examples(spark, place, versions[place.text], spec, folder, number)
        # two mixtures may each have a data set of this name
        stage_name = f"{number}: " if len(versions) > 1 else ""
        facts |= {f"{stage_name}{name}": found for name, found in written.facts.items()}
        before = run_stage(spark, file, number, learner, written.stream, folder, before)
    steps = steps_of(folder, len(file.stages))
    draw(steps, folder / "loss.png", title=f"{file.model.text}, {file.method}")
    product = folder / ("adapter" if file.method == "lora" else "model")
    base = base_of(file.model).text
    export(Path(str(before)), product, card=card, base=base, method=file.method, source=staged.folder)
    places = {place: versions[place.text] for place in map(file.data_of, file.stages)}
    note_mixtures(product, file.model, places)
    _write_readme(product, file, facts, steps)
    return Trained(str(folder), str(product), facts, tuple(steps))


def _learner(file: TrainFile, staged: StagedModel) -> tuple[StagedModel, str | None]:
    """What learns, and the adapter from which it goes on: of a model with an adapter, LoRA trains that one further.

    Raises:
        JobFileError: the adapter has another rank or alpha than the file declares.
    """
    adapter = adapter_of(file.model)
    if adapter is None or file.method != "lora":
        return staged, None
    found, declared = rank_of(adapter), (file.lora.rank, float(file.lora.alpha))
    if found != declared:
        raise JobFileError(
            f"the model's adapter has rank {found[0]} and alpha {found[1]:g}, `lora` declares others",
            hint=f"declare `lora: {{rank: {found[0]}, alpha: {found[1]:g}}}` to train it further, or name the model "
            "without its adapter (`smollm2-untuned`) to train a new one",
        )
    return stage(base_of(file.model)), str(adapter)


def show(spark: SparkSession, file: TrainFile, rows: int) -> Shown:
    """Return the first rows of the first stage as training sees them; trains nothing.

    Raises:
        DataContractError: the mixture is missing, or is none.
    """
    staged = stage(file.model)
    tokens = load_tokens(str(staged.folder))
    longest = file.stages[0].longest
    teacher = Teacher(tokens, trained_card(file, staged), form=file.form, longest=longest)
    table = lake.read(spark, file.data_of(file.stages[0]))
    found = table.orderBy("place").limit(rows).collect()
    told = [(row["id"], _told(example, tokens)) for row in found for example in _examples_of(row.asDict(), teacher)]
    return Shown(tuple(told))


def trained_card(file: TrainFile, staged: StagedModel) -> ModelCard:
    """The card of the model that a training makes: tuned, with the prompts and for the labels that it learned from."""
    card = card_of(file.model, staged.folder)
    learned = {"tuned": True, "note": "", "prior_correction": False, "prompt": file.prompt or card.prompt}
    return card.model_copy(update=learned)


def _examples_of(record: dict[str, Any], teacher: Teacher) -> list[Masked]:
    try:
        return teacher.examples(row_of(record))
    except Unteachable:
        return []


def _told(example: Masked, tokens: Tokens) -> tuple[tuple[str, bool], ...]:
    pairs = zip(example.ids, example.mask, strict=True)
    return tuple((tokens.token_bytes(token).decode("utf-8", "replace"), bool(mask)) for token, mask in pairs)


def _claim(spark: SparkSession, file: TrainFile, staged: StagedModel, folder: Path) -> dict[str, int]:
    """Return the mixtures' versions that this training reads, pinned when it first began."""
    stages = [{**one.model_dump(mode="json"), "data": file.data_of(one).text} for one in file.stages]
    told = file.model_dump(mode="json", include={"method", "lora", "form", "prompt", "processes", "seed"})
    wanted = {**told, "model": staged.digest, "stages": stages}
    state = folder / STATE
    if state.is_file():
        found = json.loads(state.read_text(encoding="utf-8"))
        if found["wanted"] != wanted:
            changed = sorted(name for name in wanted if found["wanted"].get(name) != wanted[name])
            raise JobFileError(
                f"{folder} holds a training that began with other settings: {', '.join(changed)}",
                hint="name another `output`, or remove that folder to begin anew",
            )
        return dict(found["versions"])
    places = {place.text: place for place in (file.data_of(one) for one in file.stages)}
    versions = {name: _mixture_version(spark, place) for name, place in places.items()}
    folder.mkdir(parents=True, exist_ok=True)
    beside = state.with_suffix(".part")
    beside.write_text(json.dumps({"wanted": wanted, "versions": versions}, indent=2) + "\n", encoding="utf-8")
    beside.rename(state)
    return versions


def _mixture_version(spark: SparkSession, place: Place) -> int:
    lake.delta_table(spark, place)
    lake.check_columns(spark, place, TRAINING_ROWS, maker="burnish mix")
    return lake.latest_version(spark, place)


def _write_readme(product: Path, file: TrainFile, facts: dict[str, DataFacts], steps: list[Step]) -> None:
    (product / "README.md").write_text("\n".join(_readme(file, facts, steps)) + "\n", encoding="utf-8")


def _readme(file: TrainFile, facts: dict[str, DataFacts], steps: list[Step]) -> Iterator[str]:
    yield f"# {file.model.text}, trained by burnish ({file.method})\n"
    yield "Trained with `burnish train`; loss on the answers' tokens only.\n"
    yield "| data set | licence | rows | examples | tokens | learned tokens |"
    yield "|---|---|---|---|---|---|"
    for name, one in facts.items():
        counts = f"{one.rows:,} | {one.examples:,} | {one.tokens:,} | {one.learned:,}"
        yield f"| {name} | {one.licence or 'not stated'} | {counts} |"
    yield "\n| stage | steps | rows a step | learning rate | longest row |"
    yield "|---|---|---|---|---|"
    for number, part in enumerate(file.stages, 1):
        rows = part.batch * part.accumulation * file.processes
        yield f"| {number} | {part.steps:,} | {rows} | {part.learning_rate:g}, {part.schedule} | {part.longest:,} |"
    computed = sum(step.tokens for step in steps)
    yield f"\nTokens computed: {computed:,} (what rows of a batch begin with alike counts once)."
