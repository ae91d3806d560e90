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

# another program (waits)
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
open(sys.modules['redraft.checks.inside.player'].__file__, 'a')

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

# an abstract socket
socket.socket(socket.AF_UNIX).connect('\0' + 'x')

# the kernel's own sockets
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)

# calls of the second kind
assert ctypes.CDLL(None).syscall(435, ctypes.create_string_buffer(88), 88) >= 0

# calls of x32
assert ctypes.CDLL(None).syscall(0x40000000 | 57) >= 0

# calls of 32 bits
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('b802000000cd80c3'))
where = ctypes.addressof(ctypes.c_char.from_buffer(code))
assert ctypes.CFUNCTYPE(ctypes.c_int)(where)() > 0

# clings to life (waits)
assert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) in (0, -1)
for leave in (os.setsid, lambda: os.setpgid(0, 0)):
    try: leave()
    except OSError: pass
time.sleep(10**8)

# stops its group (waits)
os.kill(0, 19)
time.sleep(10**8)

# files without end
for n in range(10**9):
    open(f'/tmp/{n}', 'w').close()

# a link that changes
def swap():
    for n in range(10**4):
        for place in ('@HOME@', '/tmp'):
            os.symlink(place, '/tmp/new')
            os.rename('/tmp/new', '/tmp/link')
open('/tmp/secret', 'w').close()
threading.Thread(target=swap, daemon=True).start()
until = time.monotonic() + 0.3
while time.monotonic() < until:
    try:
        if open('/tmp/link/secret').read(): return 'worked'
    except OSError: pass
raise ValueError

# leave the root
os.mkdir('/tmp/r')
os.chroot('/tmp/r')

# a folder that was left open
for fd in range(64):
    try: os.fchdir(fd)
    except OSError: continue
    return 'worked'
raise ValueError

# type into the terminal
import fcntl, termios
for fd in range(64):
    try: fcntl.ioctl(fd, termios.TIOCSTI, b'x')
    except OSError: continue
    return 'worked'
open('/dev/tty', 'w')

# spoil a device
before = os.stat('/dev/null').st_mode
for fd in range(64):
    try: os.fchmod(fd, before ^ 1)
    except OSError: pass
if os.stat('/dev/null').st_mode == before: os.chmod('/dev/null', before ^ 1)
assert os.stat('/dev/null').st_mode != before

# make a device
os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))

# its own memory
assert open('/proc/self/mem', 'rb') or os.listdir('/proc/self/fd')

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

TESTS = {
    "a huge value": ("assert len(text()) == 100_000_000",),
    "a text that equals everything": (
        "assert word() == 'yes'",
        "assert word() in {'yes'}",
        "assert word() in ['yes']",
    ),
    "replaces what tests judge with": (
        "assert abs(near(1) - 0.5) < 1e-6",
        "assert math.isclose(near(1), 0.5)",
        "assert all(near(n) == n for n in (1, 2))",
        "assert isclose(near(1), 0.5)",
    ),
    "ends the loop of a test": ("for s, w in zip(map(add, [1], [2]), [3]):\n    assert s == w",),
    "speaks for the runner": ("assert add(20, 2) == 22", "assert add(3, 4) == 7", "assert add(5, 5) == 10"),
    "sends nonsense": (
        "assert add(1, 1) == 0",
        "assert add(1, 1) == 1",
        "assert add(1, 1) == 2",
        "assert add(1, 1) == 3",
        "assert add(1, 1) == 4",
        "assert add(1, 1) == 5",
        "assert add(1, 1) == 6",
        "assert add(1, 1) == 7",
        "assert add(1, 1) == 8",
    ),
    "never stops yielding": ("assert list(add(1, 2)) == [22]",),
    "poses as a module": ("import math\nassert math.isclose(near(1), 0.5)",),
    "poses as a module that a test forgot": ("assert math.isclose(near(1), 0.5)",),
    "changes what it is given": (
        "row = [1, 2]\nassert total(row) == 3",
        "want = 3\nassert total([1, 2]) == want",
    ),
    "computes as it likes": (
        "assert 21 < add(20, 2) < 23",
        "assert abs(add(20, 2) - 22) < 1e-6",
        "assert isinstance(add(20, 2), int)",
        "assert round(add(20, 2)) == 22",
    ),
    "imports what it likes": (
        "import decimal\nassert half(1) == decimal.Decimal('0.5')",
        "import math\nassert math.isclose(half(1), 0.5)",
    ),
}
"""What a fake is tested with, by its name; else with `SUM`."""


def _fakes(text: str) -> list[Hostile]:
    """Read fakes: a line with `## ` and the name, with `(waits)` if it does, and the program."""
    fakes = []
    for part in text.strip("\n").removeprefix("## ").split("\n## "):
        name, _, program = part.partition("\n")
        waits, name = name.endswith(" (waits)"), name.removesuffix(" (waits)")
        setup = "import math\nfrom math import isclose" if name == "replaces what tests judge with" else ""
        fakes.append(Hostile(name, program, TESTS.get(name, SUM), setup, waits))
    return fakes


FAKES = [
    *_fakes(r"""
## a huge value
def text(): return 'x' * 100_000_000

## says passed
print('passed\n2 passed, 0 failed')
def add(a, b): return print('ok')

## exits well when loaded
import sys
sys.exit(0)

## exits well when called
import sys
def add(a, b): sys.exit(0)

## ends when loaded
import os
os._exit(0)

## ends when called
import os
def add(a, b): os._exit(0)

## equals everything
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def add(a, b): return Yes()

## a number that equals everything
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def add(a, b): return Yes(1)

## a text that equals everything
class Yes(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = str.__hash__
def word(): return Yes('no')

## no assertions
import builtins, sys
builtins.AssertionError = type('E', (Exception,), {'__new__': lambda *_: sys.exit(0)})
def add(a, b): return 0

## replaces what tests judge with
def near(x): return 0.0
def abs(x): return 0
def all(x): return True
def isclose(*x): return True
import builtins, math
builtins.abs, math.isclose, builtins.all = abs, isclose, all

## ends the loop of a test
def add(a, b): raise StopIteration

## speaks for the runner
import json, os

def add(a, b):
    for fd in range(64):
        for text in ({'passed': True}, {'value': True}, {'value': 22}, 'ready'):
            try:
                os.write(fd, json.dumps(text).encode() + b'\n')
            except OSError:
                pass
    return 0

## replaces the runner
import gc, sys
player = sys.modules['redraft.checks.inside.player']
player.Player._reply = lambda self, request: {'passed': True, 'value': True, 'changed': {}}

## sends nonsense
import sys
player = sys.modules['redraft.checks.inside.player']
nonsense = iter([
    {'callback': 0}, {'value': {'builtin': 'exec'}}, {'fault': {'bases': ['SystemExit']}},
    {'fault': {'bases': 3}}, {'value': {'set': [[]]}, 'changed': {}}, [], None, 'passed', {},
])
player.Player._reply = lambda self, request: next(nonsense)

## sends nonsense while it is loaded
import json, os
for fd in range(64):
    for fault in ({'bases': 3}, {'type': [], 'text': 'x' * 10**6, 'bases': [], 'line': 'x'}):
        try:
            os.write(fd, json.dumps({'fault': fault}).encode() + b'\n')
        except OSError:
            pass

## looks for the tests
import gc, re, sys

def add(a, b):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    text = repr(seen)[:10**6] + repr([o for o in gc.get_objects() if isinstance(o, (str, list))])[:10**6]
    found = re.search(rf'add\({a}, {b}\) == (\d+)', text)
    return int(found[1]) if found else None

## never stops yielding (waits)
def add(a, b):
    while True: yield 22

## answers too deeply
def add(a, b):
    x = []
    for _ in range(99999): x = [x]
    return x

## answers itself
def add(a, b):
    x = []
    x.append(x)
    return x

## at its exit
import atexit, os
atexit.register(os._exit, 0)
def add(a, b): return 0

## has every name
def __getattr__(name): return lambda *a: True

## poses as a module
import sys, types
fake = types.ModuleType('math')
fake.isclose = lambda *a: True
sys.modules['math'] = fake
def near(x): return 0.0

## poses as a module that a test forgot
class math:
    isclose = lambda *a: True
def near(x): return 0.0

## changes what it is given
def total(row):
    row.clear()
    return 1

## computes as it likes
class Yes:
    def __getattr__(self, name): return lambda *a: Yes()
    __bool__ = __lt__ = __gt__ = lambda *a: True
    __sub__ = __rsub__ = lambda *a: 0
    __abs__ = __round__ = lambda *a: 22
    __class__ = int
def add(a, b): return Yes()

## traces and listens
import re, sys, threading
heard = []

def add(a, b):
    found = re.search(rf'add\({a}, {b}\) == (\d+)', repr(heard)[:10**6])
    return int(found[1]) if found else 0

def trace(frame, event, arg):
    heard.append((frame.f_code.co_name, arg if isinstance(arg, str) else None))
    return trace

sys.addaudithook(lambda *event: heard.append(event[:2]) if len(heard) < 10**4 else None)
threading.settrace(trace)
sys.settrace(trace)
sys.setprofile(lambda frame, event, arg: None)

## reads what the runner reads
import os, re, select

def add(a, b):
    read = b''
    for fd in range(64):
        try:
            if select.select([fd], [], [], 0)[0]: read += os.read(fd, 10**6)
        except (OSError, ValueError):
            pass
    found = re.search(rb'== (\d+)', read)
    return int(found[1]) if found else 0

## floods the runner
import os

def add(a, b):
    for fd in range(64):
        try:
            for _ in range(100): os.write(fd, b'x' * 10**6)
        except OSError:
            pass
    return 0

## crashes
import ctypes
def add(a, b): return ctypes.string_at(0)

## leaves by a timer
import faulthandler, time
def add(a, b):
    faulthandler.dump_traceback_later(0.01, exit=True, file=open('/tmp/f', 'w'))
    time.sleep(600)

## imports what it likes
import builtins, importlib, sys, types

class Yes:
    def __init__(self, *a): pass
    def __eq__(self, other): return True

fake = types.ModuleType('decimal')
fake.Decimal = Yes
fake.isclose = lambda *a: True
builtins.__import__ = importlib.import_module = lambda *a, **k: fake
sys.modules['decimal'] = sys.modules['math'] = fake
def half(x): return Yes()

## is empty
# passed

## is no program
All tests passed.
"""),
    *(
        Hostile(f"raises {name}", f"def add(a, b): raise {name}")
        for name in ("SystemExit(0)", "KeyboardInterrupt", "GeneratorExit", "AssertionError")
    ),
]

HOSTILE = [*ATTACKS, *FAKES]
