"""Model references: a short text that names a model.

    default                     the small model that redraft fetches by itself
    path/model.gguf             a file for llama.cpp
    path/folder                 a model of transformers: config.json, weights, tokenizer
    org/name                    a GGUF file of the Hugging Face hub; org/name:Q4_K_M and
                                org/name/file.gguf select one
    http://host/v1#model        a server that speaks the OpenAI protocol
    script:replies.jsonl        canned replies, for tests

Several with commas between them are one name for engines of the same model (`pool`). A comma is part of a
path or address unless `http://`, `https://`, `script:`, `default` or an existing file or folder follows it.

`+path/adapter.gguf` behind a GGUF file, or `+path/adapter-folder` behind a folder, adds a LoRA adapter.
Existing files and folders go before models of the hub.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from redraft import hub
from redraft.config import Config, Key, load_config
from redraft.engines.base import Engine
from redraft.engines.llamacpp import default_model
from redraft.engines.price import price_of
from redraft.engines.retry import Patience
from redraft.engines.scripted import read_script
from redraft.engines.threads import in_daemon_thread
from redraft.errors import MissingExtra, ModelError, UsageError
from redraft.formats.render.conversations import TEMPLATES
from redraft.options import Device, Dtype, MachineOptions

if TYPE_CHECKING:
    from redraft.engines.hf.engine import HfEngine
    from redraft.engines.llamacpp.engine import LlamaCppEngine
    from redraft.engines.remote.batch import Batches

Kind = Literal["default", "gguf", "folder", "hub", "remote", "script"]

FORMS = (
    "default · path/model.gguf · path/folder · org/name[:quantisation] · http://host/v1#model · "
    "script:replies.jsonl; +path/adapter.gguf or +path/adapter-folder adds a LoRA adapter"
)

_BEGINS = re.compile(r"https?://|script:|default(\+|$)", re.IGNORECASE)
"""How a reference begins that may follow a comma."""

_ADAPTER = "adapter_config.json"
_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?::(?P<quantisation>[\w.-]+)|/(?P<file>[\w./-]+\.gguf))?")


@dataclass(frozen=True)
class ModelReference:
    """A parsed model reference.

    Attributes:
        kind: The form of the reference.
        target: A path, a repository `org/name`, or the base address of a server; empty for the default model.
        selects: The model of the server, or the quantisation or file of the repository.
        adapters: Files of LoRA adapters, or folders behind a folder.
    """

    kind: Kind
    target: str = ""
    selects: str | None = None
    adapters: tuple[Path, ...] = ()


def references_of(ref: str) -> tuple[str, ...]:
    """Return the references in a reference: several if it names several engines of one model."""
    if _exists(ref.strip()):
        return (ref.strip(),)
    first, *rest = ref.split(",")
    found = [first]
    for part in rest:
        if _BEGINS.match(part.strip()) or _exists(part.strip()):
            found.append(part)
        else:
            found[-1] += f",{part}"
    return tuple(part.strip() for part in found)


def _exists(text: str) -> bool:
    try:
        return bool(text) and _path(text).exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False


def model_of(ref: str) -> str:
    """Return a reference as records of runs have it.

    Of several servers it is the model's name alone, because the same run may go on with others.
    """
    parts = references_of(ref)
    if len(parts) == 1:
        return ref
    names = [f"#{each.partition('#')[2]}" if _is_address(each) else each for each in parts]
    return ",".join(sorted(set(names)))


def _is_address(ref: str) -> bool:
    return re.match(r"https?://", ref, re.IGNORECASE) is not None


def parse_reference(ref: str) -> ModelReference:
    """Parse a reference of one model. Uses the disk, but not the network.

    Raises:
        UsageError: It has no known form, and the hint lists the forms; or it names several engines.
    """
    try:
        if len(references_of(ref)) > 1:
            raise UsageError(f"{ref!r:.120} names several engines, and one is needed.", hint="Name one.")
        return _parsed(ref.strip())
    except OSError as error:
        message = f"the model reference {ref!r:.80} cannot be looked up: {error.strerror}."
        raise UsageError(message, hint=f"The forms: {FORMS}") from None


def _parsed(ref: str) -> ModelReference:
    if _is_address(ref):
        address, _, model = ref.partition("#")
        return ModelReference("remote", address, model or None)
    if ref.startswith("script:"):
        return ModelReference("script", ref.removeprefix("script:"))
    if _path(ref).exists():
        return _local(ref, ())
    if folder := _folder_with_adapters(ref):
        return folder
    base, adapters = _split_adapters(ref)
    if base == "default":
        return ModelReference("default", adapters=adapters)
    return _local(base, adapters)


def _path(text: str) -> Path:
    """Return a path, with `~` expanded. An unknown `~user` stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _split_adapters(ref: str) -> tuple[str, tuple[Path, ...]]:
    """Split off the adapters. A plus sign inside a path does not count."""
    base, *rest = re.split(r"(?<=\.gguf)\+|(?<=^default)\+|\+(?=[^+]*\.gguf)", ref)
    for name in rest:
        if not name.endswith(".gguf"):
            raise UsageError(f"the adapter {name!r} is not a .gguf file.", hint=_as_gguf(name, base))
    return base, tuple(map(_path, rest))


def _folder_with_adapters(ref: str) -> ModelReference | None:
    """Parse a folder with adapters; None if nothing before a plus sign is a folder."""
    for plus in reversed([match.start() for match in re.finditer(r"\+", ref)]):
        base, rest = ref[:plus], ref[plus + 1 :]
        if base and _path(base).is_dir():
            names = [rest] if _path(rest).exists() else rest.split("+")
            for name in names:
                _check_adapter_folder(base, name)
            return ModelReference("folder", str(_path(base)), adapters=tuple(map(_path, names)))
    return None


def _check_adapter_folder(base: str, name: str) -> None:
    """Raise unless the adapter of a folder is a folder. Its content is checked when it is loaded."""
    if name.endswith(".gguf"):
        raise UsageError(
            f"{name} is an adapter for llama.cpp, and {base} is a folder of transformers.",
            hint=f"Name the adapter's folder, or use both as GGUF: redraft weights gguf {base}",
        )
    if not name or not _path(name).is_dir():
        raise UsageError(f"there is no adapter folder {name!r}.", hint=f"--model {base}+path/adapter-folder")


def _as_gguf(adapter: str, base: str) -> str:
    """Return a hint for using an adapter folder with llama.cpp."""
    if not (_path(adapter) / _ADAPTER).is_file():
        return "Convert an adapter folder: redraft weights lora-gguf FOLDER -o FILE.gguf"
    file = f"{adapter.rstrip('/')}.gguf"
    return f"redraft weights lora-gguf {adapter} -o {file}, and then: --model {base}+{file}"


def _local(base: str, adapters: tuple[Path, ...]) -> ModelReference:
    """Parse a file, a folder, or a repository of the hub, which looks like a path."""
    path = _path(base)
    if path.is_dir() and base:
        return ModelReference("folder", str(path), adapters=adapters)
    named = _HUB.fullmatch(base)
    of_hub = named and (named["file"] or not base.lower().endswith(".gguf"))
    if named and of_hub and not path.exists() and not Path(base.split("/")[0]).is_dir():
        return ModelReference("hub", named["repo"], named["quantisation"] or named["file"], adapters)
    if base.lower().endswith(".gguf"):
        return ModelReference("gguf", str(path), adapters=adapters)
    if base and path.exists():
        raise UsageError(f"{base} is no model: its name does not end in .gguf.", hint=f"The forms: {FORMS}")
    found = "is not a known form or an existing file" if base else "is empty"
    like_address = re.match(r"[\w.-]+:\d+(/|$)", base)
    hint = f"Did you mean http://{base}?" if like_address else f"The forms: {FORMS}"
    if get_close_matches(base.lower(), ["default"]):
        hint = "Did you mean 'default'?"
    raise UsageError(f"the model reference {base!r} {found}.", hint=hint)


async def load_engine(
    ref: str,
    *,
    ctx: int | None = None,
    threads: int | None = None,
    gpu_layers: int | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
    load_8bit: bool | None = None,
    chat_template: str | None = None,
    parallel: int = 1,
    speculate: bool | None = None,
    config: Config | None = None,
    patience: Patience | None = None,
    batches: Batches | None = None,
) -> Engine:
    """Open the engine of a model reference.

    Args:
        ref: As at the top of this module.
        ctx: Context of a chain in tokens, for models on this machine; None for the engine's default.
        threads: For models on this machine; None for the engine's default.
        gpu_layers: For llama.cpp; None for its default. 0 keeps a folder off the GPU too.
        dtype: What a folder of transformers computes in: float32, bfloat16 or float16; None for what suits
            weights and machine.
        device: cpu, cuda or mps; None for a GPU if there is one.
        load_8bit: Keep most weights of a folder of transformers in 8 bits.
        chat_template: The format of conversations, vicuna, stablevicuna or selfee; None for the model's own.
        parallel: Streams at once, for models on this machine.
        speculate: Speculative decoding from earlier drafts, for llama.cpp; None where it pays off.
        config: Holds keys and prices; None for the user's file.
        patience: Time-outs, retries and rates for servers; None for the defaults.
        batches: Ask a server in these batches. `JournaledEngine` has to be around the engine then.

    Raises:
        UsageError: A wrong reference or setting, or a part that is not installed.
        EngineError: The model cannot be loaded, or its server does not answer.
    """
    machine: Any = {
        "ctx": ctx,
        "threads": threads,
        "gpu_layers": gpu_layers,
        "dtype": dtype,
        "device": device,
        "load_8bit": load_8bit,
        "chat_template": chat_template,
    }
    MachineOptions.read(machine)
    if parallel < 1:
        raise UsageError(f"parallel is {parallel}.", hint="At least one stream at once.")
    if len(parts := references_of(ref)) > 1:
        if batches:
            raise UsageError("batches are sent to one server.", hint="Name one, or leave out --batch.")
        how = {**machine, "parallel": ceil(parallel / len(parts)), "speculate": speculate, "config": config}
        return await _pool(parts, patience or Patience(), how)
    named = parse_reference(ref)
    _check_machine(named, device, gpu_layers, load_8bit, chat_template)
    if named.kind == "remote":
        return await _remote(named, config, patience or Patience(), batches)
    if named.kind == "script":
        return read_script(Path(named.target))
    settings: dict[str, Any] = {"ctx": ctx, "threads": threads, "parallel": parallel}
    engine: LlamaCppEngine | HfEngine
    if named.kind == "folder":
        more: dict[str, Any] = {"dtype": dtype, "device": device, "load_8bit": bool(load_8bit)}
        engine = await _folder(named, gpu=gpu_layers != 0, **more, **settings)
    else:
        layers = 0 if device == "cpu" else gpu_layers
        gpu = device in ("cuda", "mps")
        engine = await _llamacpp(named, gpu_layers=layers, gpu=gpu, speculate=speculate, **settings)
    if chat_template:
        engine.converse(TEMPLATES[chat_template])
    if price := price_of((config or load_config()).prices.get(ref)):
        engine.charge(price)
    return engine


async def _pool(parts: Sequence[str], patience: Patience, how: Mapping[str, Any]) -> Engine:
    from redraft.engines.pool import PoolEngine

    # The pool waits and tells of it, and only if no member works.
    once = replace(patience, tries=1, outage=0.0, tell=lambda _: None)
    each = [(part, partial(load_engine, part, patience=once, **how)) for part in parts]
    return await PoolEngine.start(each, patience)


def _check_machine(
    named: ModelReference,
    device: Device | None,
    gpu_layers: int | None,
    load_8bit: bool | None,  # noqa: FBT001  (as in `load_engine`)
    chat_template: str | None,
) -> None:
    """Refuse settings that contradict each other, or that this kind of model does not have."""
    if device == "cpu" and gpu_layers:
        raise UsageError(f"device is cpu, and gpu_layers is {gpu_layers}.", hint="Leave out one of the two.")
    if chat_template and named.kind in ("remote", "script"):
        raise UsageError(
            f"chat_template is {chat_template!r}, and a server writes its prompts itself.",
            hint="Give the template to the server. Or load the model here: --model path/model.gguf",
        )
    if load_8bit and named.kind != "folder":
        raise UsageError(
            "load_8bit is for folders of transformers.",
            hint="Make a GGUF file of 8 bits: redraft weights gguf FOLDER -o FILE.gguf --quant q8_0",
        )


async def _llamacpp(named: ModelReference, **settings: Any) -> LlamaCppEngine:
    if not importlib.util.find_spec("xllamacpp"):
        raise MissingExtra("a model on this machine", "local")
    from redraft.engines.llamacpp.engine import LlamaCppEngine

    path = await in_daemon_thread(lambda: local_file(named))
    return await LlamaCppEngine.start(path, named.adapters, **settings)


def local_file(named: ModelReference) -> Path:
    """Return the file of a `default`, `gguf` or `hub` reference, and fetch it if necessary. Blocks.

    Raises:
        ModelError: The file is missing and cannot be fetched, or is damaged.
    """
    if named.kind == "hub":
        return hub.fetch(named.target, named.selects)
    if named.kind == "gguf":
        return Path(named.target)
    found = default_model.cached_default()
    if found is None and not sys.stderr.isatty():
        raise ModelError("the default model was not fetched yet.", hint="redraft model get default")
    return found or default_model.fetch_default(show=True)


async def _remote(
    named: ModelReference, config: Config | None, patience: Patience, batches: Batches | None
) -> Engine:
    from redraft.engines.remote.engine import RemoteEngine
    from redraft.engines.remote.server import Server

    prices = config or load_config()

    def find_key() -> Key | None:
        return (config or load_config()).key_for(named.target)

    return await RemoteEngine.connect(
        named.target,
        named.selects,
        key=find_key(),
        patience=patience,
        find_key=find_key,
        price_of=lambda model: price_of(prices.price_for(named.target, model)),
        reach=batches.reach if batches else Server,
    )


async def _folder(named: ModelReference, **settings: Any) -> HfEngine:
    path = Path(named.target)
    if not (path / "config.json").exists():
        raise _no_model(path)
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        raise MissingExtra("a folder of transformers", "train")
    from redraft.engines.hf.engine import HfEngine

    return await HfEngine.start(path, named.adapters, **settings)


def _no_model(path: Path) -> UsageError:
    files = _names(path.glob("*.gguf"))
    if files:
        return UsageError(
            f"{path} is a folder. It holds {', '.join(files)}.", hint=f"--model {path / files[0]}"
        )
    if (path / _ADAPTER).exists():
        return _no_base(path, trained_on(path))
    if saved := sorted(_names(path.glob("checkpoint-*")), key=len):
        return UsageError(f"{path} is a folder of checkpoints.", hint=f"--model {path / saved[-1]}")
    return UsageError(
        f"the folder {path} has no model: no .gguf file and no config.json.",
        hint=f"The forms: {FORMS}",
    )


def _no_base(adapter: Path, base: str) -> UsageError:
    if base == "default" or base.lower().endswith(".gguf"):
        hint = _as_gguf(str(adapter), base)
    else:
        hint = f"--model {base if base and _path(base).is_dir() else 'path/folder'}+{adapter}"
    named = f": {base:.120}" if base else ""
    return UsageError(
        f"{adapter} is an adapter, and needs the model that it was trained on{named}.", hint=hint
    )


def lacks_adapter(ref: str) -> str | None:
    """Return a warning if the adapter was trained on this model plus another adapter, which `ref` lacks.

    Other bases are not compared, because one model may have many names.

    Raises:
        UsageError: `ref` is not a reference.
        ModelError: The adapter cannot be read.
    """
    if len(references_of(ref)) > 1:
        return None
    named = parse_reference(ref)
    if len(named.adapters) != 1:
        return None
    base, _, adapter = ref.rpartition("+")
    trained = trained_on(named.adapters[0])
    if not trained.startswith(f"{base}+"):
        return None
    return f"{adapter} was trained on {trained:.120}, but only {base} is loaded."


def trained_on(adapter: Path) -> str:
    """Return the base model that an adapter folder or GGUF file names; empty if it names none.

    Raises:
        ModelError: The adapter cannot be read.
    """
    from redraft.weights.checkpoint import read_json
    from redraft.weights.gguf.reader import read_header

    if adapter.is_file():
        return read_header(adapter).text("redraft.base") or ""
    named = read_json(adapter / _ADAPTER).get("base_model_name_or_path")
    return named if isinstance(named, str) else ""


def _names(paths: Iterable[Path]) -> list[str]:
    return sorted(path.name for path in paths)
