"""The GGUF file that `--gguf` asks for: looked at before anything is loaded, written when all is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from redraft.cli.shell import tell
from redraft.cli.train.base import command

if TYPE_CHECKING:
    from redraft.train.run.run import Ready
    from redraft.train.settings.args import Settings
    from redraft.train.settings.options import Options


def insist_on_gguf(settings: Settings, model: str) -> None:
    """Sees that the file can be written where it is to be, and that GGUF has a place for what is trained.

    Raises:
        UsageError: It has no name of a GGUF file, or the adapter would change what one cannot.
        OutputError: It is a folder, or made of something else, or in no folder that can be written to.
        ModelError: llama.cpp does not know the architecture, or config.json is damaged.
    """
    from redraft.errors import UsageError
    from redraft.weights.checkpoint import read_json
    from redraft.weights.gguf.sizes import sizes_from_config

    own = settings.own
    if not own.gguf:
        return
    if not own.gguf.lower().endswith(".gguf"):
        said = f"--gguf {own.gguf} has no name by which a GGUF file is known."
        raise UsageError(said, hint=f"--gguf {own.gguf.rstrip('/')}.gguf")
    output = Path(settings.theirs["output_dir"]).expanduser()
    _insist_on_place(Path(own.gguf), None if own.overwrite_output_dir else output)
    if config := read_json(Path(model) / "config.json"):  # of a model on the hub it is not here yet
        _insist_on_layers(own, tied=sizes_from_config(config).tied)


def _insist_on_layers(own: Options, *, tied: bool) -> None:
    """Sees that an adapter does not change the output matrix where that is the embedding as well."""
    from redraft.errors import UsageError

    if tied and own.lora is not False and "lm_head" in own.lora_target_modules:
        raise UsageError(
            "--gguf: a GGUF adapter cannot change 'lm_head', as this model has one matrix for the embeddings "
            "of input and output.",
            hint="Leave lm_head out of --lora_target_modules, or leave --gguf out.",
        )


def _insist_on_place(target: Path, output: Path | None) -> None:
    """Sees that the file can be written. With an output: that it replaces none but what was made of it."""
    from redraft.errors import OutputError
    from redraft.weights.replace import refuse_existing

    folder = next(each for each in target.absolute().parents if each.exists())
    if target.is_dir():
        raise OutputError(f"--gguf {target} is a folder.", hint=f"--gguf {target / 'NAME.gguf'}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"--gguf {target}: nothing can be written in {folder}.", hint="--gguf FILE")
    hint = "Move it away, or name another --gguf FILE."
    try:
        refuse_existing(target, force=True)
    except OutputError as error:
        raise OutputError(f"--gguf: {error.message}", hint=hint) from None
    found = _made_of(target) if output and target.exists() else []
    if output and found and output.resolve() not in [Path(each).resolve() for each in found]:
        raise OutputError(f"--gguf: {target} was made of {found[0]}, not of {output}.", hint=hint)


def _made_of(target: Path) -> list[str]:
    """What a GGUF file was made of, as the manifest beside it says."""
    from redraft.weights.checkpoint import read_json
    from redraft.weights.replace import MANIFEST

    inputs = read_json(target.with_name(f"{target.name}.{MANIFEST}")).get("inputs")
    found = inputs.values() if isinstance(inputs, dict) else ()
    return [str(each["path"]) for each in found if isinstance(each, dict) and "path" in each]


def export_result(ready: Ready, output: Path) -> None:
    """Writes the file: of an adapter, or of the whole model.

    Raises:
        RedraftError: It cannot be made or written.
    """
    own = ready.settings.own
    target = Path(own.gguf or "")
    if ready.lora:
        from redraft.weights.lora.to_gguf import lora_gguf

        lora_gguf(output, target, base=_folder(ready.base), force=True, command=command())
    else:
        from redraft.weights.gguf.from_folder import export_gguf

        export_gguf(output, target, quant=own.gguf_quant, force=True, command=command(), warn=tell)


def _folder(base: str) -> Path:
    """Where the base is: of one on the hub, where it was downloaded to."""
    if Path(base).exists():
        return Path(base)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "config.json")
    return Path(found).parent if isinstance(found, str) else Path(base)
