"""Parse model references (short texts that name a model; see docs/engines.md), and open engines.

References joined by commas name several engines of one model (`pool`). A comma begins a new reference only
before one of these: an address, a known `NAME:`, a name such as `default`, an existing file or folder.

Existing files and folders take precedence over models on the hub, and over `small`, `medium` and `large`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast
from urllib.parse import urlsplit

from redraft.engines.base import Engine, EngineInfo, EngineRole, price_of
from redraft.engines.config import Config, load_config
from redraft.engines.llamacpp import default_model
from redraft.engines.names import BY_NAME, SERVERS, guess, memory_of, variable_of
from redraft.engines.retry import Patience
from redraft.engines.wrapped import GuardedEngine, RoleEngine, references_by_role
from redraft.errors import EngineError, MissingExtra, ModelError, OutputError, UsageError, shown
from redraft.jobs import hub
from redraft.jobs.machine import has_gpu
from redraft.jobs.plugins import OWN, Kind, load_all, plugins
from redraft.jobs.signals import in_daemon_thread
from redraft.options import EngineName, MachineKeywords, MachineOptions

if TYPE_CHECKING:
    from redraft.engines.hf.engine import HfEngine
    from redraft.engines.local import LocalEngine
    from redraft.engines.openvino.engine import OpenVinoEngine
    from redraft.engines.remote.batch import Batches
    from redraft.weights.tokenizers.from_gguf import TokenCount

_log = logging.getLogger(__name__)

_BESIDE = "; to add a LoRA adapter, append +path/adapter.gguf (after a folder: +path/adapter-folder)"

_ADAPTER = "adapter_config.json"
DEFAULTS = ("default", "default-base")  # for training, merging and adding adapters, both mean the bare model
_NAMES = (*DEFAULTS, *BY_NAME)
_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?::(?P<quantisation>[\w.-]+)|/(?P<file>[\w./-]+\.gguf))?")


@dataclass(frozen=True)
class ModelReference:
    """A parsed model reference."""

    kind: str  # the plugin that opens it: default, gguf, folder, hub, remote, script, or a package's plugin
    target: str = ""
    selects: str | None = None  # the model of the server, or the quantisation or file of the repository
    adapters: tuple[Path, ...] = ()  # LoRA adapters without a role
    # Adapters by role; empty if no adapter is bound to a role (`engines.wrapped`).
    roles: Mapping[EngineRole, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def shipped(self) -> bool:
        """Whether the model is `default` or `default-base`, without a user's adapters."""
        return self.kind == "default" and not self.adapters and self.roles in ({}, default_model.ADAPTERS)


@dataclass(frozen=True)
class Opening:
    """The arguments for opening an engine. `ref` is the unparsed reference."""

    ref: str
    machine: MachineOptions
    parallel: int
    fast: bool
    config: Config | None
    patience: Patience
    batches: Batches | None


@dataclass(frozen=True)
class EngineKind(Kind):
    """A kind of engine, from a plugin in the group `redraft.engines`."""

    form: str  # the form of its references, such as `NAME:TARGET`
    open: Callable[[ModelReference, Opening], Awaitable[Engine]]
    # Returns JSON values that distinguish the model of a reference from every other model.
    identity: Callable[[ModelReference], Any] = lambda named: {"kind": named.kind, "target": named.target}
    engines: tuple[EngineName, ...] = ()  # the values of the option `engine` that it accepts
    renders: bool = False  # whether it accepts a `chat_template`; checked before opening


def kind_of(named: ModelReference) -> EngineKind:
    """Return the engine kind of a reference. Raise `PluginError` if the kind's package cannot be loaded."""
    return plugins("redraft.engines")[named.kind].load(EngineKind)


def forms() -> str:
    """Return a line with all forms of a model reference, for the hints of errors."""
    return " · ".join(kind.form for kind in load_all("redraft.engines", EngineKind).values()) + _BESIDE


def references_of(ref: str) -> tuple[str, ...]:
    """Split a comma-separated text into references, one for each engine. Resolve short names of servers."""
    if _exists(ref.strip()):
        return (ref.strip(),)
    first, *rest = ref.split(",")
    found = [first]
    for part in rest:
        name = part.strip()
        is_other = _is_address(_spelled_out(name)) or _named(name) or name.partition("+")[0] in _NAMES
        if is_other or _exists(name):
            found.append(part)
        else:
            found[-1] += f",{part}"
    return tuple(_spelled_out(part.strip()) for part in found)


def _spelled_out(ref: str) -> str:
    name, colon, model = ref.partition(":")
    if not colon or not re.fullmatch(r"[\w-]+", name) or _is_address(ref) or _named(ref):
        return ref
    known = SERVERS.get(name)
    url = load_config().servers.get(name) or (known.url if known else None)
    return f"{url}#{model}" if url and model else url or ref


def _named(ref: str) -> ModelReference | None:
    name, colon, target = ref.partition(":")
    if not colon or not re.fullmatch(r"[\w-]+", name):
        return None
    plugin = plugins("redraft.engines").get(name)
    return ModelReference(name, target) if plugin and (plugin.package != OWN or name == "script") else None


def _exists(text: str) -> bool:
    try:
        return bool(text) and _path(text).exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False


def model_of(ref: str) -> str:
    """Return a reference in the form that run records store.

    A name such as `small` is resolved. For several servers, return only the model's name.
    """
    parts = references_of(ref)
    if len(parts) == 1:
        (ref,) = parts
        name, plus, adapters = ref.partition("+")
        # Resolved, because a later version may recommend another model.
        return ref if _exists(name) or name not in BY_NAME else f"{BY_NAME[name].ref}{plus}{adapters}"
    # The run may resume with other servers.
    names = [f"#{each.partition('#')[2]}" if _is_address(each) else each for each in parts]
    return ",".join(sorted(set(names)))


def _is_address(ref: str) -> bool:
    return re.match(r"https?://", ref, re.IGNORECASE) is not None


def parse_reference(ref: str) -> ModelReference:
    """Parse a reference to one model. This reads the disk, but uses no network.

    Raises:
        UsageError: `ref` has no known form, or names several engines.
    """
    if roles := references_by_role(ref):
        named = {role: parse_reference(each) for role, each in roles.items()}
        return replace(named[""], roles={role: each.adapters for role, each in named.items()})
    try:
        text, *others = references_of(ref)
        if others:
            raise UsageError(f"{ref!r:.120} names several engines, but one is needed.", hint="Give only one.")
        if _is_address(text):
            address, _, model = text.partition("#")
            return ModelReference("remote", address, model or None)
        if found := _named(text):
            return found
        if _path(text).exists():
            return _local(text, ())
        if folder := _folder_with_adapters(text):
            return folder
        # A plus sign inside a path is not a separator.
        base, *rest = re.split(r"(?<=\.gguf)\+|(?<=^default)\+|(?<=^default-base)\+|\+(?=[^+]*\.gguf)", text)
        for name in rest:
            if not name.endswith(".gguf"):
                raise UsageError(f"the adapter {name!r} is not a .gguf file.", hint=_as_gguf(name, base))
        adapters = tuple(map(_path, rest))
        return _default(base, adapters) if base in DEFAULTS else _local(base, adapters)
    except OSError as error:
        message = f"the model reference {ref!r:.80} cannot be looked up: {error.strerror}."
        raise UsageError(message, hint=f"The forms: {forms()}") from None


def _default(name: str, adapters: tuple[Path, ...]) -> ModelReference:
    bare = name == "default-base" or adapters
    return ModelReference("default", adapters=adapters, roles={} if bare else default_model.ADAPTERS)


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):  # no such user, or a zero byte
        return Path(text)


def _folder_with_adapters(ref: str) -> ModelReference | None:
    for plus in reversed([match.start() for match in re.finditer(r"\+", ref)]):
        base, rest = ref[:plus], ref[plus + 1 :]
        if base and _path(base).is_dir():
            names = [rest] if _path(rest).exists() else rest.split("+")
            for name in names:  # a folder's content is checked when it is loaded
                if name.endswith(".gguf"):
                    message = f"{name} is an adapter for llama.cpp, but {base} is a transformers folder."
                    hint = f"Name the adapter's folder, or: redraft weights gguf {base} -o FILE.gguf"
                    raise UsageError(message, hint=hint)
                if not name or not _path(name).is_dir():
                    hint = f"--model {base}+path/adapter-folder"
                    raise UsageError(f"there is no adapter folder {name!r}.", hint=hint)
            return ModelReference("folder", str(_path(base)), adapters=tuple(map(_path, names)))
    return None


def _as_gguf(adapter: str, base: str) -> str:
    if not (_path(adapter) / _ADAPTER).is_file():
        if (_path(adapter) / "config.json").is_file():
            return f"It is a whole model: --model {adapter}"
        return "Convert an adapter folder: redraft weights lora-gguf FOLDER -o FILE.gguf"
    file = f"{adapter.rstrip('/')}.gguf"
    made = "" if _path(file).is_file() else f"redraft weights lora-gguf {adapter} -o {file}, and then: "
    return f"{made}--model {'default-base' if base in DEFAULTS else base}+{file}"


def _local(base: str, adapters: tuple[Path, ...]) -> ModelReference:
    path = _path(base)
    if path.is_dir() and base:
        return ModelReference("folder", str(path), adapters=adapters)
    if base in BY_NAME and not path.exists():
        return _local(BY_NAME[base].ref, adapters)
    named = _HUB.fullmatch(base)
    of_hub = named and (named["file"] or not base.lower().endswith(".gguf"))
    if named and of_hub and not path.exists() and not Path(base.split("/")[0]).is_dir():
        return ModelReference("hub", named["repo"], named["quantisation"] or named["file"], adapters)
    if base.lower().endswith(".gguf"):
        return ModelReference("gguf", str(path), adapters=adapters)
    if base and path.exists():
        raise UsageError(f"{base} is not a model: it does not end in .gguf.", hint=f"The forms: {forms()}")
    found = "is neither a known form nor an existing file" if base else "is empty"
    raise UsageError(f"the model reference {base!r} {found}.", hint=_meant(base))


def _meant(ref: str) -> str:
    name, colon, model = ref.partition(":")
    if "," in ref:
        from redraft.engines.pool import ONE_MODEL

        return f"{ONE_MODEL} The forms: {forms()}"
    if re.match(r"[\w.-]+:\d+(/|$)", ref):
        return f"Did you mean http://{ref if '/' in ref else f'{ref}/v1'}?"
    if close := get_close_matches(ref.lower(), _NAMES):
        return f"Did you mean {close[0]!r}?"
    if colon and (close := get_close_matches(name.lower(), SERVERS)):
        return f"Did you mean {f'{close[0]}:{model}'!r}?"
    if guessed := guess(ref):
        server = SERVERS[guessed.partition(":")[0]]
        key = f" Put its key into ${server.variable}." if server.variable else ""
        return f"Did you mean {guessed!r}?{key}"
    return f"The forms: {forms()}"


async def load_engine(
    ref: str,
    *,
    parallel: int = 1,
    fast: bool = False,
    config: Config | None = None,
    patience: Patience | None = None,
    batches: Batches | None = None,
    **machine: Unpack[MachineKeywords],
) -> Engine:
    """Open the engine of a model reference.

    Args:
        ref: A model reference (docs/engines.md), such as `default` or `http://host/v1#NAME`.
        parallel: The number of chains that a local model writes at once.
        fast: Prefer OpenVINO to llama.cpp for a GGUF file on a CPU, if `engine` is not set and OpenVINO can
            read the file. OpenVINO is faster for many streams, but ignores `Sampling.form` and tools.
        config: Keys and prices; None for the user's config file.
        patience: Time limits and retries (`engines.retry.Patience`).
        batches: Send requests to a server's batch API.
        **machine: Options for a local model (docs/options.md): `engine`, `ctx`, `threads`,
            `gpu_layers`, `dtype`, `device`, `speculate` and `chat_template`.

    Raises:
        UsageError: The reference or a setting is wrong, or a needed package is not installed.
        EngineError: The model cannot be loaded, or the server does not answer.
    """
    told = MachineOptions.read(machine)
    if not isinstance(ref, str):
        raise UsageError(f"the model reference is {shown(ref)}, not a text.", hint=f"The forms: {forms()}")
    if parallel < 1:
        raise UsageError(f"parallel is {parallel}, but must be at least 1.", hint="Set it to 1 or more.")
    opening = Opening(ref, told, parallel, fast, config, patience or Patience(), batches)
    if len(parts := references_of(ref)) > 1:
        if batches:
            raise UsageError("batches need exactly one server.", hint="Name one server, or omit --batch.")
        from redraft.engines.pool import PoolEngine

        # Only the pool waits and reports the wait, and only if no member works.
        once = replace(opening.patience, tries=1, outage=0.0, tell=lambda _: None)
        each = replace(opening, patience=once, parallel=ceil(parallel / len(parts)))
        opens = [(part, partial(_opened, part, each)) for part in parts]
        return await PoolEngine.start(opens, opening.patience)
    return await _opened(ref, opening)


async def _opened(ref: str, opening: Opening) -> Engine:
    named = parse_reference(ref)
    kind, plugin = kind_of(named), plugins("redraft.engines")[named.kind]
    _check_machine(ref, named, opening.machine, kind)
    check_files(ref)
    if plugin.package == OWN:
        return await kind.open(named, replace(opening, ref=ref))
    with plugin.running():
        engine: object = await kind.open(named, replace(opening, ref=ref))
        info = getattr(engine, "info", None)
    if not isinstance(info, EngineInfo) or Engine not in type(engine).__mro__:
        raise plugin.fault(f"opened {engine!r:.60}, which is not an Engine with an EngineInfo as `info`.")
    return GuardedEngine(cast("Engine", engine))


def check_files(ref: str) -> None:
    """Raise the error that `load_engine` would raise for a missing file or folder. Fetch nothing."""
    for named in map(parse_reference, references_of(ref)):
        path, file = Path(named.target), {"gguf": "model file", "script": "script"}.get(named.kind)
        if named.kind == "folder" and not (path / "config.json").exists():
            raise _no_model(path)
        if file and not path.exists():
            here = "" if path.is_absolute() else f" The current folder is {Path.cwd()}."
            raise ModelError(f"there is no {file} {path}.", hint=f"Check the path.{here}")


def _check_machine(ref: str, named: ModelReference, machine: MachineOptions, kind: EngineKind) -> None:
    if machine.engine and machine.engine not in kind.engines:
        what, hint = "GGUF file", "Make one: redraft weights gguf FOLDER -o FILE.gguf"
        if machine.engine == "hf":
            what, hint = "transformers folder", "Make one: redraft weights from-gguf FILE.gguf -o FOLDER"
        raise UsageError(f"engine is {machine.engine!r}, but {ref:.120} is not a {what}.", hint=hint)
    if machine.device == "cpu" and machine.gpu_layers:
        message = f"device is cpu, but gpu_layers is {machine.gpu_layers}, which needs a GPU."
        raise UsageError(message, hint="Leave out device or gpu_layers.")
    if machine.chat_template and not kind.renders:
        what = {"remote": "a server", "script": "a script"}.get(named.kind, f"the engine {named.kind!r}")
        message = f"chat_template is {machine.chat_template!r}, but {what} does not use it."
        own = "Set the template in the server" if named.kind == "remote" else "Leave it out"
        hint = f"{own}, or load a model here: --model path/model.gguf"
        raise UsageError(message, hint=hint)


async def _gguf(named: ModelReference, opening: Opening) -> Engine:
    path, machine = await in_daemon_thread(lambda: local_file(named)), opening.machine
    if machine.engine == "openvino":
        return await _openvino(path, named, opening)
    on_cpu = machine.device == "cpu" or machine.gpu_layers == 0
    on_cpu = on_cpu or not (machine.device or machine.gpu_layers or has_gpu())
    if opening.fast and not machine.engine and has_openvino() and on_cpu:
        try:
            return await _openvino(path, named, opening)
        except (EngineError, OutputError) as error:
            _log.warning("%s runs on llama.cpp instead of OpenVINO: %s", opening.ref, error.message)
    if not has_llamacpp():
        raise MissingExtra("a local model", "local")
    from redraft.engines.llamacpp.engine import LlamaCppEngine

    engine = await LlamaCppEngine.start(
        path, named.adapters, named.roles, machine=machine, parallel=opening.parallel
    )
    return _finished(engine, named.roles.get("revise", named.adapters), named, opening)


def has_llamacpp() -> bool:
    """Return whether llama.cpp is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def has_openvino() -> bool:
    """Return whether the packages of the OpenVINO engine are installed."""
    needed = ("openvino_genai", "gguf", "jinja2", "numpy", "tokenizers")
    return os.name == "posix" and all(map(importlib.util.find_spec, needed))


async def _openvino(path: Path, named: ModelReference, opening: Opening) -> Engine:
    if os.name != "posix":
        raise UsageError("OpenVINO in redraft needs Linux or macOS.", hint="Use --engine llamacpp, or WSL 2.")
    if not has_openvino():
        raise MissingExtra("the OpenVINO engine", "cpu")
    from redraft.engines.openvino.engine import OpenVinoEngine

    return await _by_role(OpenVinoEngine, path, named, opening)


async def _folder(named: ModelReference, opening: Opening) -> Engine:
    path = Path(named.target)
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        raise MissingExtra("a transformers folder", "train")
    from redraft.engines.hf.engine import HfEngine

    return await _by_role(HfEngine, path, named, opening)


async def _by_role(
    kind: type[HfEngine | OpenVinoEngine], path: Path, named: ModelReference, opening: Opening
) -> Engine:

    async def start(adapters: tuple[Path, ...]) -> Engine:
        engine = await kind.start(path, adapters, machine=opening.machine, parallel=opening.parallel)
        return _finished(engine, adapters, named, opening)

    if not named.roles:
        return await start(named.adapters)
    opens = {role: partial(start, bound) for role, bound in named.roles.items()}
    return RoleEngine(opens, await opens[""](), _certain(named.roles["revise"]))


def _certain(adapters: Iterable[Path]) -> float:
    shares = (_said_by(adapter, "redraft.certain", "redraft_certain") for adapter in adapters)
    return max((each for each in shares if isinstance(each, float) and 0 < each <= 1), default=0.0)


def _finished(
    engine: LocalEngine, adapters: Iterable[Path], named: ModelReference, opening: Opening
) -> Engine:
    engine.trust(_certain(adapters), shipped=named.shipped, adapters=named.adapters)
    trained = "selfee" if engine.info.native and not named.roles else None
    if template := opening.machine.chat_template or trained:
        from redraft.chain.spans import TEMPLATES

        engine.converse(TEMPLATES[template])
    return engine


async def _remote(named: ModelReference, opening: Opening) -> Engine:
    from redraft.engines.remote.engine import RemoteEngine
    from redraft.engines.remote.server import Server

    config = opening.config or load_config()
    key = config.key_for(named.target)
    variable = variable_of(urlsplit(named.target).hostname or "")
    if key is None and variable:
        hint = f"export {variable}=…"
        raise UsageError(f"{named.target} needs a key, but ${variable} is not set.", hint=hint)
    return await RemoteEngine.connect(
        named.target,
        named.selects,
        key=key,
        patience=opening.patience,
        price_of=lambda model: price_of(config.price_for(named.target, model)),
        reach=opening.batches.reach if opening.batches else Server,
    )


def _files(path: Path, named: ModelReference) -> Any:
    def of(path: Path) -> list[tuple[str, int, int]]:
        resolved = path.resolve()
        inside = sorted(each for each in resolved.rglob("*") if each.is_file())
        files = inside if path.is_dir() else [resolved]
        return [(str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in files]

    roles = {role: [of(each) for each in bound] for role, bound in named.roles.items()}
    files = [of(each) for each in (path, *named.adapters)]
    return {"kind": named.kind, "files": files} | ({"roles": roles} if roles else {})


def _of_gguf(form: str) -> EngineKind:
    return EngineKind(
        form, _gguf, lambda named: _files(local_file(named), named), ("llamacpp", "openvino"), renders=True
    )


DEFAULT = _of_gguf("default")
GGUF = _of_gguf("path/model.gguf")
HUB = _of_gguf("org/name[:quantisation]")
FOLDER = EngineKind(
    "path/folder", _folder, lambda named: _files(Path(named.target), named), ("hf",), renders=True
)
REMOTE = EngineKind(
    "openai:model · ollama:model · http://host/v1#model",
    _remote,
    lambda named: {"server": named.target, "model": named.selects},
)


async def _script(named: ModelReference, _opening: Opening) -> Engine:
    from redraft.engines.scripted import read_script

    return read_script(Path(named.target))


SCRIPT = EngineKind("script:replies.jsonl", _script, lambda named: _files(Path(named.target), named))


def identity_of(reference: str) -> Any:
    """Return JSON values that identify a reference's model: server, files, adapters.

    Files are identified by path, size and modification time. A missing `hub` or `default` model is fetched.
    """
    if len(parts := references_of(reference)) > 1:
        # It does not matter which of several servers has the model.
        models = [identity_of(part) for part in parts]
        found = [{"servers": "several", "model": m["model"]} if "server" in m else m for m in models]
        return found[0] if all(each == found[0] for each in found) else found
    named = parse_reference(reference)
    return kind_of(named).identity(named)


def fetches(ref: str) -> bool:
    """Return whether opening a reference would fetch a model."""
    for named in map(parse_reference, references_of(ref)):
        if named.kind == "hub" and hub.find(named.target, named.selects) is None:
            return True
        if named.kind == "default" and not default_model.DEFAULT.path.exists():
            return True
    return False


def local_file(named: ModelReference) -> Path:
    """Return the file of a `default`, `gguf` or `hub` reference. If necessary, fetch the file. This blocks.

    Raises:
        ModelError: The file is missing and cannot be fetched, or is damaged.
    """
    if named.kind == "hub":
        return hub.fetch(named.target, named.selects, memory_of(named.target, named.selects))
    if named.kind == "gguf":
        return Path(named.target)
    found = default_model.cached_default()
    if found is None and not sys.stderr.isatty():
        raise ModelError("the default model has not been fetched yet.", hint="redraft model get default")
    return found or default_model.fetch_default()


def local_path(ref: str) -> Path:
    """Return the path that `ref` names; for `default` and `default-base`, the default model's file."""
    if ref not in DEFAULTS or Path(ref).exists():
        return Path(ref).expanduser()
    return local_file(parse_reference(ref))


def token_count(ref: str) -> TokenCount:
    """Load the tokenizer of a folder or model, and return a token counter."""
    from redraft.weights.tokenizers.from_gguf import TokenCount

    path = Path(ref)
    found = path / "tokenizer.json" if path.is_dir() else path
    if not (found.name == "tokenizer.json" and found.is_file()):
        named = None
        with suppress(UsageError):  # its hint would list models without tokenizers
            named = None if path.is_dir() else parse_reference(ref)
        if named is None or named.kind not in ("default", "gguf", "hub") or named.adapters:
            raise UsageError(
                f"{ref} has no tokenizer.json." if path.exists() else f"there is no tokenizer {ref!r:.120}.",
                hint="--tokenizer accepts a folder with tokenizer.json, a GGUF file, org/name, or 'default'.",
            )
        found = local_file(named)
    count = TokenCount(found)
    count("")
    return count


def _no_model(path: Path) -> UsageError:
    if files := sorted(each.name for each in path.glob("*.gguf")):
        message = f"{path} is a folder of GGUF files: {', '.join(files)}."
        return UsageError(message, hint=f"--model {path / files[0]}")
    if (path / _ADAPTER).exists():
        base = trained_on(path)
        if base in DEFAULTS or base.lower().endswith(".gguf"):
            hint = _as_gguf(str(path), base)
        else:
            hint = f"--model {base if base and _path(base).is_dir() else 'path/folder'}+{path}"
        named = f": {base:.120}" if base else ""
        message = f"{path} is an adapter, which needs the model that it was trained on{named}."
        return UsageError(message, hint=hint)
    if saved := sorted((each.name for each in path.glob("checkpoint-*")), key=lambda name: (len(name), name)):
        return UsageError(f"{path} contains checkpoints, but no model.", hint=f"--model {path / saved[-1]}")
    message = f"the folder {path} has no model: no .gguf file and no config.json."
    return UsageError(message, hint=f"The forms: {forms()}")


def trained_on(adapter: Path) -> str:
    """Return the base model that an adapter (a folder or GGUF file) names; "" if the adapter names none."""
    named = _said_by(adapter, "redraft.base", "base_model_name_or_path")
    return named if isinstance(named, str) else ""


def with_gguf(ref: str, adapter: str) -> str:
    """Return `ref` plus an adapter as a reference to GGUF files, such as `default-base+lora.gguf`."""
    base, *added = ref.split("+")
    base = "default-base" if base in DEFAULTS else base if base.lower().endswith(".gguf") else "BASE.gguf"
    return "+".join((base, *(f"{each.rstrip('/').removesuffix('.gguf')}.gguf" for each in (*added, adapter))))


def _said_by(adapter: Path, key: str, name: str) -> Any:
    from redraft.weights.checkpoint import read_json
    from redraft.weights.gguf.reader import read_header

    if adapter.is_file():
        return read_header(adapter).metadata.get(key)
    return read_json(adapter / _ADAPTER).get(name)
