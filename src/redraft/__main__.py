"""Run the command `redraft`, as `python -m redraft`."""

from redraft.cli import main

try:
    main()
finally:
    # If Ctrl-C interrupted an `exec`, such as a dataclass's, Python sets a flag and finally kills itself with
    # SIGINT, unless a later `exec` clears the flag (`run_eval_code_obj` in CPython's pythonrun.c).
    exec("")  # noqa: S102
