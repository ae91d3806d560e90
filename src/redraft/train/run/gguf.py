"""The GGUF file of `--gguf`: checked before anything is loaded, written after training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from redraft.errors import OutputError, UsageError
from redraft.train.processes import Say
from redraft.train.run.run import Ready
from redraft.train.settings.args import RunSettings
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.sizes import sizes_from_config
from redraft.weights.output import Run
from redraft.weights.replace import MANIFEST, refuse_existing


def check_gguf(settings: RunSettings[Any], model: str) -> None:
    """Raise if the file of `--gguf` cannot be written, or cannot hold the result."""
    own = settings.own
    if not own.gguf:
        return
    if not own.gguf.lower().endswith(".gguf"):
        hint = f"--gguf {own.gguf.rstrip('/')}.gguf"
        raise UsageError(f"--gguf {own.gguf} does not end in .gguf.", hint=hint)
    output = Path(settings.theirs["output_dir"]).expanduser()
    _check_place(Path(own.gguf), None if own.overwrite_output_dir else output)
    config = read_json(Path(model) / "config.json")  # a model on the hub has none here yet
    tied = config and sizes_from_config(config).tied
    if tied and own.lora is not False and "lm_head" in own.lora_target_modules:
        raise UsageError(
            "--gguf: a GGUF adapter cannot change 'lm_head', because this model uses one matrix for input "
            "and output embeddings.",
            hint="Leave lm_head out of --lora_target_modules, or leave --gguf out.",
        )


def _check_place(target: Path, output: Path | None) -> None:
    """Raise `OutputError` if the file cannot be written, or would replace one made from another output."""
    folder = next(each for each in target.absolute().parents if each.exists())
    if target.is_dir():
        raise OutputError(f"--gguf {target} is a folder.", hint=f"--gguf {target / 'NAME.gguf'}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"--gguf {target}: {folder} is not writable.", hint="--gguf FILE")
    hint = "Move it away, or name another --gguf FILE."
    try:
        refuse_existing(target, force=True)
    except OutputError as error:
        raise OutputError(f"--gguf: {error.message}", hint=hint) from None
    found = _made_of(target) if output and target.exists() else []
    if output and found and output.resolve() not in [Path(each).resolve() for each in found]:
        raise OutputError(f"--gguf: {target} was made from {found[0]}, not from {output}.", hint=hint)


def _made_of(target: Path) -> list[str]:
    """Return the inputs of a GGUF file, from the manifest beside it."""
    inputs = read_json(target.with_name(f"{target.name}.{MANIFEST}")).get("inputs")
    found = inputs.values() if isinstance(inputs, dict) else ()
    return [str(each["path"]) for each in found if isinstance(each, dict) and "path" in each]


def export_result(ready: Ready, *, command: str, tell: Say) -> None:
    """Write the file, of an adapter or of the whole model."""
    own: Any = ready.settings.own  # those of fine-tuning
    output, target = ready.loop.folder, Path(own.gguf)
    run = Run(force=True, command=command, warn=tell, caution=tell)
    if own.lora:
        from redraft.weights.lora.to_gguf import lora_gguf

        lora_gguf(output, target, run, base=_folder(ready.base))
    else:
        from redraft.weights.gguf.from_folder import export_gguf

        export_gguf(output, target, run, quant=own.gguf_quant)


def _folder(base: str) -> Path:
    """Return the folder of the base; for one on the hub, where it was downloaded to."""
    if Path(base).exists():
        return Path(base)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "config.json")
    return Path(found).parent if isinstance(found, str) else Path(base)
