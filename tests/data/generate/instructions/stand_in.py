"""A teacher whose replies depend on the request alone, and have some faults of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from redraft.engines.scripted import Call, ScriptedEngine

WORDS = [
    first + last
    for first in ["bal", "cor", "dim", "fer", "gol", "hap", "jun", "kel", "lom", "mir", "nov", "pas"]
    for last in ["ant", "bor", "cus", "den", "eta", "fil", "gum", "hor", "ist", "jam", "ker", "lin"]
]
VERBS = ["Name", "List", "Explain", "Compare", "Translate", "Summarise", "Count", "Describe"]


def instruction(rng: Random) -> str:
    return f"{rng.choice(VERBS)} the {' '.join(rng.sample(WORDS, 6))} for a reader."


def teach(messages: Sequence[Any]) -> str:
    text = str(messages[-1]["content"])
    rng = Random(text)
    if text.endswith("Classification:"):
        return rng.choice(["Yes.", "no", "No", "It depends."])
    if "Now write instructions" in text:
        return "\n".join(f"{n}. {instruction(rng)}" for n in range(7, 15))
    if "first the label" in text:
        inputs = rng.sample(WORDS, 2)
        return f"Example 1\nLabel: good\nInput: {inputs[0]}\n\nExample 2\nLabel: bad\nInput: {inputs[1]}"
    if text.startswith("Write examples"):
        return f"Example 1\nInput: {rng.choice(WORDS)}\nOutput: {rng.choice(WORDS)} and more"
    return alpaca(rng)


def alpaca(rng: Random) -> str:
    tasks = [
        f"Task {n}\nInstruction: {instruction(rng)}\nInput: <noinput>\nOutput: {rng.choice(WORDS)}!"
        for n in range(4, 4 + rng.randint(0, 4))
    ]
    faults = [
        "Task 8\nInstruction: Draw the outline of a boat at sea.\nInput: <noinput>\nOutput: Here.",
        "Task 9\nInstruction: Explain how a lock works.\nInput: <noinput>\nOutput: I'm sorry, I can't say.",
        "Task 10\nInstruction: Name the largest planet of all.\nInput: <noinput>\nOutput: Jupiter",
    ]
    return "\n\n".join([*tasks, *rng.sample(faults, rng.randint(0, 3))]) or "I cannot help with that."


def teacher(**more: Any) -> ScriptedEngine:
    def reply(asked: Call) -> str:
        assert isinstance(asked, tuple)
        return teach(asked)

    return ScriptedEngine(reply, chunk=50, **more)
