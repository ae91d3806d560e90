"""Render one instruction and one reply: SelFee's, Alpaca's, and Self-Instruct's varied templates.

Several messages become one instruction (`formats.selfee.instruction_of`). The strings of SelFee and Alpaca
are wire format: SelFee's reply begins on a new line, Alpaca's right after the colon.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from redraft.chain import Chain, Prompt
from redraft.formats import Objective
from redraft.formats.render.targets import Span, asked, best_answer, framed, led_by_space, whole_chain
from redraft.formats.selfee import escape, instruction_of, render_prompt

_GAP = "\0"
_ALONE = render_prompt(Prompt(instruction=_GAP)).split(_GAP)
_WITH_INPUT = render_prompt(Prompt(instruction=_GAP, input=_GAP)).split(_GAP)
"""The texts around a prompt's instruction and input."""

_RESPONSE = "\n\n### Response:"


def selfee(chain: Chain, objective: Objective) -> list[Span]:
    """Render SelFee's format. Answers are escaped even without feedback, because the text is parsed again."""
    if objective == "answer":
        written = [replace(span, text=escape(span.text)) for span in best_answer(chain, objective)]
    else:
        written = whole_chain(chain, objective)
    return _prompt(chain.prompt, _ALONE[-1]) + written


def alpaca(chain: Chain, objective: Objective) -> list[Span]:
    """Render Alpaca's format: the best answer after `### Response:`."""
    return _prompt(chain.prompt, _RESPONSE) + best_answer(chain, objective)


def self_instruct(chain: Chain, objective: Objective) -> list[Span]:
    """Render one of Self-Instruct's templates, chosen by a hash of the prompt.

    They vary in `Task:`, `Input:`, `Output:` and one or two line breaks. Without `Output:`, an empty line
    comes before the answer. White space around texts is dropped.
    """
    prompt = chain.prompt
    instruction, extra = instruction_of(prompt).strip(), "" if prompt.messages else prompt.input.strip()
    bits = hashlib.blake2b(f"{instruction}\0{extra}".encode(errors="replace"), digest_size=1).digest()[0]
    task, label, output = bits & 1, bits & 2, bits & 4
    gap = "\n\n" if bits & 8 else "\n"
    spans = [framed("Task: ")] if task else []
    spans.append(asked(instruction))
    if extra:
        spans += [framed(f"{gap}Input: " if label else gap), asked(extra)]
    spans.append(framed(f"{gap}Output:" if output else "\n\n"))
    answer = [replace(span, text=span.text.strip()) for span in best_answer(chain, objective)]
    return spans + (led_by_space(answer) if output else answer)


def _prompt(prompt: Prompt, last: str) -> list[Span]:
    """Render the prompt with Alpaca's preamble, up to its last heading."""
    instruction = asked(instruction_of(prompt))
    if prompt.input and not prompt.messages:
        before, between, _ = _WITH_INPUT
        return [framed(before), instruction, framed(between), asked(prompt.input), framed(last)]
    return [framed(_ALONE[0]), instruction, framed(last)]
