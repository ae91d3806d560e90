"""Say when a model does not keep to the JSON schema that its engine was asked to keep to.

Some servers accept a schema and ignore it, and llama.cpp's grammar cannot express every keyword
(`llamacpp.grammar`). The answers are checked in any case: this is about telling the user why they are so
often revised.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Set

from redraft.chain import Finish

_log = logging.getLogger(__name__)

_FIRST = '{["-0123456789tfn'
"""Characters that JSON may begin with."""


UNBOUND = "replies are only checked, or read as text"
"""What becomes of replies that keep to no schema: answers are checked, and criticisms are read."""


class SchemaWatch:
    """Looks at the answers of one engine, and warns in the log once."""

    def __init__(self) -> None:
        self._warned = False
        self._left = set[str]()

    def leave(self, name: str, keywords: Set[str]) -> None:
        """Log the keywords that a grammar cannot express, each once."""
        new, self._left = keywords - self._left, self._left | keywords
        if new:
            words = ", ".join(sorted(new))
            _log.info("%s keeps to the JSON schema but for %s, which is only checked", name, words)

    def look(self, name: str, answer: str, finish: Finish) -> None:
        """Warn at the first answer that is no JSON. One that was cut off may be the beginning of some."""
        text = answer.strip()
        if self._warned or not text or (_is_json(text) if finish == "stop" else text[0] in _FIRST):
            return
        self._warned = True
        _log.warning("%s does not keep to the JSON schema, so %s: %.60r", name, UNBOUND, answer)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
