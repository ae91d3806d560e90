"""The words in which a chat model is asked to criticise and to revise: ours, and all of them here.

The verdict is asked for in SelFee's own phrases, so that one reader of verdicts serves trained and prompted
models.
"""

from __future__ import annotations

from collections.abc import Sequence

from redraft.chain import CheckResult, Prompt
from redraft.engines.base import Message
from redraft.engines.messages import message_of

CRITICISE = (
    "Now look at that answer as a strict reviewer would. In one to three sentences, name what is wrong, "
    "missing or unclear in it, and where. Then decide: end with the words 'Revision is needed.' if it should "
    "be rewritten, or with the words 'Revision is not needed.' if it is good as it stands."
)
REVISE = "Write it again, mended."
"""Short, because a small model repeats long instructions instead of following them."""
ECHOED = "The reply repeats the criticism and does not answer. Revision is needed."
FAULTS = "Not quite right yet:"
FOUND = "A check of that answer found:"
CUT = "The answer was cut off before its end because it is too long."
REQUESTS = (CRITICISE, REVISE, ECHOED, FAULTS, FOUND, CUT)
"""All that a writer may be told besides feedback, and may repeat."""


def base_messages(prompt: Prompt, system: str | None) -> tuple[Message, ...]:
    """The messages that ask for the first answer. A prompt's own system message goes before `system`."""
    asked: Message = {"role": "user", "content": prompt.text}
    messages = [message_of(record) for record in prompt.messages or ()] or [asked]
    if system and messages[0]["role"] not in ("system", "developer"):
        messages.insert(0, {"role": "system", "content": system})
    return tuple(messages)


def complaint(results: Sequence[CheckResult], *, cut: bool) -> str:
    """The failed checks' sentences as one text: the feedback that checks give."""
    faults = [result.message for result in results if not result.passed]
    if cut:
        faults.append(CUT)
    return faults[0] if len(faults) == 1 else "\n".join(f"- {fault}" for fault in faults)


def criticise(faults: str) -> str:
    """Asks for a criticism; `faults` are those that checks found already, or empty."""
    if not faults:
        return CRITICISE
    return f"{FOUND}\n{faults}\n\n{CRITICISE}"


def faults(found: str) -> str:
    """Tells the writer what checks found."""
    return f"{FAULTS}\n{found}"
