"""How an instruction, its input and its answer become two messages: layouts, drawn by weight."""

from random import Random

from schemas.messages import Message

# (weight, text); the plain ones are the most frequent, since people write so
WITH_INPUT = (
    (0.25, "{instruction}\n\n{input}"),
    (0.15, "{instruction}\n{input}"),
    (0.10, "{input}\n\n{instruction}"),
    (0.10, "{instruction}\n\nInput: {input}"),
    (0.10, "{instruction}\n\nInput:\n{input}"),
    (0.05, "Input: {input}\n\n{instruction}"),
    (0.05, "Text: {input}\n\nTask: {instruction}"),
    (0.05, "Task: {instruction}\n\nText: {input}\n\nAnswer:"),
    (0.05, "Context:\n{input}\n\nQuestion: {instruction}\nAnswer:"),
    (
        0.10,
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
    ),
)
WITHOUT_INPUT = (
    (0.55, "{instruction}"),
    (0.10, "{instruction}\n\nAnswer:"),
    (0.10, "Task: {instruction}"),
    (0.10, "Question: {instruction}\nAnswer:"),
    (0.05, "Instruction: {instruction}\nResponse:"),
    (
        0.10,
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{instruction}\n\n### Response:",
    ),
)


def laid_out(instruction: str, given: str | None, output: str, rng: Random) -> tuple[Message, ...]:
    """Return a record as two messages, in a layout that `rng` draws by weight."""
    given = (given or "").strip()
    layouts = WITH_INPUT if given else WITHOUT_INPUT
    (layout,) = rng.choices([text for _, text in layouts], [weight for weight, _ in layouts])
    # one pass: an instruction that holds `{input}` keeps it
    text = layout.format(instruction=instruction.strip(), input=given)
    return (Message(role="user", content=text), Message(role="assistant", content=output.strip()))
