"""`redraft train sft`: supervised fine-tuning, by the flags of SelFee's, Alpaca's and Vicuna's trainers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.cli.train.running import TrainCommand, Words, run
from redraft.train.settings.options import SFT

if TYPE_CHECKING:
    from redraft.train.run.run import Ready
    from redraft.train.settings.args import RunSettings
    from redraft.train.stages import Stages


def sft(words: Words = None) -> None:
    """Train a model to answer, criticise itself, and revise.

    A recipe is a YAML file with the same names as the flags, or the name of a shipped one. Flags override it.
    All fields of transformers' TrainingArguments are flags too, and those of older versions are translated.
    To resume a stopped run, type the same command again.
    """
    run(COMMAND, words)


def _stages() -> Stages[Any]:
    from redraft.train.stages import SFT_STAGES

    return SFT_STAGES


def _check(settings: RunSettings[Any], model: str) -> None:
    from redraft.cli.train.gguf import check_gguf

    check_gguf(settings, model)


def _finish(ready: Ready) -> str:
    """Write the GGUF file of the result, and return what to type next."""
    from redraft.cli.train.gguf import export_result

    own: Any = ready.settings.own
    if ready.args.should_save and own.gguf:
        export_result(ready, ready.loop.folder)
    return _next(ready, ready.loop.folder)


def _next(ready: Ready, output: Path) -> str:
    """Return what to type next."""
    own: Any = ready.settings.own
    result, gguf = str(output), own.gguf
    if not own.lora:
        return _try(gguf or result)
    named = own.model_name_or_path
    if named != "default" and not named.lower().endswith(".gguf"):
        return _beside_folder(ready.base, result, gguf)
    if gguf:
        return _try(f"{named}+{gguf}")
    words = shlex.join(["--base", named, "-o", "adapter.gguf"])
    return f"For llama.cpp: redraft weights lora-gguf {shlex.quote(result)} {words}"


def _beside_folder(base: str, result: str, gguf: str | None) -> str:
    """Return what to type for a base in a folder, which llama.cpp does not load, or on the hub."""
    if not Path(base).expanduser().is_dir():
        return f"Put it into its base: redraft weights merge-lora {shlex.join([base, result])} -o FOLDER"
    tried = _try(f"{base}+{result}")
    if not gguf:
        return tried
    model = shlex.quote(f"BASE.gguf+{gguf}")
    return f"{tried} (llama.cpp: redraft weights gguf {shlex.quote(base)} -o BASE.gguf, then --model {model})"


def _try(model: str) -> str:
    return f"Try it: redraft ask … --model {shlex.quote(model)}"


COMMAND = TrainCommand(SFT, _stages, _check, lambda *_: None, _finish)
