"""`python -m redraft` is `redraft`."""

from redraft.cli import main

try:
    main()
finally:
    # If Ctrl-C interrupted an `exec`, such as a dataclass's, Python ends itself by SIGINT, unless a later
    # `exec` resets that (`run_eval_code_obj` in CPython's pythonrun.c).
    exec("")  # noqa: S102
