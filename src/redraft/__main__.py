"""`python -m redraft` is `redraft`."""

from redraft.cli import main

try:
    main()
finally:
    # Python would end by SIGINT, whatever the status, if Ctrl-C came in an `exec`, such as that of a dataclass
    # in an import. Another one makes it forget that (`run_eval_code_obj` in CPython's pythonrun.c).
    exec("")  # noqa: S102
