"""`redraft weights`: deltas, conversion, GGUF and adapters, for models of any size.

Each command resolves its arguments (paths, or `org/name` on the hub), calls its module in `redraft.weights`,
and reports the result. Torch is imported only when a command runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.allocator import give_back_large
from redraft.cli.shell import Verb, command_line, tell, write

if TYPE_CHECKING:
    from redraft.weights.output import Run

app = typer.Typer(
    help="Deltas, conversion, GGUF and adapters, in bounded memory.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Option("--out", "-o", metavar="PATH", help="The output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that redraft made.")]
Pickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read .bin files, with torch's restricted loader.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress and remarks.")]
Dtype = Annotated[
    Literal["fp16", "bf16", "fp32"] | None,
    typer.Option(help="The dtype of the result.  [as it is]", show_default=False),
]
Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter: a peft folder, or org/name.")]
Base = Annotated[str, typer.Argument(metavar="BASE", help="The base: a folder, a file, or org/name.")]


@app.command(cls=Verb)
def diff(
    base: Base,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The tuned model: a folder, a file, or org/name.")
    ],
    out: Out,
    exact: Annotated[
        bool, typer.Option("--exact", help="Make a delta that restores the target bit for bit.")
    ] = False,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Make a delta: target minus base.

    The delta has the target's configuration, tokenizer and files. A plain delta, like those of SelFee and
    Vicuna, restores the target except for rounding.
    """
    from redraft.weights.delta import diff as make

    ours, theirs = _model(base, allow_pickle), _model(target, allow_pickle)
    with _run(theirs, force, allow_pickle, quiet) as run:
        make(ours, theirs, out, run, exact=exact)


@app.command(cls=Verb)
def apply(
    base: Base,
    delta: Annotated[str, typer.Argument(metavar="DELTA", help="The delta: a folder, a file, or org/name.")],
    out: Out,
    vocab: Annotated[
        Literal["none", "zero", "mean"] | None,
        typer.Option(help="What rows that the base lacks count as.  [detected]", show_default=False),
    ] = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Apply a delta: base plus delta.

    A wrong base is refused before anything is written. The result has the delta's configuration and
    tokenizer. Known faults in old ones are repaired and listed.
    """
    from redraft.weights.delta import apply as make

    ours, theirs = _model(base, allow_pickle), _model(delta, allow_pickle)
    with _run(theirs, force, allow_pickle, quiet) as run:
        make(ours, theirs, out, run, vocab=vocab)


@app.command(cls=Verb)
def convert(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A folder, a file, or org/name.")],
    out: Out,
    dtype: Dtype = None,
    shard_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="The largest file, such as 5GB, or single.  [as it is]", show_default=False
        ),
    ] = None,
    form: Annotated[
        Literal["safetensors", "bin"], typer.Option("--format", help="The file format.")
    ] = "safetensors",
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Convert a model's dtype or files.

    Values that become infinite or zero in the new dtype are counted. The exit status is 1 if any value is
    NaN or infinite.
    """
    from redraft.weights.checkpoint import BIN, SAFETENSORS
    from redraft.weights.convert import Form
    from redraft.weights.convert import convert as make

    source = _model(src, allow_pickle)
    files: Form = BIN if form == "bin" else SAFETENSORS
    with _run(source, force, allow_pickle, quiet) as run:
        size = _size(shard_size) if shard_size else None
        make(source, out, run, dtype=_dtype(dtype), shard_size=size, form=files)


@app.command(cls=Verb)
def gguf(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A folder, or org/name.")],
    out: Out,
    quant: Annotated[
        str,
        typer.Option(metavar="KIND", help="f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0."),
    ] = "f16",
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Convert a model's folder to a GGUF file for llama.cpp.

    Supports Llama, Mistral, Qwen2 and Qwen3, with tokenizer and chat template. The exit status is 1 if any
    value is NaN or infinite.
    """
    from redraft.weights.gguf.from_folder import export_gguf

    source = _model(src, allow_pickle)
    with _run(source, force, allow_pickle, quiet, resumes=False) as run:
        export_gguf(source, out, run, quant=quant)


@app.command("from-gguf", cls=Verb)
def from_gguf(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A GGUF file, or default.")],
    out: Out,
    dtype: Dtype = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Convert a GGUF file to a model's folder for transformers.

    Quantised weights are dequantised, so that the model can be trained.
    """
    from redraft.weights.gguf.to_folder import import_gguf

    source = _local(file)
    with _run(source, force, False, quiet) as run:
        import_gguf(source, out, run, dtype=_dtype(dtype))


@app.command("merge-lora", cls=Verb)
def merge_lora(
    base: Base,
    adapter: Adapter,
    out: Out,
    dtype: Dtype = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Merge a peft LoRA adapter into its base."""
    from redraft.weights.lora.merge import merge_lora as make

    model, change = _model(base, allow_pickle), _model(adapter, allow_pickle)
    with _run(model, force, allow_pickle, quiet) as run:
        make(model, change, out, run, dtype=_dtype(dtype))


@app.command("lora-gguf", cls=Verb)
def lora_gguf(
    adapter: Adapter,
    out: Out,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE",
            help="The base: a folder, a GGUF file, or default.  [as the adapter says]",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Convert a LoRA adapter to a GGUF adapter for llama.cpp.

    Use it as MODEL.gguf+ADAPTER.gguf.
    """
    from redraft.engines.load import trained_on
    from redraft.weights.lora.to_gguf import lora_gguf as make

    change = _model(adapter, allow_pickle)
    if base is None and trained_on(change).partition("+")[0] == "default":
        base = "default"  # its shapes are the same with other adapters added
    model = None if base is None else _local(base)
    with _run(change, force, allow_pickle, quiet, resumes=False) as run:
        make(change, out, run, base=model)


@app.command(cls=Verb)
def verify(
    path: Annotated[str, typer.Argument(metavar="DIR|FILE", help="A folder, a file, or org/name.")],
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Look for faults in a model, delta or adapter.

    Checks that all files are there, that index, shapes, configuration and tokenizer agree, that no value is
    NaN or infinite, and that checksums match the manifest. The exit status is 1 if there is a fault.
    """
    from redraft.weights.inspect.verify import verify as look

    source = _model(path, allow_pickle)
    with _progress(source, quiet, resumes=False) as progress:
        report = look(source, allow_pickle=allow_pickle, progress=progress)
    write("\n".join(report.lines()))
    if not report.sound:
        raise typer.Exit(1)


@app.command(cls=Verb)
def info(
    path: Annotated[str, typer.Argument(metavar="DIR|FILE", help="A folder, a file, default, or org/name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    allow_pickle: Pickle = False,
) -> None:
    """Describe a model, delta or adapter, as a table or JSON."""
    from redraft.weights.inspect.info import describe

    found = describe(_model(path, allow_pickle), allow_pickle=allow_pickle)
    write(json.dumps(found.json(), indent=2, ensure_ascii=False) if as_json else "\n".join(found.lines()))


@contextmanager
def _run(
    source: Path, force: bool, allow_pickle: bool, quiet: bool, *, resumes: bool = True
) -> Iterator[Run]:
    """Prepare a job: its progress over the weights of a file or folder, its remarks and its warnings.

    On an interrupt, say how to resume. Warnings about NaN and infinite values are printed even with --quiet,
    and make the exit status 1.
    """
    from redraft.weights.output import Run

    warnings: list[str] = []

    def warn(line: str) -> None:
        warnings.append(line)
        tell(f"warning: {line}")

    remark: Callable[[str], None] = (lambda _: None) if quiet else tell
    with _progress(source, quiet, resumes=resumes) as progress:
        yield Run(force, allow_pickle, command_line(), progress, remark, warn, caution=tell)
    if warnings:
        raise typer.Exit(1)


@contextmanager
def _progress(source: Path, quiet: bool, *, resumes: bool) -> Iterator[Callable[[int], None]]:
    import torch

    from redraft.jobs.progress import ByteProgress

    torch.set_num_threads(1)  # the work waits for the disk, and more threads would only spin
    give_back_large(1 << 20)
    try:
        with ByteProgress(_weight_bytes(source), quiet=quiet) as progress:
            yield progress.advance
            progress.done = progress.total or 0  # headers and padding are not reported
    except KeyboardInterrupt:
        after = "resumes after the finished files" if resumes else "starts from the beginning"
        tell(f"interrupted. The same command, run again, {after}.")
        raise


def _weight_bytes(path: Path) -> int:
    """Return the bytes of the weights for the progress bar. The job itself reports missing files."""
    kinds = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
    for files in ([path], *(list(path.glob(kind)) for kind in kinds)):
        if size := sum(file.stat().st_size for file in files if file.is_file()):
            return size
    return 0


def _model(ref: str, allow_pickle: bool = False) -> Path:
    """Return the folder or file for a reference. Download a model on the hub."""
    path = _local(ref)
    if path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", ref):
        return path
    from redraft.hub import fetch_folder

    return fetch_folder(ref, pickle=allow_pickle)


def _local(ref: str) -> Path:
    """Return a local path; for `default`, the path of the default model's file."""
    if ref != "default" or Path(ref).exists():
        return Path(ref).expanduser()
    from redraft.engines.load import local_file, parse_reference

    return local_file(parse_reference(ref))


def _dtype(flag: str | None) -> str | None:
    from redraft.weights.dtypes import FLAGS

    return FLAGS[flag] if flag else None


def _size(text: str) -> int:
    """Return a size in bytes: `5GB`, `500 MB`. `single` is larger than any file."""
    from redraft.errors import UsageError

    if text == "single":
        return 1 << 63
    units = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text.strip().upper())
    if not found or found[2] not in units or not float(found[1]):
        raise UsageError(
            f"--shard-size is {text!r}, which is not a size.", hint="Such as 5GB, 500MB, or single."
        )
    return int(float(found[1]) * units[found[2]])
