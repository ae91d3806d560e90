"""Build the release in dist/ and test it. `make dist` runs this script.

Wheel and sdist are built twice, and both builds must be identical. The wheel is installed into an empty
environment of each installed Python from 3.11 on, where `redraft ask` must work. A list of the core's
components (CycloneDX) is added. The licence of each component must allow redistribution with redraft.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ["build==1.6.1", "cyclonedx-bom==7.5.0", "pip-licenses", "twine"]
ALLOWED = "Apache|MIT|BSD|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|CNRI|Zero-Clause"
ASKED = ["ask", "Describe rain.", "--model", "script:replies.jsonl", "--check", "words<=3"]


def run(*command: object, cwd: Path = ROOT, **env: str) -> str:
    """Run a command, and return its output. Exit if the command fails."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(python: Path, out: Path) -> list[Path]:
    """Build wheel and sdist. Their files have the time of the last commit."""
    time = run("git", "log", "-1", "--format=%ct").strip()
    run(python, "-m", "build", "--outdir", out, SOURCE_DATE_EPOCH=time)
    return sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])


def pythons() -> Iterator[str]:
    """Yield a Python of each version from 3.11 on that can create environments, from PATH or pyenv."""
    for minor in range(11, 20):
        own = Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
        found = [shutil.which(f"python3.{minor}"), *map(str, sorted(own))]
        yield from [each for each in found if each and _is_usable(each)][:1]


def _is_usable(python: str) -> bool:
    return not subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode


def tried(python: str, wheel: Path, folder: Path) -> Path:
    """Install the wheel into an empty environment, and run `redraft ask`. Return the environment's Python."""
    run(python, "-m", "venv", folder)
    own = folder / "bin" / "python"
    run(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    (folder / "replies.jsonl").write_text('"It is rain that falls."\n"It is rain."\n')
    said = run(folder / "bin" / "redraft", *ASKED, cwd=folder).strip()
    assert said == "It is rain.", said
    version = run(folder / "bin" / "redraft", "--version", cwd=folder).split()[-1]
    assert f"-{version}-" in wheel.name, (version, wheel.name)
    assert (folder / "share" / "man" / "man1" / "redraft.1").is_file()
    return own


def refused_licences(tools: Path, installed: Path) -> list[str]:
    """Return the packages of an environment whose licences are not in `ALLOWED`."""
    command = ("-m", "piplicenses", f"--python={installed}", "--format=json", "--from=mixed")
    packages = json.loads(run(tools, *command))
    known = [word.lower() for word in ALLOWED.split("|")]
    return [
        f"{each['Name']}: {each['License']}"
        for each in packages
        if each["Name"] not in ("redraft", "pip")
        and not any(word in each["License"].lower() for word in known)
    ]


def main(out: Path) -> None:
    """Build and compare the files, test the wheel, and list its components."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(sys.executable, "-m", "venv", folder / "tools")
        tools = folder / "tools" / "bin" / "python"
        run(tools, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *TOOLS)
        files = build(tools, folder / "one")
        for one, two in zip(files, build(tools, folder / "two"), strict=True):
            assert filecmp.cmp(one, two, shallow=False), f"{one.name} differs when it is built again"
        run(tools, "-m", "twine", "check", "--strict", *files)
        (wheel,) = (file for file in files if file.suffix == ".whl")
        for python in pythons():
            own = tried(
                python,
                wheel,
                folder / f"of-{Path(python).name}-{hashlib.sha256(python.encode()).hexdigest()[:6]}",
            )
            print(f"installed and tested: {run(own, '--version').strip()}")
        if refused := refused_licences(tools, own):
            sys.exit(f"these licences are not allowed: {'; '.join(refused)}")
        parts = folder / f"redraft-{wheel.name.split('-')[1]}.cdx.json"
        run(tools, "-m", "cyclonedx_py", "environment", own, "--output-reproducible", "-o", parts)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for file in (*files, parts):
            shutil.copy(file, out)
            print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {out / file.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    main(parser.parse_args().out.resolve())
