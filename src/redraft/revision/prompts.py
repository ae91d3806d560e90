"""Ask a chat model to criticise and to revise, by two templates (`Wording`).

The templates ask for verdicts in SelFee's phrases, so that the same parser reads trained and prompted models.
benchmarks/LOST.md says which wording is best.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import Formatter
from typing import Any

from redraft.chain import CheckResult, Finish, Prompt, is_system, whole
from redraft.engines.base import Message
from redraft.engines.messages import message_of
from redraft.errors import UsageError

TALK = "The reply does not answer. Revision is needed."
"""The feedback on a first answer that is an echo. No criticism exists yet that the answer could repeat."""

ECHOED = "The reply repeats the criticism and does not answer. Revision is needed."
LOOPS = "The answer says the same again and again."
CUT = "The answer was cut off before its end because it is too long."
REPAIR = "An earlier answer failed:\n{found}"
"""Appended to the prompt for a fresh draft. The failed answer itself is not shown."""
PARTS = (
    "That answer is right but for some parts. Here they are by number, each with what is wrong there.\n\n"
    "{parts}\n\n"
    "Write these parts anew, each behind its number in brackets as above, and nothing else: no remark, and "
    "nothing of the rest, which stays as it is."
)
VALUES = (
    "That JSON is right but for some values. Here they are by their JSON pointers, each with what is wrong "
    "there.\n\n{parts}\n\n"
    "Write one JSON object with these pointers for names and the right values, and nothing else: the rest "
    "stays as it is."
)
ANYWHERE = (
    "Here are the parts of that text by number.\n\n{parts}\n\nThis should be different: {wish}\n\n"
    "Write anew the parts that this concerns, each behind its number in brackets as above, and nothing else. "
    "To remove a part, write (removed) behind its number. To add text, write it below the part before it."
)
PASSAGE = (
    'Rewrite this passage of it: "{text}"\n\nThis should be different: {wish}\n\n'
    "Write the new passage alone, in quotation marks."
)
LOST = "The answer was ended there, because nothing that follows could mend that."

PLACES = {"criticise": ("found", "prompt", "gold", "verdict"), "revise": ("found", "prompt")}
"""The placeholders of each template. `found` contains the faults that checks found, or, in a wording with
`{verdict}`, a criticism. `gold` is a right answer for the critic. Paragraphs with an empty `found` or `gold`
are left out. `prompt` is the text of the prompt. `verdict` says how to state the verdict."""

VERDICTS = ("Revision is needed", "Revision is not needed")
"""The phrases in which a criticism has to give its verdict."""

_BLANK = re.compile(r"\n\s*\n")
_EXAMPLE = "docs/recipes.md#wordings has an example."


@dataclass(frozen=True)
class Wording:
    """The two templates that ask a model to criticise and to revise."""

    name: str  # the name of a shipped wording, or `own`
    # Asks for a criticism of the last answer, and for a verdict: at `{verdict}`, or in the phrases of
    # `VERDICTS`.
    criticise: str
    revise: str  # asks for the next answer

    def __post_init__(self) -> None:
        for name in ("criticise", "revise"):
            _check_template(name, getattr(self, name))
        asked = filled(self.criticise, found="", prompt="", verdict=" ".join(VERDICTS))
        for phrase in VERDICTS:
            if phrase not in asked:
                always = "always " * (phrase in self.criticise or self.scores)
                raise UsageError(
                    f"the template `criticise` does not {always}ask for the words {phrase!r}.",
                    hint="Add a paragraph without {found} and {gold}. Let it ask for one verdict: "
                    f"{VERDICTS[0]!r} or {VERDICTS[1]!r}.",
                )

    @property
    def scores(self) -> bool:
        """Whether the critic is a teacher, who gives scores. A teacher's criticism becomes a user message."""
        return "verdict" in _places(self.criticise)

    @property
    def shows_gold(self) -> bool:
        """Whether the critic sees the gold answer, if the prompt has a gold answer."""
        return "gold" in _places(self.criticise)

    @cached_property
    def record(self) -> dict[str, str]:
        """The entry for a chain's `meta`: the wording's name, and one SHA-256 of both templates."""
        both = f"{self.criticise}\0{self.revise}".encode()
        return {"name": self.name, "sha256": hashlib.sha256(both).hexdigest()}

    @cached_property
    def requests(self) -> tuple[str, ...]:
        """All fixed texts that the writer sees and may repeat, such as paragraphs of the templates."""
        pieces = [
            piece.strip()
            for template in (self.criticise, self.revise, PARTS, VALUES)
            for literal, *_ in Formatter().parse(template)
            for piece in _BLANK.split(literal)
        ]
        return (*filter(None, pieces), TALK, ECHOED, CUT, LOOPS, REPAIR.partition("\n")[0])


def _check_template(name: str, template: Any) -> None:
    if not isinstance(template, str) or template != whole(template):
        raise UsageError(f"the template {name} is {template!a:.60}, but should be a text.", hint=_EXAMPLE)
    try:
        places = [(place, *more) for _, place, *more in Formatter().parse(template) if place is not None]
    except ValueError as error:
        hint = "For a brace in the text, write {{ or }}."
        raise UsageError(f"the template {name} cannot be read: {error}.", hint=hint) from None
    for place, *changes in places:
        if place not in PLACES[name] or any(changes):
            known = ", ".join(f"{{{each}}}" for each in PLACES[name])
            hint = f"Placeholders: {known}. For a brace in the text, write {{{{ or }}}}."
            raise UsageError(f"the template {name} has an unknown placeholder {{{place:.40}}}.", hint=hint)
    if "found" not in _places(template):
        raise UsageError(f"the template {name} lacks {{found}}, the placeholder for faults.", hint=_EXAMPLE)
    if not filled(template, found="", prompt="?").strip("? \n"):
        raise UsageError(
            f"the template {name} asks for nothing if no faults were found.",
            hint="If there are no faults, paragraphs with {found} are left out. Add one without {found}.",
        )


def filled(template: str, *, found: str, prompt: str, gold: str = "", verdict: str = "") -> str:
    """Fill in a template. A paragraph with an empty `{found}` or `{gold}` is dropped."""
    texts = {"found": found, "prompt": prompt, "gold": gold, "verdict": verdict}
    empty = {name for name in ("found", "gold") if not texts[name]}
    kept = [paragraph for paragraph in _BLANK.split(template.strip()) if not empty & _places(paragraph)]
    return "\n\n".join(kept).format(**texts)


def _places(template: str) -> set[str]:
    return {place for _, place, *_ in Formatter().parse(template) if place is not None}


_VERDICT = (
    "end with the words 'Revision is needed.' if it should be rewritten, or with the words 'Revision is not "
    "needed.' if it is good as it stands."
)
_REVIEW = (
    "A check of that answer found:\n{found}\n\n"
    "Now look at that answer as a strict reviewer would. In one to three sentences, name what is wrong, "
    f"missing or unclear in it, and where. Then decide: {_VERDICT}"
)

SHIPPED: Mapping[str, Wording] = {
    wording.name: wording
    for wording in (
        Wording(
            "task",
            _REVIEW,
            "That answer is not right yet:\n{found}\n\n"
            "Here is the task again:\n\n{prompt}\n\nWrite a new answer.",
        ),
        Wording(
            "teacher",
            "A check of the answer above found:\n{found}\n\n"
            "Here is a right answer, for you alone:\n{gold}\nIts author does not know it. Never quote it and "
            "never mention it: say what is wrong in a way that lets the author find out.\n\n"
            "Judge the answer above as its teacher. Say in one to three sentences which faults it has, and "
            "where: what is wrong, missing or unclear. {verdict}",
            "Your answer was criticised:\n{found}\n\n"
            "Correct what the criticism names, and leave every other word as it is. Write the whole "
            "corrected answer alone, without a remark on the criticism or on what you changed.",
        ),
    )
}
"""The shipped wordings by name."""

DEFAULT = SHIPPED["task"]
"""With the default wording, the most revisions pass and the fewest are echoes (benchmarks/LOST.md)."""


def wording_of(value: Any) -> Wording:
    """Return a `Wording` unchanged, or convert a shipped name or templates to a `Wording`."""
    if isinstance(value, Wording):
        return value
    if isinstance(value, str) and value in SHIPPED:
        return SHIPPED[value]
    if not isinstance(value, Mapping):
        hint = f"Give one of: {', '.join(SHIPPED)}. Or two templates: {_EXAMPLE}"
        raise UsageError(f"prompts cannot be {value!r:.80}.", hint=hint)
    for key in value:
        if key not in PLACES:
            raise UsageError(f"there is no template {key!r:.40}.", hint="Templates: criticise, revise")
    if not value:
        raise UsageError("the option 'prompts' is empty.", hint=f"Templates: criticise, revise. {_EXAMPLE}")
    return replace(DEFAULT, name="own", **value)


def base_messages(prompt: Prompt, system: str | None) -> tuple[Message, ...]:
    """Return the messages that ask for the first answer. A system message in the prompt replaces `system`."""
    asked: Message = {"role": "user", "content": prompt.text}
    messages = [message_of(record) for record in prompt.messages or ()] or [asked]
    if system and not is_system(messages[0]):
        messages.insert(0, {"role": "system", "content": system})
    return tuple(messages)


def complaint(results: Sequence[CheckResult], finish: Finish) -> str:
    """Join the messages of failed checks, without repetition. Add a note if the answer was cut."""
    ended = {"max_tokens": CUT, "lost": LOST}.get(finish, "")
    found = [result.message for result in results if not result.passed]
    messages = list(dict.fromkeys(filter(None, [*found, ended])))
    return messages[0] if len(messages) == 1 else "\n".join(f"- {message}" for message in messages)
