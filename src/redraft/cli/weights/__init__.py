"""`redraft weights`: deltas, conversion, GGUF and adapters, for models of any size.

Each command resolves its arguments (paths, or `org/name` on the hub), calls its module in `redraft.weights`,
and reports the result. Torch is imported only when a command runs.
"""

from __future__ import annotations

from redraft.cli.verb import group
from redraft.cli.weights import convert, delta_lora, inspect

app = group(
    "Deltas, conversion, GGUF and adapters, in bounded memory.",
    {
        "diff": delta_lora.diff,
        "apply": delta_lora.apply,
        "convert": convert.convert,
        "gguf": convert.gguf,
        "from-gguf": convert.from_gguf,
        "merge-lora": delta_lora.merge_lora,
        "lora-gguf": delta_lora.lora_gguf,
        "lora-rank": delta_lora.lora_rank,
        "verify": inspect.verify,
        "info": inspect.info,
    },
)
