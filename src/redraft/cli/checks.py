"""`redraft checks`: print the checks that are derived from a prompt."""

from __future__ import annotations

import json
from typing import Annotated

from redraft.cli.ask import one_text, read_piped
from redraft.cli.shell import argument, switch, write
from redraft.errors import UsageError
from redraft.jobs.counting import tell


def checks(
    prompt: Annotated[
        list[str] | None, argument("PROMPT", "The prompt; '-' or nothing reads standard input.")
    ] = None,
    as_json: Annotated[bool, switch("Print the checks as a JSON list.", "--json")] = False,
) -> None:
    """Print the demands of a prompt as checks, one per line.

    Rules derive the checks from the prompt alone: "at most 50 words" gives words<=50. A rule that is unsure
    gives no check. `--check auto` uses the same checks: redraft ask "…" --check auto
    """
    from redraft.chain import whole
    from redraft.checks.derive import NOTHING, checks_in

    text = one_text(prompt or (), "checks")
    if text in ("", "-"):
        text = read_piped(beside=False)
    if not text.strip():
        raise UsageError("the prompt is empty.", hint='Type: redraft checks "What is rain, in 20 words?"')
    found = checks_in(whole(text))
    if as_json:
        write(json.dumps(found, ensure_ascii=False))
    elif found:
        write("\n".join(found))
    else:
        tell(NOTHING)
