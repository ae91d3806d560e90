"""Read a teacher's replies: labelled blocks such as `Instruction: … Input: … Output: …`, and numbered lists.

A label counts only where the form allows it: in its order, at the start of a line. After `Output:`, a line
`Input:` is text of the output, because only a new block can come next. Where the first block has a heading
with a number, the others need one too: an output may show an instruction. Teachers add numbers, Markdown and
rules around labels, fences around all, and a word at the end; these are not part of a text. The patterns are
possessive: otherwise a line of ten thousand spaces or dashes, which weak models write, would take hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redraft.data.generate.instructions.rules import Fault, Found
from redraft.data.generate.instructions.tasks import Task
from redraft.data.generate.instructions.wording import INSTANCES

_NO_INPUT = re.compile(
    r"[\W_]*(?:no\W?input(?: (?:is )?(?:needed|required))?|none|n/a|empty)?[\W_]*", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[#*=_\s-]*+((?:task|example)\s*+\d++\s*+[.:)]?+)?+[#*=_\s-]*+", re.IGNORECASE)
_NUMBERED = re.compile(
    r"[\s#*>_-]*+(?:instruction\s*+)?\d++\s*+[.:)][*_]*+\s*+(?:instruction\s*+:\s*+)?(.*)", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)

_FENCE = re.compile(r"\s*+(?:`{3,}+|~{3,}+)\s*+[\w+-]*+\s*+")
_MORE = r"\b(?:need|want|wish|like|more|else|questions?|help|adjust\w*|chang\w*|further|these|them)\b"
_CHATTER = re.compile(
    rf"(?:please )?(?:let me know|feel free|don't hesitate)\b.*{_MORE}.*"
    r"|(?:i|we) (?:really |do )?hope (?:that )?(?:this|these|those|they|the \w+)\b.*"
    r"\b(?:help\w*|useful|need\w*|looking|fit|meets?|works?|want\w*|enjoy\w*|expect\w*)\b.*"
    rf"|if you(?:'d| would)? ?{_MORE}.*"
    r"|(?:all (?:of )?)?(?:these|the above)(?: \w+)? (?:tasks|instructions|examples|questions|prompts)\b.*"
    r"|(?:would you like|do you (?:want|need)|is there anything|shall i|should i)\b.*\?"
    r"|(?:i'd be |i'm )?happy to\b.*|i can (?:also )?(?:write|generate|provide|create)\b.*",
    re.IGNORECASE,
)
_OF_TASKS = re.compile(
    r"(?:i|we) hope (?:that )?(?:these|the)\b[^.!?]*\b(?:tasks|instructions|examples|help)\b.*", re.IGNORECASE
)
"""What a teacher says to its user after the tasks: a paragraph of its own, or a line that names them."""

_LONGEST_CHATTER = 300  # characters of such a paragraph

_LETTER = re.compile(
    r"subject:|(?:dear|hi|hello|hey|good (?:morning|afternoon|evening))\b[^.?]{0,60}[,!:]\s*$", re.IGNORECASE
)
"""The first line of a letter, which may end in the same words. There only a line on the tasks goes."""

_CUT = Fault("cut", "the reply ends in it, at the limit of tokens")

LABELS = ("instruction", "input", "output")  # the labels of a task
Block = dict[str, str]  # the texts of a block by label. Labels that did not come are missing.


def read_blocks(text: str, labels: Sequence[str]) -> list[Block]:
    """Return the blocks of a reply; `labels` are in lower case, and the first one begins a block.

    Text before the first label is left out.
    """
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
    """Return the lines of a text, without what belongs to the next block at its end."""
    return "\n".join(lines[: _own(lines, len(lines))]).strip()


def _own(lines: list[str], end: int) -> int:
    """Return where a text ends that has the heading of the next block after it, or fences around blocks.

    A fence at the end goes if none of the text's own belongs to it, or nothing stands between the two.
    """
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
    """Return where the last text of a reply ends. `fenced` says that a fence was opened before the first."""
    fences = [number for number, line in enumerate(lines) if _FENCE.fullmatch(line)]
    end = _own(lines, fences[-1] if fenced and len(fences) % 2 else len(lines))
    while (start := _chatter(lines, end)) < end:
        end = _own(lines, start)
    return end


def _chatter(lines: list[str], end: int) -> int:
    """Return where a last paragraph begins that is not the text's; `end` if there is none."""
    start = end
    while start and lines[start - 1].strip() and not _FENCE.fullmatch(lines[start - 1]):
        start -= 1
    said = " ".join(" ".join(lines[start:end]).replace("’", "'").split())
    is_letter = _LETTER.match(next(filter(str.strip, lines), "").strip())
    if 0 < start < end and len(said) <= _LONGEST_CHATTER and _CHATTER.fullmatch(said) and not is_letter:
        return start
    return end - 1 if end > 1 and _OF_TASKS.fullmatch(lines[end - 1].strip()) else end


def input_of(text: str) -> str:
    """Return an input; empty if it says that there is none."""
    return "" if len(text) < 40 and _NO_INPUT.fullmatch(text) else text


def read_tasks(reply: str, *, cut: bool) -> list[Found]:
    """Return the tasks of a reply. The last one of a reply that was cut by length is not whole."""
    found = []
    for block in read_blocks(reply, LABELS):
        task = Task(block["instruction"], input_of(block.get("input", "")), block.get("output", ""))
        missing = [name.capitalize() for name in LABELS if name not in block]
        found.append(Found(task, Fault("format", f"no line {missing[0]}:") if missing else None))
    if cut and found:
        found[-1] = Found(found[-1].task, _CUT)
    return found


def read_instructions(reply: str, *, cut: bool) -> list[Found]:
    """Return the numbered instructions of a reply. The last one of a reply that was cut is not whole."""
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
    """Return whether a reply says yes or no first; None if it says neither."""
    found = _YES_OR_NO.search(reply)
    return found[1].lower() == "yes" if found else None


def read_instances(reply: str, task: Task, *, cut: bool) -> list[Task]:
    """Return the whole instances of a reply, at most five, as tasks."""
    labels = ("label", "input") if task.is_classification else ("input", "output")
    answer = labels[0] if task.is_classification else labels[1]
    blocks = read_blocks(reply, labels)
    whole = blocks[:-1] if cut else blocks
    return [
        Task(task.instruction, input_of(block["input"]), block[answer], task.is_classification)
        for block in whole
        if block.keys() >= {"input", answer}
    ][:INSTANCES]
