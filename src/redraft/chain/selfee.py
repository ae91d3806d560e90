"""Parse and render the text that a SelFee model reads and writes, streaming or not.

A prompt has Alpaca's preamble and ends with `### Answer:`. The model then writes answer 0, `### Feedback 1:`,
`### Revision 1:`, `### Feedback 2:` and so on. Feedback *k* judges answer *k - 1*, and revision *k* is answer
*k*. The strings come from the SelFee repository. Models were trained on these strings, so no character may
change.

Headings are recognised only in generated text, at the start of a line. The heading that is due next, with or
without a number (`### Revision:`), opens the next section. Any other heading remains text. The heading of a
later section means that steps are missing, and is reported in `Parser.malformed`. `render` puts a backslash
before lines that look like headings, so parsing returns the same texts.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redraft.chain import Chain, Feedback, Prompt, Step, Stop, Verdict, content_of, is_blank, is_system

SectionKind = Literal["answer", "feedback"]

NATIVE_FORMAT = "selfee-1"
"""Marks models of this format: `redraft_format` in a config, `redraft.format` in a GGUF file."""

_DONE = (
    # Three phrases that the released server looks for.
    "Revision is not needed",
    "No revision is needed",
    "No revisions needed",
    # Other phrases with the same meaning, from the released training chains.
    "No revisions are needed",
    "No revision needed",
    "No further revision is needed",
    "No further revisions are needed",
    "No further revisions needed",
    "No revision is necessary",
    "Revision not needed",
    "Revision is NOT needed",
)
DONE_PHRASES: tuple[str, ...] = (
    *(form for phrase in _DONE for form in (phrase, phrase[0].lower() + phrase[1:])),
    "Revision Not Needed",
    "Revision is Not Needed",
)
"""Phrases that accept an answer. If a revision is enforced, the phrases are stop strings."""

REVISE_PHRASE = "Revision is needed"  # replaces a done phrase, so that the model writes a revision

_PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
)
_PREAMBLE_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)
_INSTRUCTION, _INPUT, _ANSWER = "### Instruction:\n", "\n\n### Input:\n", "\n\n### Answer:\n"


def render(chain: Chain) -> str:
    """Render the whole text of a chain: the prompt and all steps."""
    return render_prompt(chain.prompt) + render_steps(chain.steps)


def render_prompt(prompt: Prompt) -> str:
    """Render a prompt for a SelFee model, up to `### Answer:` and a line break."""
    instruction = instruction_of(prompt)
    if prompt.input and not prompt.messages:
        return f"{_PREAMBLE_INPUT}{_INSTRUCTION}{instruction}{_INPUT}{prompt.input}{_ANSWER}"
    return f"{_PREAMBLE}{_INSTRUCTION}{instruction}{_ANSWER}"


def instruction_of(prompt: Prompt) -> str:
    """Return a prompt's instruction. Several messages become a transcript, with system messages first."""
    if not prompt.messages:
        return prompt.instruction
    system = [content_of(m) for m in prompt.messages if is_system(m)]
    turns = [m for m in prompt.messages if not is_system(m)]
    if len(turns) == 1:
        return "\n\n".join([*system, content_of(turns[0])])
    return "\n\n".join([*system, *[f"{str(m.get('role')).capitalize()}: {content_of(m)}" for m in turns]])


def feedback_heading(k: int) -> str:
    """Return the heading of feedback `k`, which follows answer `k - 1`. `k` starts at 1."""
    return f"\n\n### Feedback {k}:\n"


def revision_heading(k: int) -> str:
    """Return the heading of revision `k`, which follows feedback `k`. `k` starts at 1."""
    return f"\n\n### Revision {k}:\n"


def render_steps(steps: Sequence[Step]) -> str:
    """Render steps as the text after a prompt. `Parser` reads the same steps back, with texts stripped."""
    parts: list[str] = []
    for k, step in enumerate(steps):
        parts += [revision_heading(k) if k else "", escape(step.answer)]
        if step.feedback:
            parts += [feedback_heading(k + 1), escape(step.feedback.text)]
    return "".join(parts)


_DIGITS = 9
_HEADING = re.compile(rf"^(\\*)### (?:Answer|(Feedback|Revision)(?: ([0-9]{{1,{_DIGITS}}}))?):", re.MULTILINE)
"""Matches a heading, plain or escaped. The groups are backslashes, kind and number, if present."""


def escape(text: str) -> str:
    """Add a backslash to each line that looks like a heading."""
    return _HEADING.sub(r"\\\g<0>", text) if "### " in text else text


def has_heading(text: str) -> bool:
    """Return whether a line of a text looks like a heading, such as `### Feedback 1:`."""
    return "### " in text and _HEADING.search(text) is not None


_WORDS = (
    r"(?:(?:any|an?|some|further|more|additional|other|significant|major|minor|think|believe|see|that)\s+)*"
)
_BEFORE = re.compile(
    rf"(?P<no>(?:\bno|\bnot|n't|\bnever|\bwithout)\s+{_WORDS})?"
    rf"(?P<need>\b(?:need|require)s?\s+(?:for\s+)?(?P<zero>no\s+)?{_WORDS}(?:to\s+(?:be\s+)?)?)?$"
)
_AFTER = re.compile(
    r"revisions?\s+(?:(?:is|are)\s+)?(?:still\s+)?(?P<no>not\s+)?"
    r"(?:needed|necessary|required|recommended|suggested|encouraged)\b"
)
_REVISE = re.compile(r"revis(?:ions?|ed?)\b")

_SCORE = re.compile(r"(?<![\d.,/])(\d+(?:\.\d+)?)\s*(?:/|out of)\s*10(?![\d./]*\d)", re.IGNORECASE)


def score_of(text: str) -> float | None:
    """Return the last score out of 10 in feedback, such as `8/10` or `8.5 out of 10`, or None."""
    scores = [float(found) for found in _SCORE.findall(text)] if "10" in text else []
    return next((score for score in reversed(scores) if score <= 10), None)


def verdict_of(text: str) -> Verdict:
    """Return the verdict in the last phrase about a revision, or `unknown` without such a phrase.

    Recognises the phrases of SelFee's server and training chains, such as "Revision is recommended".
    """
    text = text.lower()
    at = len(text)
    while (at := text.rfind("revis", 0, at)) >= 0:
        after = _AFTER.match(text, at)
        if after and after["no"]:
            return "accept"
        before = _BEFORE.search(text[max(0, at - 120) : at])  # may contain a negation
        if before and (after or (before["need"] and _REVISE.match(text, at))):
            return "accept" if before["no"] or before["zero"] else "revise"
    return "unknown"


@dataclass(frozen=True)
class SectionText:
    """A piece of a section that later text cannot change. Joined, the pieces are the stripped text."""

    kind: SectionKind
    index: int  # as headings count: answer 0, feedback 1, answer 1 (`### Revision 1:`), feedback 2
    text: str


class Parser:
    """Parse generated text, without the prompt, in chunks of any size.

    Only the possible start of a heading, and white space at the end, are held back. With `exact`, the text
    ends before the first deviation from the format.
    """

    def __init__(
        self, kind: SectionKind = "answer", index: int = 0, steps: Sequence[Step] = (), *, exact: bool = False
    ) -> None:
        self.kind, self.index, self._exact = kind, index, exact
        self.malformed: str | None = None  # the first deviation from the format
        self._steps = list(steps)
        self._answer = self._steps.pop().answer if steps and kind == "feedback" else ""
        self._text: list[str] = []
        self._space: list[str] = []
        self._held = ""
        self._line_start = True

    def feed(self, text: str) -> list[SectionText]:
        """Parse more text, and return the pieces that later text cannot change."""
        pieces: list[SectionText] = []
        text = self._held + text
        done = 0
        for found in _HEADING.finditer(text) if "### " in text else ():
            if found.start() or self._line_start:
                self._emit(text[done : found.start()], pieces)
                done = self._heading(found)
                if self._exact and self.malformed:
                    self._held = ""
                    return pieces
        # Hold back an end that may become a heading, plain or escaped.
        begin = text.rfind("\n", done) + 1 or done
        fresh = begin > done or (done == 0 and self._line_start)
        self._line_start = fresh and _may_be_heading(text[begin:])
        keep = len(text)
        if self._line_start:
            # One of several backslashes is enough to recognise an escaped heading.
            keep = max(begin, text.rfind("\\", begin))
        self._emit(text[done:keep], pieces)
        self._held = text[keep:]
        return pieces

    def close(self) -> list[SectionText]:
        """End the text, and return the held-back pieces without trailing white space."""
        pieces: list[SectionText] = []
        self._emit(self._held, pieces)
        self._held = ""
        return pieces

    def steps(self) -> tuple[Step, ...]:
        """Return the steps so far, including an unfinished section."""
        text = "".join(self._text)
        if self.kind == "feedback":
            return (*self._steps, judged(self._answer, text))
        return (*self._steps, Step(answer=text)) if text or self._steps else ()

    def _heading(self, found: re.Match[str]) -> int:
        backslashes, kind, number = found.groups()
        if backslashes:
            return found.start() + 1
        due, k = ("Feedback", self.index + 1) if self.kind == "answer" else ("Revision", self.index)
        if kind == due and (number is None or int(number) == k):
            text = "".join(self._text)
            self._text, self._space = [], []
            if self.kind == "answer":
                self.kind, self.index, self._answer = "feedback", self.index + 1, text
            else:
                self.kind = "answer"
                self._steps.append(judged(self._answer, text))
            return found.end()
        if number and (int(number), kind) > (k, due):
            self.malformed = self.malformed or f"'{found.group()}' came where '### {due} {k}:' was due"
        return found.start()

    def _emit(self, text: str, pieces: list[SectionText]) -> None:
        if not self._text:
            text = text.lstrip()
        if body := text.rstrip():
            certain = "".join([*self._space, body])
            self._space = []
            self._text.append(certain)
            pieces.append(SectionText(self.kind, self.index, certain))
        if self._text and len(body) < len(text):
            self._space.append(text[len(body) :])


_HEADS = ("### Answer:", "### Feedback", "### Revision")
_UNFINISHED = re.compile(rf"### (?:Feedback|Revision) [0-9]{{0,{_DIGITS}}}")


def _may_be_heading(line: str) -> bool:
    line = line.lstrip("\\")
    return any(head.startswith(line) for head in _HEADS) or _UNFINISHED.fullmatch(line) is not None


def judged(answer: str, feedback: str | None) -> Step:
    """Return a step with the answer, the feedback, and the verdict in the feedback's text."""
    if feedback is None:
        return Step(answer=answer)
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict_of(feedback)))


def parse(text: str, prompt: Prompt | None = None) -> Chain:
    """Parse the text of a chain, with or without the prompt.

    If `prompt` is given, the rendered prompt is removed from the start. Otherwise, a prompt is recognised by
    `### Instruction:`. The last nonempty answer is the best.
    """
    if prompt is None:
        prompt, written = _split(text)
    else:
        written = text.removeprefix(render_prompt(prompt))
    parser = Parser()
    parser.feed(written)
    parser.close()
    steps = parser.steps()
    stop: Stop | None = "malformed" if parser.malformed else None
    if steps and not stop:
        stop = "accepted" if steps[-1].verdict == "accept" else "ended"
    meta = {"malformed": parser.malformed} if parser.malformed else {}
    return Chain(prompt=prompt, steps=steps, best=last_answer(steps), stop=stop, meta=meta)


def last_answer(steps: Sequence[Step]) -> int | None:
    """Return the index of the last nonempty answer or, if all answers are empty, of the last answer."""
    written = [i for i, step in enumerate(steps) if not is_blank(step.answer)]
    return written[-1] if written else len(steps) - 1 if steps else None


_PROMPT = re.compile(r"\s*(?:Below is an instruction that describes a task[^\n]*\n+)?### Instruction:\n")
_ANSWERS = re.compile(r"^### Answer:[ \t]*(?:\n|\Z)", re.MULTILINE)


def _split(text: str) -> tuple[Prompt, str]:
    if (head := _PROMPT.match(text)) is None:
        lone = _ANSWERS.match(text)
        return Prompt(), text[lone.end() :] if lone else text
    if not (ends := list(_ANSWERS.finditer(text, head.end()))):
        return _prompt_of(text[head.end() :]), ""
    heads = [found for found in _HEADING.finditer(text, head.end()) if found[2] and not found[1]]
    starts = [found.start() for found in heads]  # `begins`: whether each can be the first of a chain
    begins = [*(found[2] == "Feedback" and int(found[3] or 1) == 1 for found in heads), True]
    # The last `### Answer:` whose next heading, if any, is `### Feedback 1:`.
    end = next((end for end in reversed(ends) if begins[bisect_left(starts, end.end())]), ends[-1])
    return _prompt_of(text[head.end() : end.start()].removesuffix("\n\n")), text[end.end() :]


def _prompt_of(text: str) -> Prompt:
    instruction, _, extra = text.partition(_INPUT)
    return Prompt(instruction=instruction, input=extra)
