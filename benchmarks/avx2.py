"""Copy this environment's packages, with a trap in place of each CPUID instruction.

    gcc -shared -fPIC -O2 -o avx2.so benchmarks/avx2.c
    python benchmarks/avx2.py DIR
    LD_PRELOAD=$PWD/avx2.so PYTHONPATH=DIR python benchmarks/cpu.py

`avx2.c` hides AVX-512, and needs these copies where the machine has no CPUID faulting. This needs objdump,
and DIR on the packages' file system. redraft also reads /proc/cpuinfo: bind a copy without AVX-512 over it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.copytree(sysconfig.get_path("purelib"), folder, copy_function=os.link)
    for library in folder.rglob("*.so*"):
        content = bytearray(library.read_bytes())
        for place in places(library) if CPUID in content else ():
            assert content[place : place + 2] == CPUID
            content[place : place + 2] = UD2
        library.unlink()
        library.write_bytes(content)


def places(library: Path) -> list[int]:
    """Return the offsets in a file of the CPUID instructions in its code."""
    of_code = ("-j", ".text", library)
    sections = subprocess.run(["objdump", "-h", *of_code], stdout=subprocess.PIPE, text=True, check=True)
    found = re.findall(r"\.text +\w+ +(\w+) +\w+ +(\w+)", sections.stdout)[0]
    start, offset = (int(each, 16) for each in found)
    code = ["objdump", "-d", "--no-show-raw-insn", *of_code]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as lines:
        assert lines.stdout
        return [int(line.split(":")[0], 16) - start + offset for line in lines.stdout if "\tcpuid" in line]


if __name__ == "__main__":
    main()
