"""Render a conversation for a model to answer, in the format that it was trained on.

For models whose files have no chat template, or a wrong one: those of Vicuna, StableVicuna and SelFee are
older than templates. A text ends where the answer begins. A model that was trained on these texts may go on
with the user's next turn, or with a feedback: there its answer ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from redraft.chain import Prompt
from redraft.formats.render.conversations import stable_vicuna_prompt, vicuna_prompt
from redraft.formats.render.targets import Span, framed
from redraft.formats.selfee import render_prompt


@dataclass(frozen=True)
class ConversationTemplate:
    """A format of conversations.

    Attributes:
        name: As in `--chat-template`.
        spans: Renders a prompt, up to the answer.
        stops: Texts that end an answer, beside the model's stop token.
    """

    name: str
    spans: Callable[[Prompt], Sequence[Span]]
    stops: tuple[str, ...] = ()

    def text(self, prompt: Prompt, end: str) -> str:
        """Return the text of a prompt. `end` is the model's stop token, which ends earlier answers.

        Raises:
            RecordError: User and assistant do not take turns.
        """
        return "".join(end if span.stop else span.text for span in self.spans(prompt))


TEMPLATES: Mapping[str, ConversationTemplate] = {
    each.name: each
    for each in (
        ConversationTemplate("vicuna", vicuna_prompt),
        ConversationTemplate("stablevicuna", stable_vicuna_prompt, ("\n### Human:",)),
        ConversationTemplate(
            "selfee", lambda prompt: [framed(render_prompt(prompt))], ("\n\n### Feedback 1:",)
        ),
    )
}
