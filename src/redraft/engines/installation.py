"""Report the installed parts of redraft, the faults on this machine, and the commands that fix them.

No server is contacted, and no key is shown. `redraft doctor` prints the report.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pkgutil import resolve_name
from urllib.parse import urlsplit

from redraft import __version__
from redraft.engines.config import PREFIX, Config, config_path, load_config
from redraft.engines.llamacpp import default_model
from redraft.engines.load import has_llamacpp, has_openvino
from redraft.engines.names import SERVERS
from redraft.engines.openvino.child import without_telemetry
from redraft.errors import ModelError, UsageError, install
from redraft.jobs.machine import has_gpu, instructions, many_streams
from redraft.jobs.plugins import KINDS, OWN, PluginError, all_plugins


@dataclass(frozen=True)
class Finding:
    """One line of the report of `redraft doctor`."""

    what: str
    well: bool | None  # whether the part works; None if an optional part is missing
    found: str
    type_next: str = ""


_APART = ("dev", "docs", "generate")  # extras for development, and an alias of `data`
_NATIVE = {"local": "xllamacpp", "cpu": "openvino_genai"}  # modules of native code, which may fail to load


def findings() -> Iterator[Finding]:
    """Yield all findings in display order."""
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("redraft", well=True, found=__version__)
    yield Finding("python", well=True, found=f"{platform.python_version()} on {system}")
    yield from _extras()
    for each in all_plugins():
        if each.package == OWN and not each.rivals:
            continue
        try:
            each.load(resolve_name(KINDS[each.group]))
        except PluginError as error:
            yield Finding("plugin", well=False, found=error.message, type_next=error.hint or "")
        else:
            yield Finding("plugin", well=True, found=f"{each} of the package {each.package} {each.version}")
    what, get = "default model", "redraft model get default"
    try:
        path = default_model.cached_default()
    except ModelError as error:
        yield Finding(what, well=False, found=error.message, type_next=get)
    else:
        found = f"not in {default_model.models_folder()}" if path is None else str(path)
        yield Finding(what, None, found, get) if path is None else Finding(what, well=True, found=found)
    try:
        config = load_config()
    except UsageError as error:
        yield Finding("config file", well=False, found=error.message, type_next=error.hint or "")
    else:
        exists = config_path().exists()
        yield Finding("config file", exists or None, f"{config.path}" if exists else f"none at {config.path}")
        yield from _keys(config)
    gpu, has = has_gpu(), instructions()
    found = "found" if gpu else "not found; everything works without a GPU, but slower"
    yield Finding("GPU", gpu or None, found)
    if has is None:
        yield Finding("processor", None, f"its instruction sets are unknown on {system}")
    else:
        lacks = [f"no {name}" for name, there in has.items() if not there]
        yield Finding("processor", well=True, found=", ".join([*(name for name in has if has[name]), *lacks]))
    yield engine_for(has, llamacpp=has_llamacpp(), openvino=has_openvino(), gpu=gpu)


def engine_for(has: Mapping[str, bool] | None, *, llamacpp: bool, openvino: bool, gpu: bool) -> Finding:
    """Return a `Finding` on the best engine for GGUF files. `has` comes from `machine.instructions`."""
    wide = [name for name in ("AVX-512", "VNNI", "AMX") if has and has[name]]
    why = f"it uses {' and '.join(wide)}" if wide else "it computes them as one batch"
    many = f"{many_streams(has)} or more streams: {why}"
    if not (llamacpp or openvino):
        return Finding("engine", None, "no engine for GGUF files is installed", install("local"))
    if gpu:
        return Finding("engine", well=True, found="llama.cpp, which uses the GPU if it was built for it")
    if has and not has["AVX2"]:
        found = "the processor lacks AVX2, which llama.cpp and OpenVINO need: use a server"
        return Finding(
            "engine", well=False, found=found, type_next="redraft ask … --model http://host/v1#model"
        )
    if not openvino:
        return Finding("engine", None, f"llama.cpp; OpenVINO is faster for {many}", install("cpu"))
    found = f"llama.cpp; OpenVINO for {many}" if llamacpp else "OpenVINO"
    return Finding("engine", well=True, found=found)


def extras() -> dict[str, list[str]]:
    """Read each extra's packages from redraft's metadata."""
    found: dict[str, list[str]] = {}
    for line in requires("redraft") or ():
        package, _, marker = line.partition(";")
        if extra := re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker):
            name = re.match(r"[\w.-]+", package.strip())
            found.setdefault(extra[1], []).append(name[0] if name else package)
    return {extra: packages for extra, packages in found.items() if extra not in _APART}


def _extras() -> Iterator[Finding]:
    for extra, packages in extras().items():
        if missing := [package for package in packages if not _installed(package)]:
            some = "partly installed; missing: " if len(missing) < len(packages) else "not installed: "
            yield Finding(f"[{extra}]", None, some + ", ".join(missing), install(extra))
        else:
            try:
                without_telemetry()
                if extra in _NATIVE:
                    import_module(_NATIVE[extra])
            except Exception as error:  # noqa: BLE001  (the user should see any error)
                found = f"{_NATIVE[extra]} is installed but does not load: {error}"
                again = install(extra).replace("install ", "install --force-reinstall ")
                repair = "apt install libgomp1" if "libgomp" in str(error) else again
                yield Finding(f"[{extra}]", well=False, found=found, type_next=repair)
            else:
                yield Finding(f"[{extra}]", well=True, found="installed")


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _keys(config: Config) -> Iterator[Finding]:
    named = {host: entry.variable for host, entry in config.keys.items()}
    unset = [name for name in named.values() if name and name not in os.environ]
    names = [f"{host} (from ${name})" if name else host for host, name in named.items() if name not in unset]
    names += sorted(name for name in os.environ if name.startswith(PREFIX))
    for server in SERVERS.values():
        if server.variable in os.environ:
            names.append(f"{server.variable} (for {urlsplit(server.url).hostname} only)")
    yield Finding("keys", bool(names) or None, ", ".join(names) or "none; local servers need none")
    for name in unset:
        yield Finding("keys", well=False, found=f"${name} is not set", type_next=f"export {name}=…")
    if "" in named.values() and config.path.stat().st_mode & 0o077:
        found = f"{config.path} contains a key, and other users can read it"
        yield Finding("keys", well=False, found=found, type_next=f"chmod 600 {config.path}")
