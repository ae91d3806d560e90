"""`redraft weights`: deltas, conversion, GGUF and adapters, for models of any size.

Each command resolves the arguments (paths, or `org/name` on the hub), calls a module in `redraft.weights`,
and reports the result. Torch is imported only when a command runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.shell import argument, command_line, flag, setting, switch, tell, write
from redraft.cli.verb import group
from redraft.jobs.counting import size_in_words
from redraft.jobs.machine import give_back_large

if TYPE_CHECKING:
    from redraft.weights.output import Run

Out = Annotated[Path, setting("PATH", "Write the output to PATH.", "--out", "-o")]
Force = Annotated[bool, switch("Replace an output that redraft made.", "--force")]
Pickle = Annotated[bool, switch("Read .bin files, with torch's restricted loader.", "--allow-pickle")]
Quiet = Annotated[bool, switch("Hide progress and remarks.", "--quiet", "-q")]
Dtype = Annotated[Literal["fp16", "bf16", "fp32"] | None, flag(None, "The dtype of the result.  [as it is]")]
Adapter = Annotated[str, argument("ADAPTER", "The adapter: a peft folder, or org/name.")]
Base = Annotated[str, argument("BASE", "The base: a folder, a file, or org/name.")]


@dataclass(frozen=True)
class Job:
    """The options for reading and writing files, and for progress."""

    force: Force = False
    allow_pickle: Pickle = False
    quiet: Quiet = False

    @contextmanager
    def run(self, source: Path, model: Path | None = None, ref: str | None = None) -> Iterator[Run]:
        """Show a progress bar, and yield the settings for writing weights. Then print how to use `model`.

        `model` is the output. If it is an adapter, `ref` is the reference to print, which names the base too:
        `BASE.gguf+ADAPTER.gguf`. Warnings make the exit status 1.
        """
        from redraft.weights.output import Run

        warnings: list[str] = []

        def warn(line: str) -> None:
            warnings.append(line)
            tell(f"warning: {line}")

        remark: Callable[[str], None] = (lambda _: None) if self.quiet else tell
        with progress_over(source, self.quiet) as progress:
            yield Run(self.force, self.allow_pickle, command_line(), progress, remark, warn)
        if model and not self.quiet:
            what, size = "an adapter" if ref else "a model", size_in_words(_weight_bytes(model))
            tried = f"Try it: redraft ask … --model {shlex.quote(ref or str(model))}"
            note = " (BASE.gguf is the base as a GGUF file)" * ("BASE.gguf+" in tried)
            tell(f"{model} contains {what} of {size}. {tried}{note}")
        if warnings:
            raise typer.Exit(1)


def diff(
    base: Base,
    target: Annotated[str, argument("TARGET", "The tuned model: a folder, a file, or org/name.")],
    out: Out,
    exact: Annotated[bool, switch("Make a delta that restores the target bit for bit.", "--exact")] = False,
    *,
    job: Job,
) -> None:
    """Make a delta: target minus base.

    The delta has the target's configuration, tokenizer and files. A plain delta, like SelFee's and Vicuna's,
    restores the target except for rounding.
    """
    from redraft.weights.delta import diff as make

    ours, theirs = model_of(base, job.allow_pickle), model_of(target, job.allow_pickle)
    with job.run(theirs) as run:
        make(ours, theirs, out, run, exact=exact)


def apply(
    base: Base,
    delta: Annotated[str, argument("DELTA", "The delta: a folder, a file, or org/name.")],
    out: Out,
    vocab: Annotated[
        Literal["none", "zero", "mean"] | None,
        flag(None, "Values for rows that the base lacks.  [as recorded]"),
    ] = None,
    *,
    job: Job,
) -> None:
    """Apply a delta: base plus delta.

    A wrong base is refused before anything is written. The result has the delta's configuration and
    tokenizer.
    """
    from redraft.weights.delta import apply as make

    ours, theirs = model_of(base, job.allow_pickle), model_of(delta, job.allow_pickle)
    with job.run(theirs) as run:
        make(ours, theirs, out, run, vocab=vocab)


def merge_lora(base: Base, adapter: Adapter, out: Out, dtype: Dtype = None, *, job: Job) -> None:
    """Merge a peft LoRA adapter into its base. A base that is `default` or a GGUF file is dequantised first.

    To merge an adapter FIRST before ADAPTER, give BASE+FIRST.
    """
    from redraft.engines.hf.folders import folder_for
    from redraft.weights.header import FLAGS
    from redraft.weights.lora.merge import merge_lora as make

    folder = folder_for(base, command=command_line())
    model, change = model_of(folder, job.allow_pickle), model_of(adapter, job.allow_pickle)
    with job.run(model, out) as run:
        make(model, change, out, run, dtype=FLAGS.get(dtype or ""))


def lora_gguf(
    adapter: Adapter,
    out: Out,
    base: Annotated[
        str | None, flag("BASE", "The base: a folder, a GGUF file, or default.  [as the adapter says]")
    ] = None,
    *,
    job: Job,
) -> None:
    """Convert a LoRA adapter to a GGUF adapter for llama.cpp.

    Use the result as MODEL.gguf+ADAPTER.gguf.
    """
    from redraft.engines.load import local_path, trained_on, with_gguf
    from redraft.weights.lora.gguf import lora_gguf as make

    change = model_of(adapter, job.allow_pickle)
    named, plus, added = trained_on(change).partition("+")
    if base is None and named == "default":
        base = "default"  # other adapters do not change its shapes
    model = None if base is None else local_path(base)
    with job.run(change, out, with_gguf(f"{base or named}{plus}{added}", str(out))) as run:
        make(change, out, run, base=model)


def convert(
    src: Annotated[str, argument("SRC", "A folder, a file, or org/name.")],
    out: Out,
    dtype: Dtype = None,
    *,
    job: Job,
) -> None:
    """Convert a model's dtype, or .bin files to safetensors.

    Values that become infinite or zero in the new dtype are counted. The exit status is 1 if any value is
    NaN or infinite.
    """
    from redraft.weights.convert import convert as make
    from redraft.weights.header import FLAGS

    source = model_of(src, job.allow_pickle)
    with job.run(source) as run:
        make(source, out, run, dtype=FLAGS.get(dtype or ""))


def gguf(
    src: Annotated[str, argument("SRC", "A folder, or org/name.")],
    out: Out,
    quant: Annotated[
        str, setting("KIND", "Weight format: f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0.")
    ] = "f16",
    *,
    job: Job,
) -> None:
    """Convert a model's folder to a GGUF file for llama.cpp.

    Supports Llama, Mistral, Qwen2 and Qwen3, with tokenizer and chat template. The exit status is 1 if any
    value is NaN or infinite.
    """
    from redraft.weights.gguf.from_folder import export_gguf

    source = model_of(src, job.allow_pickle)
    with job.run(source, out) as run:
        export_gguf(source, out, run, quant=quant)


def from_gguf(
    file: Annotated[str, argument("FILE", "A GGUF file, or default.")],
    out: Out,
    dtype: Dtype = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Convert a GGUF file to a model's folder for transformers.

    Quantised weights are dequantised, so that the model can be trained.
    """
    from redraft.engines.load import local_path
    from redraft.weights.gguf.to_folder import import_gguf
    from redraft.weights.header import FLAGS

    source = local_path(file)
    with Job(force, quiet=quiet).run(source, out) as run:
        import_gguf(source, out, run, dtype=FLAGS.get(dtype or ""))


def verify(
    path: Annotated[str, argument("DIR|FILE", "A folder, a file, or org/name.")],
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Look for faults in a model, delta or adapter.

    Checks that all files are there, that index and headers agree, that no value is NaN or infinite (not in
    GGUF files), and that checksums match the manifest. The exit status is 1 if there is a fault.
    """
    from redraft.weights.verify import verify as look

    source = model_of(path, allow_pickle)
    with progress_over(source, quiet) as progress:
        report = look(source, allow_pickle=allow_pickle, progress=progress)
    write("\n".join(report.lines()))
    if not report.sound:
        raise typer.Exit(1)


def info(
    path: Annotated[str, argument("DIR|FILE", "A folder, a file, default, or org/name.")],
    allow_pickle: Pickle = False,
) -> None:
    """Describe a model, delta or adapter."""
    from redraft.weights.info import describe

    write("\n".join(describe(model_of(path, allow_pickle), allow_pickle=allow_pickle).lines()))


@contextmanager
def progress_over(source: Path, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for a model's weights. Yield the function that advances the bar by bytes."""
    import torch

    from redraft.jobs.progress import ByteProgress

    torch.set_num_threads(1)  # the work waits for the disk, and more threads would only spin
    give_back_large(1 << 20)
    with ByteProgress(_weight_bytes(source), quiet=quiet) as progress:
        yield progress.advance
        progress.done = progress.total or 0  # headers and padding are not reported


def _weight_bytes(path: Path) -> int:
    kinds = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
    for files in ([path], *(list(path.glob(kind)) for kind in kinds)):
        if size := sum(file.stat().st_size for file in files if file.is_file()):
            return size
    return 0


def model_of(ref: str, allow_pickle: bool = False) -> Path:
    """Return the folder or file for a reference. A model on the hub is downloaded."""
    from redraft.engines.load import local_path

    path = local_path(ref)
    if path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", ref):
        return path
    from redraft.jobs.hub import fetch_folder

    return fetch_folder(ref, pickle=allow_pickle)


_COMMANDS = (diff, apply, convert, gguf, from_gguf, merge_lora, lora_gguf, verify, info)
app = group("Deltas, conversion, GGUF and adapters, in bounded memory.", *_COMMANDS)
