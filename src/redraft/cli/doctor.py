"""`redraft doctor`: what is installed, what works, and what to type. Nothing is changed, no server asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redraft.config import Config


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: What was looked at.
        well: Whether it is well; None for what is not there and need not be.
        found: What was found.
        type_next: A command that would make it better.
    """

    what: str
    well: bool | None
    found: str
    type_next: str = ""


def doctor() -> None:
    """Show what is installed, what works, and what to type.

    Looks at this machine only: no server is asked, and no key is shown.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {True: Text("ok", "green"), None: Text("-", "dim"), False: Text("no", "red")}
    table = Table("", "", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("found", overflow="fold")
    table.add_column("type", overflow="fold", min_width=28)
    for each in findings():
        table.add_row(marks[each.well], Text(each.what), Text(each.found), Text(each.type_next))
    Console(highlight=False).print(table)
    typer.echo("Start with: " + first_command())


def findings() -> Iterator[Finding]:
    """All that is looked at, in the order in which it is shown."""
    import platform

    from redraft import __version__

    system = f"{platform.system()} {platform.machine()}"
    yield Finding("redraft", well=True, found=__version__)
    yield Finding("python", well=True, found=f"{platform.python_version()} on {system}")
    yield from _extras()
    yield _default_model()
    yield from _config()
    yield _gpu()


def first_command() -> str:
    """What to type first on this machine."""
    import importlib.util

    if importlib.util.find_spec("xllamacpp"):
        return "redraft ask \"Describe a lighthouse.\" --check 'words<=30'"
    return 'redraft ask "Describe a lighthouse." --model http://localhost:8000/v1#model'


def extras() -> dict[str, list[str]]:
    """The extras of redraft, each with the packages that it installs, read from its own metadata."""
    import re
    from importlib.metadata import requires

    found: dict[str, list[str]] = {}
    for line in requires("redraft") or ():
        package, _, marker = line.partition(";")
        if extra := re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker):
            name = re.match(r"[\w.-]+", package.strip())
            found.setdefault(extra[1], []).append(name[0] if name else package)
    return found


def _extras() -> Iterator[Finding]:
    for extra, packages in sorted(extras().items()):
        missing = [package for package in packages if not _installed(package)]
        install = f"pip install 'redraft[{extra}]'"
        if missing and extra != "dev":
            some = "in part; missing: " if len(missing) < len(packages) else "not installed: "
            yield Finding(f"[{extra}]", None, some + ", ".join(missing), install)
        elif extra == "local" and (fault := _load_fault()):
            yield Finding("[local]", well=False, found=fault, type_next=f"{install} --force-reinstall")
        elif extra != "dev":
            yield Finding(f"[{extra}]", well=True, found="installed")


def _load_fault() -> str | None:
    """Why the library of llama.cpp does not load, if it does not: it is built for certain machines."""
    try:
        import xllamacpp  # noqa: F401
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what the user should see)
        return f"xllamacpp is installed and does not load: {error}"
    return None


def _installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _default_model() -> Finding:
    from redraft.engines import cache
    from redraft.errors import ModelError

    try:
        path = cache.cached_default()
    except ModelError as error:
        return Finding(
            "default model", well=False, found=error.message, type_next="redraft model get default"
        )
    if path is None:
        return Finding("default model", None, f"not in {cache.models_folder()}", "redraft model get default")
    return Finding("default model", well=True, found=str(path))


def _config() -> Iterator[Finding]:
    from redraft.config import config_path, load_config
    from redraft.errors import UsageError

    try:
        config = load_config()
    except UsageError as error:
        yield Finding("config file", well=False, found=error.message, type_next=error.hint or "")
        return
    exists = config_path().exists()
    yield Finding("config file", exists or None, f"{config.path}" if exists else f"none at {config.path}")
    yield _keys(config)


def _keys(config: Config) -> Finding:
    """Whose keys are known: the names of hosts and variables, and no key."""
    import os

    from redraft.config import PREFIX

    names = [
        f"{host} (from ${entry.variable})" if entry.variable else host for host, entry in config.keys.items()
    ]
    names += sorted(name for name in os.environ if name.startswith(PREFIX))
    if "OPENAI_API_KEY" in os.environ:
        names.append("OPENAI_API_KEY (for api.openai.com alone)")
    unset = [
        entry.variable
        for entry in config.keys.values()
        if entry.variable and entry.variable not in os.environ
    ]
    if unset:
        return Finding("keys", well=False, found=f"${unset[0]} is not set", type_next=f"export {unset[0]}=…")
    literal = any(entry.variable is None for entry in config.keys.values())
    if literal and config.path.stat().st_mode & 0o077:
        found = f"{config.path} holds a key, and others can read it"
        return Finding("keys", well=False, found=found, type_next=f"chmod 600 {config.path}")
    return Finding("keys", bool(names) or None, ", ".join(names) or "none; local servers need none")


def _gpu() -> Finding:
    """A GPU that the driver lists. Whether a part of redraft was built for it is another question."""
    import platform
    import shutil
    import subprocess

    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Finding("GPU", well=True, found="Apple, by Metal")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("GPU", None, "none seen; everything works without, slower")
    try:
        command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return Finding("GPU", well=False, found="nvidia-smi is here and fails", type_next="nvidia-smi")
    return Finding("GPU", well=True, found="; ".join(told.stdout.split("\n")).strip("; "))
