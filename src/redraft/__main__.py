"""`python -m redraft` is `redraft`."""

from redraft.cli import main

try:
    main()
finally:
    # If Ctrl-C came in an `exec`, as in a dataclass, Python ends by SIGINT unless there is another one
    # (`run_eval_code_obj` in CPython's pythonrun.c).
    exec("")  # noqa: S102
