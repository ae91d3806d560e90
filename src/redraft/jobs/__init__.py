"""Process many items, each exactly once, in runs that can be resumed and limited.

Begin with `harness`, which processes the items. `ledger` stores results and unfinished items, `provenance`
records an output's settings, `journal` stores paid replies, `limits` ends runs at limits, `signals` ends runs
at Ctrl-C, and `progress` shows the progress of runs. No module depends on the kind of work.
"""
