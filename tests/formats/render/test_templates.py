"""Prompts in the formats of Vicuna, StableVicuna and SelFee: the exact texts, and those of training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Prompt, Step
from redraft.formats import TrainingFormat
from redraft.formats.render.spans import TEMPLATES, spans_of

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
"""The system message of version 1.1 (FastChat; reference/vicuna_fastchat.md)."""

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)

FORMATS: list[TrainingFormat] = ["vicuna", "stablevicuna", "selfee"]


def talk(*texts: str, system: str = "") -> Prompt:
    turns = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
    return Prompt(messages=(*([{"role": "system", "content": system}] if system else []), *turns))


@pytest.mark.parametrize(
    ("name", "prompt", "text"),
    [
        ("vicuna", talk("Hi."), f"{VICUNA} USER: Hi. ASSISTANT:"),
        ("vicuna", Prompt(instruction="Hi."), f"{VICUNA} USER: Hi. ASSISTANT:"),
        (
            "vicuna",
            talk("Hi.", "Hello.", "And rain?"),
            f"{VICUNA} USER: Hi. ASSISTANT: Hello.</s>USER: And rain? ASSISTANT:",
        ),
        ("vicuna", talk("Hi.", system="Be brief."), "Be brief. USER: Hi. ASSISTANT:"),
        ("stablevicuna", talk("Hi."), "### Human: Hi.\n### Assistant:"),
        (
            "stablevicuna",
            talk("Hi.", "Hello.", "And rain?"),
            "### Human: Hi.\n### Assistant: Hello.</s>\n### Human: And rain?\n### Assistant:",
        ),
        ("selfee", talk("Hi."), f"{ALPACA}\n\n### Instruction:\nHi.\n\n### Answer:\n"),
    ],
)
def test_the_text_is_exactly_that_of_the_reference(name: str, prompt: Prompt, text: str) -> None:
    assert TEMPLATES[name].text(prompt, "</s>") == text


@pytest.mark.parametrize("name", FORMATS)
@given(texts=st.lists(st.text("abc \n#:", min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_a_model_reads_what_it_was_trained_on(name: TrainingFormat, texts: list[str]) -> None:
    prompt = talk(*texts[: len(texts) - (len(texts) + 1) % 2])
    chain = Chain(prompt=prompt, steps=(Step(answer="Rain falls."),), best=0)
    trained = "".join("</s>" if span.stop else span.text for span in spans_of(chain, name, "full"))
    asked = TEMPLATES[name].text(prompt, "</s>")
    assert trained.removeprefix(asked).strip() == "Rain falls.</s>"
