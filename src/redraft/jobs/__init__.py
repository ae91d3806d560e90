"""Process many items, each exactly once, in runs that can be resumed and limited.

Start with `harness`, which processes the items. `ledger` stores the results and unfinished items,
`provenance` records the settings behind the output, `journal` stores paid replies, `limits` ends runs at
limits, `signals` ends them at Ctrl-C, and `progress` shows them. Nothing here depends on the kind of work.
"""
