"""The wording with which a chat model is asked to criticise and to revise.

Verdicts are asked for in SelFee's phrases, so that one parser reads both trained and prompted models.
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
"""Everything a writer is shown besides feedback, and may repeat."""


def base_messages(prompt: Prompt, system: str | None) -> tuple[Message, ...]:
    """Return the messages that ask for the first answer. A prompt's own system message replaces `system`."""
    asked: Message = {"role": "user", "content": prompt.text}
    messages = [message_of(record) for record in prompt.messages or ()] or [asked]
    if system and messages[0]["role"] not in ("system", "developer"):
        messages.insert(0, {"role": "system", "content": system})
    return tuple(messages)


def complaint(results: Sequence[CheckResult], *, cut: bool) -> str:
    """Return the feedback of checks: the messages of those that failed, as one text."""
    messages = [result.message for result in results if not result.passed]
    if cut:
        messages.append(CUT)
    return messages[0] if len(messages) == 1 else "\n".join(f"- {message}" for message in messages)


def criticise(faults: str) -> str:
    """Return the request for a criticism; `faults` is what checks found, or empty."""
    return f"{FOUND}\n{faults}\n\n{CRITICISE}" if faults else CRITICISE


def faults(found: str) -> str:
    """Return the message that shows the writer what checks found."""
    return f"{FAULTS}\n{found}"
