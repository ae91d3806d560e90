"""Fetch the page's JavaScript libraries from npm, in the versions of `vendor.json`.

    python scripts/vendor.py            # the same versions again; their checksums must match
    python scripts/vendor.py katex 0.20.0

This needs npm, for `npm pack`. A test compares the files with their checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).resolve().parent.parent / "src/redraft/serve/page/static/vendor"
LIST = FOLDER / "vendor.json"


def packed(name: str, version: str) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{name}@{version}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        [archive] = Path(folder).glob("*.tgz")
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
            members = [member for member in tar if member.isfile()]
            return {each.name.partition("/")[2]: tar.extractfile(each).read() for each in members}  # type: ignore[union-attr]


def fetch(name: str, about: dict[str, object], *, new: bool) -> None:
    """Write the files of a package. Record their checksums if the version is new; otherwise compare them."""
    files = packed(name, str(about["version"]))
    for target, part in about["files"].items():  # type: ignore[attr-defined]
        data = files[part["from"]]
        found = hashlib.sha256(data).hexdigest()
        assert new or found == part.setdefault("sha256", found), f"{name}: {target} has another checksum"
        part["sha256"] = found
        (FOLDER / target).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / target).write_bytes(data)


if __name__ == "__main__":
    listed = json.loads(LIST.read_text())
    wanted = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    for package, described in listed.items():
        described["version"] = wanted.get(package, described["version"])
        fetch(package, described, new=package in wanted)
    LIST.write_text(json.dumps(listed, indent=1) + "\n")
