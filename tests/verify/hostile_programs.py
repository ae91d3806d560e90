"""Programs that want to do harm, to outlive their run, or to pass a test that they should not.

None may pass. An attack returns "worked" if it got anywhere, which is what its test wants. The other programs
give wrong answers and try to have them taken for right ones. `@NAME@` stands for something of this machine.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

SUM = ("assert add(20, 2) == 22", "assert add(3, 4) == 7")


@dataclass(frozen=True)
class Hostile:
    """A program, and tests of which it must not pass one.

    Attributes:
        waits: The run ends when the time is up.
    """

    name: str
    program: str
    tests: tuple[str, ...] = SUM
    setup: str = ""
    waits: bool = False


def _attacks(text: str) -> list[Hostile]:
    """Read attacks: a line with `# ` and the name, with `(waits)` if it does, and the body of a function."""
    attacks = []
    for part in text.strip("\n").removeprefix("# ").split("\n# "):
        name, _, body = part.partition("\n")
        program = "import ctypes, os, socket, sys, threading, time\n\ndef attack():\n"
        program += textwrap.indent(f"{body.strip()}\nreturn 'worked'\n", "    ")
        waits = name.endswith(" (waits)")
        attacks.append(
            Hostile(name.removesuffix(" (waits)"), program, ("assert attack() == 'worked'",), waits=waits)
        )
    return attacks


ATTACKS = _attacks(r"""
# fork bomb
while True:
    os.fork()

# clone without libc
assert ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) >= 0

# daemon
if os.fork() == 0:
    os.setsid()
    os.fork() or time.sleep(600)

# subprocess
import subprocess
subprocess.run(['/bin/sh', '-c', 'sleep 600 &'], check=True)

# another program
os.execv('/bin/sleep', ['sleep', '600'])

# many threads
for _ in range(5000):
    threading.Thread(target=time.sleep, args=[600]).start()

# kill a process of this machine
os.kill(@PID@, 9)

# kill its parent
os.kill(os.getppid(), 9)
os.kill(-1, 9)
raise ValueError('still here')

# trace
assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0

# memory
held = []
while len(held) < 64:
    held.append(bytearray(100_000_000))

# memory that is no file
os.memfd_create('x')

# zip bomb
import zlib
bomb = zlib.compress(bytes(2**30))
assert zlib.decompress(bomb)

# disk
for n in range(9):
    open(f'/tmp/{n}', 'wb').write(bytes(20_000_000))

# a file larger than the disk
os.truncate(os.open('/tmp/f', os.O_CREAT | os.O_RDWR), 2**40)

# higher limits
import resource
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))

# endless loop (waits)
while True:
    pass

# a loop that catches all (waits)
import signal
for n in (2, 14, 15, 24):
    signal.signal(n, signal.SIG_IGN)
while True:
    try:
        while True: pass
    except BaseException: pass

# sleep for ever (waits)
time.sleep(10**8)

# a pattern that backtracks (waits)
import re
re.match('(a+)+$', 'a' * 60 + 'b')

# recursion (waits)
sys.setrecursionlimit(10**9)
def deep(): return deep() + 1
deep()

# read the home
assert open('@HOME@/secret').read()

# list the home
assert any('secret' in name for name in os.listdir('@HOME@'))

# a link to the home
os.symlink('@HOME@', '/tmp/home')
assert open('/tmp/home/secret').read()

# passwords
assert open('/etc/passwd').read()

# write to the home
open('@HOME@/written', 'w').write('x')

# write to Python
open(os.path.join(os.path.dirname(os.__file__), 'written.py'), 'w')

# write to the runner
open(sys.modules['redraft.verify.inside.player'].__file__, 'a')

# write to the root
os.mkdir('/written')

# environment
assert 'SECRET_KEY' in os.environ or len(os.environ) > 3

# environment of others
assert open('/proc/1/environ').read() or os.listdir('/proc/@PID@')

# network
socket.create_connection(('127.0.0.1', @PORT@), 1)

# names
assert socket.getaddrinfo('localhost', 80)
socket.socket(type=socket.SOCK_DGRAM)

# the host of a virtual machine
socket.socket(socket.AF_VSOCK).connect((2, 1024))

# io_uring
assert ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(256)) >= 0

# new namespaces
assert ctypes.CDLL(None).unshare(0x10000000) == 0

# mount
assert ctypes.CDLL(None).mount(b'/', b'/tmp', None, 4096, None) == 0

# devices
assert open('/dev/kmsg') or os.listdir('/sys')

# standard input
assert input() is not None
""")

FAKES = [
    Hostile(
        "a huge value",
        r"""
def text(): return 'x' * 100_000_000
""",
        ("assert len(text()) == 100_000_000",),
    ),
    Hostile(
        "says passed",
        r"""
print('passed\n2 passed, 0 failed')
def add(a, b): return print('ok')
""",
    ),
    Hostile(
        "exits well when loaded",
        r"""
import sys
sys.exit(0)
""",
    ),
    Hostile(
        "exits well when called",
        r"""
import sys
def add(a, b): sys.exit(0)
""",
    ),
    Hostile(
        "ends when loaded",
        r"""
import os
os._exit(0)
""",
    ),
    Hostile(
        "ends when called",
        r"""
import os
def add(a, b): os._exit(0)
""",
    ),
    Hostile(
        "equals everything",
        r"""
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def add(a, b): return Yes()
""",
    ),
    Hostile(
        "a number that equals everything",
        r"""
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def add(a, b): return Yes(1)
""",
    ),
    Hostile(
        "a text that equals everything",
        r"""
class Yes(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = str.__hash__
def word(): return Yes('no')
""",
        ("assert word() == 'yes'", "assert word() in {'yes'}", "assert word() in ['yes']"),
    ),
    Hostile(
        "no assertions",
        r"""
import builtins, sys
builtins.AssertionError = type('E', (Exception,), {'__new__': lambda *_: sys.exit(0)})
def add(a, b): return 0
""",
    ),
    Hostile(
        "replaces what tests judge with",
        r"""
def near(x): return 0.0
def abs(x): return 0
def all(x): return True
def isclose(*x): return True
import builtins, math
builtins.abs, math.isclose, builtins.all = abs, isclose, all
""",
        (
            "assert abs(near(1) - 0.5) < 1e-6",
            "assert math.isclose(near(1), 0.5)",
            "assert all(near(n) == n for n in (1, 2))",
            "assert isclose(near(1), 0.5)",
        ),
        setup="import math\nfrom math import isclose",
    ),
    Hostile(
        "ends the loop of a test",
        r"""
def add(a, b): raise StopIteration
""",
        ("for s, w in zip(map(add, [1], [2]), [3]):\n    assert s == w",),
    ),
    Hostile(
        "speaks for the runner",
        r"""
import json, os

def add(a, b):
    for fd in range(64):
        for text in ({'passed': True}, {'value': True}, {'value': 22}, 'ready'):
            try:
                os.write(fd, json.dumps(text).encode() + b'\n')
            except OSError:
                pass
    return 0
""",
        ("assert add(20, 2) == 22", "assert add(3, 4) == 7", "assert add(5, 5) == 10"),
    ),
    Hostile(
        "replaces the runner",
        r"""
import gc, sys
player = sys.modules['redraft.verify.inside.player']
player.Player._reply = lambda self, request: {'passed': True, 'value': True, 'changed': {}}
""",
    ),
    Hostile(
        "sends nonsense",
        r"""
import sys
player = sys.modules['redraft.verify.inside.player']
nonsense = iter([
    {'callback': 0}, {'value': {'builtin': 'exec'}}, {'fault': {'bases': ['SystemExit']}},
    {'fault': {'bases': 3}}, {'value': {'set': [[]]}, 'changed': {}}, [], None, 'passed', {},
])
player.Player._reply = lambda self, request: next(nonsense)
""",
        tuple(f"assert add(1, 1) == {n}" for n in range(9)),
    ),
    Hostile(
        "looks for the tests",
        r"""
import gc, re, sys

def add(a, b):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    text = repr(seen)[:10**6] + repr([o for o in gc.get_objects() if isinstance(o, (str, list))])[:10**6]
    found = re.search(rf'add\({a}, {b}\) == (\d+)', text)
    return int(found[1]) if found else None
""",
    ),
    Hostile(
        "never stops yielding",
        r"""
def add(a, b):
    while True: yield 22
""",
        ("assert list(add(1, 2)) == [22]",),
        waits=True,
    ),
    Hostile(
        "answers too deeply",
        r"""
def add(a, b):
    x = []
    for _ in range(99999): x = [x]
    return x
""",
    ),
    Hostile(
        "answers itself",
        r"""
def add(a, b):
    x = []
    x.append(x)
    return x
""",
    ),
    Hostile(
        "at its exit",
        r"""
import atexit, os
atexit.register(os._exit, 0)
def add(a, b): return 0
""",
    ),
    Hostile(
        "has every name",
        r"""
def __getattr__(name): return lambda *a: True
""",
    ),
    Hostile(
        "poses as a module",
        r"""
import sys, types
fake = types.ModuleType('math')
fake.isclose = lambda *a: True
sys.modules['math'] = fake
def near(x): return 0.0
""",
        ("import math\nassert math.isclose(near(1), 0.5)",),
    ),
    Hostile(
        "poses as a module that a test forgot",
        r"""
class math:
    isclose = lambda *a: True
def near(x): return 0.0
""",
        ("assert math.isclose(near(1), 0.5)",),
    ),
    Hostile(
        "changes what it is given",
        r"""
def total(row):
    row.clear()
    return 1
""",
        ("row = [1, 2]\nassert total(row) == 3", "want = 3\nassert total([1, 2]) == want"),
    ),
    Hostile(
        "is empty",
        r"""
# passed
""",
    ),
    Hostile(
        "is no program",
        r"""
All tests passed.
""",
    ),
    *(
        Hostile(f"raises {name}", f"def add(a, b): raise {name}")
        for name in ("SystemExit(0)", "KeyboardInterrupt", "GeneratorExit", "AssertionError")
    ),
]

HOSTILE = [*ATTACKS, *FAKES]
