"""Parse a teacher's replies, and reject unsuitable tasks by named rules. Rejects are counted by rule.

Alpaca's rules are `short`, `long`, `blocked`, `program`, `start`, `similar` and `cut`. Self-Instruct's rules
are `same`, `colon` and `conflict`. The other rules catch faults of chat models: refusals, loops, format
markers. The first rule that finds a fault rejects the task. Whether an answer is right is not judged.

Replies are labelled blocks, such as `Instruction: … Input: … Output: …`, or numbered lists. A label counts
only in order and at the start of a line: after `Output:`, a line `Input:` is text of the output. If the
heading of the first block has a number, only numbered headings begin a block, because an output may contain
`Instruction:`. Numbers, Markdown and separator lines around labels are removed, and so are fences around
replies. Patterns are possessive, because backtracking over ten thousand spaces or dashes would take hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from redraft.chain.texts import is_refusal
from redraft.checks.language import code_of, language_of, near
from redraft.checks.segment import count_words
from redraft.data.clean_rules import ALPACA
from redraft.data.generate.instructions.tasks import Task
from redraft.data.generate.instructions.wording import INSTANCES, LEAST_WORDS, MOST_WORDS, NO_INPUT, Wanted


class Fault(NamedTuple):
    """The rule that rejects a text, and the reason."""

    rule: str
    reason: str


class Found(NamedTuple):
    """A task in a reply, with a fault if a rule rejects the task."""

    task: Task
    fault: Fault | None = None


_MARKERS = re.compile(
    rf"{NO_INPUT}|<\|\w+\|>|\[/?INST\]|^#+ *(?:instruction|input|response|answer|feedback|revision)\b[ \d]*:",
    re.IGNORECASE | re.MULTILINE,
)
_LOOP = range(8, 202)  # lengths of a repeated text, including a space
_TIMES = 5
_LOOKED_AT = 4000  # characters at the end that are searched for a loop
_OPENING = "\"'“”‘’«»„¿¡("
_PROGRAM = "write a program"


def repeats(text: str) -> str:
    """Return the words repeated five times or more at the end of a text, or "". White space is ignored."""
    end = " " + " ".join(text[-_LOOKED_AT:].split())
    units = (end[-length:] for length in _LOOP)
    return next((unit.strip() for unit in units if end.endswith(unit * _TIMES)), "")


def fault_of_reply(text: str, *, cut: bool) -> Fault:
    """Return the fault of a reply that contains no task. `cut`: whether the token limit ended the reply."""
    if not text.strip():
        return Fault("empty", "the reply is empty")
    if is_refusal(text):
        return Fault("refusal", f"the reply is a refusal: {text.strip()[:60]!r}")
    if looped := repeats(text):
        return Fault("repeats", f"the reply repeats {looped[:60]!r} again and again")
    if cut:
        return Fault("cut", "the reply was cut at the token limit, before anything was complete")
    return Fault("format", "the reply does not have the requested format")


def check_instruction(task: Task, wanted: Wanted) -> Fault | None:
    """Return the first fault of an instruction, or None."""
    if not (text := task.instruction):
        return Fault("empty", "the instruction is empty")
    number = count_words(text)
    if number < LEAST_WORDS:
        return Fault("short", f"the instruction has {number} words, fewer than {LEAST_WORDS}")
    if number > MOST_WORDS:
        return Fault("long", f"the instruction has {number} words, more than {MOST_WORDS}")
    first = text[0]
    foreign = not first.isascii() and code_of(wanted.language) == "en"
    if first not in _OPENING and (foreign or not first.isalnum()):
        return Fault("start", f"the instruction begins with {first!r}")
    if word := ALPACA.find(text):
        return Fault("blocked", f"{word!r} shows that the task needs more than text")
    if text.casefold().startswith(_PROGRAM):
        return Fault("program", f"the instruction begins with {_PROGRAM!r}")
    return _marked(text)


def _marked(text: str) -> Fault | None:
    found = _MARKERS.search(text)
    return Fault("markers", f"{found[0].strip()!r} belongs to a prompt's format") if found else None


def check_answer(task: Task, wanted: Wanted) -> Fault | None:
    """Return the first fault of a task's input and output, or None."""
    if not task.output:
        return Fault("empty", "the output is empty")
    if is_refusal(task.output):
        return Fault("refusal", f"the output is a refusal: {task.output[:60]!r}")
    if looped := repeats(task.output) or repeats(task.input):
        return Fault("repeats", f"a text repeats {looped[:60]!r} again and again")
    if marked := _marked(f"{task.input}\n{task.output}"):
        return marked
    if task.output == task.input:
        return Fault("same", "the output equals the input")
    if task.output.endswith(":") or task.input.endswith(":"):
        return Fault("colon", "input or output ends with a colon: something is missing")
    text = f"{task.instruction}\n{task.output}"
    if (wrong := language_of(text)) and (code := code_of(wanted.language)) and code not in near(wrong):
        return Fault("language", f"the language is {wrong!r}, not {code!r}")
    return None


def check_instances(tasks: Sequence[Task], wanted: Wanted) -> list[Found]:
    """Check tasks that have the same instruction. Return each task with a fault or None."""
    outputs: dict[str, set[str]] = {}
    for task in tasks:
        outputs.setdefault(task.input, set()).add(task.output)
    seen: set[Task] = set()
    found = []
    for task in tasks:
        fault = check_answer(task, wanted)
        if fault is None and len(outputs[task.input]) > 1:
            fault = Fault("conflict", "this input has several outputs")
        elif fault is None and task in seen:
            fault = Fault("duplicate", "the instance repeats an earlier one")
        seen.add(task)
        found.append(Found(task, fault))
    return found


_NO_INPUT = re.compile(
    r"[\W_]*(?:no\W?input(?: (?:is )?(?:needed|required))?|none|n/a|empty)?[\W_]*", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[#*=_\s-]*+((?:task|example)\s*+\d++\s*+[.:)]?+)?+[#*=_\s-]*+", re.IGNORECASE)
_NUMBERED = re.compile(
    r"[\s#*>_-]*+(?:instruction\s*+)?\d++\s*+[.:)][*_]*+\s*+(?:instruction\s*+:\s*+)?(.*)", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)

_FENCE = re.compile(r"\s*+(?:`{3,}+|~{3,}+)\s*+[\w+-]*+\s*+")
_CUT = Fault("cut", "the token limit cut the reply inside this text")

LABELS = ("instruction", "input", "output")  # the labels of a task
_Block = dict[str, str]  # the texts of a block by label, without missing labels


def read_blocks(text: str, labels: Sequence[str]) -> list[_Block]:
    """Return the blocks of a reply. `labels` are in lower case. The label `labels[0]` begins a block."""
    label = re.compile(
        rf"[\s#*>_-]*+((?:task|example)?\s*+\d++\s*+[.:)]*+\s*+)?+[*_]*+({'|'.join(labels)})[*_]*+\s*+:[*_]*+\s?(.*)",
        re.IGNORECASE,
    )
    blocks: list[dict[str, list[str]]] = []
    place, heading, all_headed, fenced = -1, False, False, False
    for line in text.splitlines():
        found = label.fullmatch(line)
        due = labels.index(found[2].lower()) if found else -1
        headed = heading or bool(found and found[1])
        if found and due == 0 and (headed or not all_headed):
            all_headed = headed if not blocks else all_headed
            blocks.append({})
            place = -1
        if found and blocks and due > place:
            place = due
            blocks[-1][labels[due]] = [found[3]]
        elif blocks:
            blocks[-1][labels[place]].append(line)
        else:
            fenced ^= bool(_FENCE.fullmatch(line))
        separator = _SEPARATOR.fullmatch(line)
        heading = bool(separator and (heading or separator[1]))
    if blocks:
        last = blocks[-1][labels[place]]
        del last[_end(last, fenced=fenced) :]
    return [{name: _text(lines) for name, lines in block.items()} for block in blocks]


def _text(lines: list[str]) -> str:
    return "\n".join(lines[: _own(lines, len(lines))]).strip()


def _own(lines: list[str], end: int) -> int:
    fences = [number for number in range(end) if _FENCE.fullmatch(lines[number])]
    while end:
        if fences and fences[-1] == end - 1:
            inside = lines[fences[-2] + 1 : end - 1] if len(fences) > 1 else []
            if len(fences) % 2 == 0 and any(map(str.strip, inside)):
                break
            fences.pop()
        elif not _SEPARATOR.fullmatch(lines[end - 1]):
            break
        end -= 1
    return end


def _end(lines: list[str], *, fenced: bool) -> int:
    fences = [number for number, line in enumerate(lines) if _FENCE.fullmatch(line)]
    return _own(lines, fences[-1] if fenced and len(fences) % 2 else len(lines))


def input_of(text: str) -> str:
    """Return the text of an input. If the text says that there is no input, such as `N/A`, return ""."""
    return "" if len(text) < 40 and _NO_INPUT.fullmatch(text) else text


def read_tasks(reply: str, *, cut: bool) -> list[Found]:
    """Return the tasks of a reply. If the token limit cut the reply, the last task has the fault `cut`."""
    found = []
    for block in read_blocks(reply, LABELS):
        task = Task(block["instruction"], input_of(block.get("input", "")), block.get("output", ""))
        missing = [name.capitalize() for name in LABELS if name not in block]
        found.append(Found(task, Fault("format", f"there is no line {missing[0]}:") if missing else None))
    if cut and found:
        found[-1] = Found(found[-1].task, _CUT)
    return found


def read_instructions(reply: str, *, cut: bool) -> list[Found]:
    """Return the numbered instructions of a reply. If the reply was cut, the last one has the fault `cut`."""
    texts: list[list[str]] = []
    fenced = False
    for line in reply.splitlines():
        if found := _NUMBERED.fullmatch(line):
            texts.append([found[1]])
        elif texts:
            texts[-1].append(line)
        else:
            fenced ^= bool(_FENCE.fullmatch(line))
    if texts:
        del texts[-1][_end(texts[-1], fenced=fenced) :]
    found_all = [Found(Task(_text(lines).strip("*").strip())) for lines in texts]
    if cut and found_all:
        found_all[-1] = Found(found_all[-1].task, _CUT)
    return found_all


def read_kind(reply: str) -> bool | None:
    """Return whether "yes" comes before "no" in a reply, or None if the reply has neither word."""
    found = _YES_OR_NO.search(reply)
    return found[1].lower() == "yes" if found else None


def read_instances(reply: str, task: Task, *, cut: bool) -> list[Task]:
    """Return the complete instances of a reply, at most five, as tasks."""
    labels = ("label", "input") if task.is_classification else ("input", "output")
    answer = labels[0] if task.is_classification else labels[1]
    blocks = read_blocks(reply, labels)
    return [
        Task(task.instruction, input_of(block["input"]), block[answer], task.is_classification)
        for block in (blocks[:-1] if cut else blocks)
        if block.keys() >= {"input", answer}
    ][:INSTANCES]
