r"""The text that a SelFee model reads and writes, and the chain in it: one parser, streaming or not.

A prompt has Alpaca's preamble and ends with `### Answer:`. The model then writes answer 0, `### Feedback 1:`,
`### Revision 1:`, `### Feedback 2:` and so on; sections count as their headings do, so feedback *k* judges
answer *k - 1*, and revision *k* is answer *k*. The strings are wire format (the SelFee repository): models
were trained on them, so not a character may change.

What counts as a heading, in generated text only, at the start of a line only:

- the heading that is due next, with its number or with none (`### Revision:`), opens the next section;
- a heading that lies behind or has the wrong kind is a quotation, so it is text of the section;
- a numbered heading that lies further on than the one due means that steps were left out. It too stays text,
  so that nothing is lost, and `Parser.malformed` says what happened.

A line of an answer or a feedback that looks like a heading is written with a backslash before it, and reading
takes that away, so that any chain survives. Chat templates are not here, nor is the choice of the best answer
by checks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redraft.chain import Chain, Feedback, Prompt, Step, Stop, Verdict, content_of

Kind = Literal["answer", "feedback"]

NATIVE_FORMAT = "selfee-1"
"""What a model that was trained on this text says of itself: `redraft_format` in its or its adapter's config,
`redraft.format` in a GGUF file."""

DONE_PHRASES: tuple[str, ...] = (
    # The six that the released server looks for.
    "Revision is not needed",
    "revision is not needed",
    "No revision is needed",
    "no revision is needed",
    "No revisions needed",
    "no revisions needed",
    # Others that the released training chains say, in the same sense.
    "No revisions are needed",
    "no revisions are needed",
    "No revision needed",
    "no revision needed",
    "No further revision is needed",
    "no further revision is needed",
    "No further revisions are needed",
    "no further revisions are needed",
    "No further revisions needed",
    "no further revisions needed",
    "No revision is necessary",
    "no revision is necessary",
    "Revision not needed",
    "revision not needed",
    "Revision is NOT needed",
    "revision is NOT needed",
    "Revision Not Needed",
    "Revision is Not Needed",
)
"""What a model says when it wants to stop: stop strings for enforcing a revision. Each one is an `accept`."""

REVISE_PHRASE = "Revision is needed"
"""What is put in place of a done phrase. A trained model writes a revision after it."""

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
    """The whole text of a chain: what the model read and what it wrote."""
    return render_prompt(chain.prompt) + render_steps(chain.steps)


def render_prompt(prompt: Prompt) -> str:
    """The prompt as a SelFee model reads it, up to and with `### Answer:` and a line break."""
    instruction = instruction_of(prompt)
    if prompt.input and not prompt.messages:
        return f"{_PREAMBLE_INPUT}{_INSTRUCTION}{instruction}{_INPUT}{prompt.input}{_ANSWER}"
    return f"{_PREAMBLE}{_INSTRUCTION}{instruction}{_ANSWER}"


def instruction_of(prompt: Prompt) -> str:
    """The prompt's instruction. Messages become one, because the format has one turn.

    A single user message stays as it is, a longer talk becomes a transcript; a system message comes first.
    """
    if not prompt.messages:
        return prompt.instruction
    system = [content_of(m) for m in prompt.messages if m.get("role") == "system"]
    talk = [m for m in prompt.messages if m.get("role") != "system"]
    if len(talk) == 1:
        return "\n\n".join([*system, content_of(talk[0])])
    said = [f"{str(m.get('role')).capitalize()}: {content_of(m)}" for m in talk]
    return "\n\n".join([*system, *said])


def feedback_heading(k: int) -> str:
    """What stands between answer `k - 1` and the feedback on it. The first has number 1."""
    return f"\n\n### Feedback {k}:\n"


def revision_heading(k: int) -> str:
    """What stands between feedback `k` and answer `k`. The first has number 1."""
    return f"\n\n### Revision {k}:\n"


def render_steps(steps: Sequence[Step]) -> str:
    """The text that a model is trained to write after the prompt, without the end-of-text token.

    `Parser` reads it back; white space around a section is not kept.
    """
    parts: list[str] = []
    for k, step in enumerate(steps):
        parts += [revision_heading(k) if k else "", escape(step.answer)]
        if step.feedback:
            parts += [feedback_heading(k + 1), escape(step.feedback.text)]
    return "".join(parts)


_DIGITS = 9
_HEADING = re.compile(rf"^(\\*)### (?:Answer|(Feedback|Revision)(?: ([0-9]{{1,{_DIGITS}}}))?):", re.MULTILINE)
"""A heading, plain or escaped: its backslashes, its kind unless it is `Answer`, its number if it has one."""


def escape(text: str) -> str:
    """The text with a backslash before each line that would be read as a heading."""
    return _HEADING.sub(r"\\\g<0>", text) if "### " in text else text


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
_REACH = 120
"""How many characters before "revision" are looked at for its negation."""


def verdict_of(text: str) -> Verdict:
    """What a feedback decides by its words; the last phrase about a revision counts.

    Understands the six released phrases and the ways in which the released training chains say the same
    ("There is no need for revision", "No further revisions are necessary", "Revision is recommended").
    `unknown` where no such phrase is, as in a feedback that was cut.
    """
    text = text.lower()
    at = text.rfind("revis")
    while at >= 0:
        verdict = _verdict_at(text, at)
        if verdict:
            return verdict
        at = text.rfind("revis", 0, at)
    return "unknown"


def _verdict_at(text: str, at: int) -> Verdict | None:
    """What the phrase around a "revis…" at this place decides, if it is one."""
    after = _AFTER.match(text, at)
    if after and after["no"]:
        return "accept"
    before = _BEFORE.search(text[max(0, at - _REACH) : at])
    if before is None or not (after or (before["need"] and _REVISE.match(text, at))):
        return None
    return "accept" if before["no"] or before["zero"] else "revise"


@dataclass(frozen=True)
class Piece:
    """Text of a section that is now certain.

    The pieces of a section, joined, are its text without the white space around it.

    Attributes:
        index: As headings count: answer 0, feedback 1, answer 1 (`### Revision 1:`), feedback 2.
    """

    kind: Kind
    index: int
    text: str


class Parser:
    """Reads generated text as it comes, at any boundaries, and never sees the prompt.

    Text is held back only while it may be the beginning of a heading, or white space at the end of a section.
    Time is linear in the text.

    Attributes:
        kind: Of the section that the parser is in.
        index: Of that section, as in `Piece`.
        malformed: Why the text has left the format, or None.
    """

    def __init__(self, kind: Kind = "answer", index: int = 0, steps: Sequence[Step] = ()) -> None:
        """Starts at the beginning of a section.

        Args:
            kind: Of the section that the text begins in.
            index: Of that section, as in `Piece`.
            steps: The chain until there. For a feedback, its last step is the answer that is judged.
        """
        self.kind = kind
        self.index = index
        self.malformed: str | None = None
        self._steps = list(steps)
        self._answer = self._steps.pop().answer if steps and kind == "feedback" else ""
        self._text: list[str] = []
        self._space: list[str] = []
        self._held = ""
        self._line_start = True

    def feed(self, text: str) -> list[Piece]:
        """Takes more text and returns what has become certain."""
        pieces: list[Piece] = []
        text = self._held + text
        done = 0
        for found in _HEADING.finditer(text) if "### " in text else ():
            if found.start() or self._line_start:
                self._emit(text[done : found.start()], pieces)
                done = self._heading(found)
        self._hold(text, done, pieces)
        return pieces

    def close(self) -> list[Piece]:
        """Ends the text and returns what was held back. White space at its end is dropped."""
        pieces: list[Piece] = []
        self._emit(self._held, pieces)
        self._held = ""
        return pieces

    def steps(self) -> tuple[Step, ...]:
        """The steps so far, with what is certain of the section that is open. No text at all is no step."""
        text = "".join(self._text)
        if self.kind == "feedback":
            return (*self._steps, _judged(self._answer, text))
        if text or self._steps:
            return (*self._steps, Step(answer=text))
        return ()

    def _heading(self, found: re.Match[str]) -> int:
        """Opens the section that is due. Returns where text goes on: after the heading, or with it."""
        backslashes, kind, number = found.groups()
        if backslashes:
            return found.start() + 1
        due, k = ("Feedback", self.index + 1) if self.kind == "answer" else ("Revision", self.index)
        if kind == due and (number is None or int(number) == k):
            self._open()
            return found.end()
        if number and (int(number), kind) > (k, due):
            self.malformed = self.malformed or f"'{found.group()}' came where '### {due} {k}:' was due"
        return found.start()

    def _open(self) -> None:
        text = "".join(self._text)
        self._text, self._space = [], []
        if self.kind == "answer":
            self.kind, self.index, self._answer = "feedback", self.index + 1, text
        else:
            self.kind = "answer"
            self._steps.append(_judged(self._answer, text))

    def _hold(self, text: str, done: int, pieces: list[Piece]) -> None:
        """Emits the text from `done` on, except for an end that may become a heading."""
        line = text.rfind("\n", done) + 1 or done
        fresh = line > done or (done == 0 and self._line_start)
        self._line_start = fresh and _may_be_heading(text[line:])
        if self._line_start:
            # Of several backslashes one is enough to know an escaped heading by, however many there will be.
            line = max(line, text.rfind("\\", line))
        keep = line if self._line_start else len(text)
        self._emit(text[done:keep], pieces)
        self._held = text[keep:]

    def _emit(self, text: str, pieces: list[Piece]) -> None:
        """Adds text to the section, but for white space around it."""
        if not self._text:
            text = text.lstrip()
        body = text.rstrip()
        if body:
            certain = "".join([*self._space, body])
            self._space = []
            self._text.append(certain)
            pieces.append(Piece(self.kind, self.index, certain))
        if self._text and len(body) < len(text):
            self._space.append(text[len(body) :])


_HEADS = ("### Answer:", "### Feedback", "### Revision")
_UNFINISHED = re.compile(rf"### (?:Feedback|Revision) [0-9]{{0,{_DIGITS}}}")


def _may_be_heading(line: str) -> bool:
    """Whether the beginning of a line may still become a heading, or one that was escaped."""
    line = line.lstrip("\\")
    return any(head.startswith(line) for head in _HEADS) or _UNFINISHED.fullmatch(line) is not None


def _judged(answer: str, feedback: str) -> Step:
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict_of(feedback)))


def parse(text: str, prompt: Prompt | None = None) -> Chain:
    """A whole text as a chain, with the same parser as a stream.

    Args:
        text: What a model read and wrote, or only what it wrote.
        prompt: Where the prompt is known, it is taken off by its length and never searched. Without it, the
            prompt is found by its preamble, and ends at the last `### Answer:` that a chain can follow.

    Returns:
        The chain. Its best answer is the last one that is not empty: a text does not say whether it was cut.
    """
    if prompt is None:
        prompt, written = _split(text)
    else:
        written = text.removeprefix(render_prompt(prompt))
    parser = Parser()
    parser.feed(written)
    parser.close()
    steps = parser.steps()
    return Chain(
        prompt=prompt,
        steps=steps,
        best=last_answer(steps),
        stop=_stop(steps, parser.malformed),
        meta={"malformed": parser.malformed} if parser.malformed else {},
    )


def last_answer(steps: Sequence[Step]) -> int | None:
    """Index of the last answer that is not empty; of the last one if all are; None where there is none."""
    said = [i for i, step in enumerate(steps) if step.answer.strip()]
    return said[-1] if said else len(steps) - 1 if steps else None


def _stop(steps: Sequence[Step], malformed: str | None) -> Stop | None:
    if malformed:
        return "malformed"
    if not steps:
        return None
    feedback = steps[-1].feedback
    return "accepted" if feedback and feedback.verdict == "accept" else "ended"


_PROMPT = re.compile(r"\s*(?:Below is an instruction that describes a task[^\n]*\n+)?### Instruction:\n")
_ANSWERS = re.compile(r"^### Answer:[ \t]*(?:\n|\Z)", re.MULTILINE)


def _split(text: str) -> tuple[Prompt, str]:
    """The prompt at the beginning of a text, and what was written after it."""
    head = _PROMPT.match(text)
    if head is None:
        lone = _ANSWERS.match(text)
        return Prompt(), text[lone.end() :] if lone else text
    ends = list(_ANSWERS.finditer(text, head.end()))
    if not ends:
        return _prompt_of(text[head.end() :]), ""
    end = next((end for end in reversed(ends) if _begins_chain(text, end.end())), ends[-1])
    return _prompt_of(text[head.end() : end.start()].removesuffix("\n\n")), text[end.end() :]


def _begins_chain(text: str, start: int) -> bool:
    """Whether the first heading from `start` on, if there is one, is the one that is due after answer 0."""
    found = next((m for m in _HEADING.finditer(text, start) if m[2] and not m[1]), None)
    return found is None or (found[2] == "Feedback" and int(found[3] or 1) == 1)


def _prompt_of(text: str) -> Prompt:
    instruction, _, extra = text.partition(_INPUT)
    return Prompt(instruction=instruction, input=extra)
