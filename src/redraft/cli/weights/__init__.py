"""`redraft weights`: deltas, conversion, GGUF and adapters, for models of any size.

Each command resolves its arguments (paths, or `org/name` on the hub), calls its module in `redraft.weights`,
and reports the result. Torch is imported only when a command runs.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from redraft.cli.shell import Verb
from redraft.cli.weights import convert, delta, inspect, lora

app = typer.Typer(
    help="Deltas, conversion, GGUF and adapters, in bounded memory.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "diff": delta.diff,
    "apply": delta.apply,
    "convert": convert.convert,
    "gguf": convert.gguf,
    "from-gguf": convert.from_gguf,
    "merge-lora": lora.merge_lora,
    "lora-gguf": lora.lora_gguf,
    "verify": inspect.verify,
    "info": inspect.info,
}
for name, command in COMMANDS.items():
    app.command(name, cls=Verb)(command)
