"""A call of a tool that a request demands (`tool_choice`), begun in the model's own form.

llama.cpp itself lets a model write any text before such a call, and a small one never comes to it. Nor does
llama.cpp know a `tool_choice` that names a tool.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redraft.engines.base import Message, Sampling
from redraft.engines.bounds import within
from redraft.engines.schemas import expressible
from redraft.engines.steering.grammar import HEAD

_PROBED = {"name": "redraft_name", "arguments": '{"redraft_argument": 1}'}
PROBE: tuple[Message, ...] = (
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_probe", "type": "function", "function": _PROBED}],
    },
    {"role": "tool", "tool_call_id": "call_probe", "content": ""},  # or the call would be one to continue
)
"""What follows the messages, so that the template shows how the model writes a call."""

_WRITTEN = re.compile(r'(.*?)redraft_name(.*?)\{\s*"redraft_argument":\s*1\s*\}', re.DOTALL)


def tools_due(sampling: Sampling) -> dict[str, Any]:
    """Return the schemas of the tools of which one must be called, by name; none if the model may answer."""
    choice = (sampling.extra_body or {}).get("tool_choice")
    named = choice.get("function") if isinstance(choice, Mapping) else None
    wanted = named.get("name") if isinstance(named, Mapping) else None
    functions = [tool["function"] for tool in sampling.tools if isinstance(tool.get("function"), Mapping)]
    return {
        str(function.get("name")): function.get("parameters") or {"type": "object"}
        for function in functions
        if choice == "required" or (wanted and function.get("name") == wanted)
    }


@dataclass(frozen=True)
class CallForm:
    """How a model writes a call: after a prompt, with a text between the name and the arguments."""

    prompt: str
    between: str

    @classmethod
    def of(cls, prompt: str, probed: str) -> CallForm | None:
        """Read it from prompts without and with `PROBE`; None if the model writes no JSON there."""
        found = _WRITTEN.match(probed.removeprefix(prompt)) if probed.startswith(prompt) else None
        return cls(prompt + found[1], found[2]) if found else None

    def grammar(self, tools: Mapping[str, Any], room: int) -> str:
        """Return the grammar of a name and arguments that fit its schema, in at most `room` tokens."""
        calls = [
            f"{json.dumps(name + self.between)} %json {json.dumps(expressible(within(schema, room))[0])}"
            for name, schema in tools.items()
        ]
        return f"{HEAD}start: {' | '.join(calls)}\n"

    def read(self, text: str) -> dict[str, Any]:
        """Return the call that was written. Its arguments may be cut."""
        name, _, arguments = text.partition(self.between)
        function = {"name": name, "arguments": arguments}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
