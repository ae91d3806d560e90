"""Packages with plugins, as an installer leaves them in a folder of the path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path,
    package: str,
    entry_points: Mapping[str, Mapping[str, str]],
    code: str = "",
    version: str = "1.0",
) -> None:
    metadata = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n\nName: of the text\n", "utf-8"
    )
    lines = [
        line
        for group, points in entry_points.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()), "")
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    (folder / f"{package.replace('-', '_')}.py").write_text(code, "utf-8")
