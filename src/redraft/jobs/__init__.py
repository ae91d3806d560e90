"""Do many items once each, for every command that works on many items. Runs can be resumed and limited.

Start with `harness`, which does the items. `ledger` is the output, with unfinished work on items,
`provenance` records how it was made, `journal` keeps paid replies, `limits` ends a run, `signals` lets Ctrl-C
end it cleanly, and `progress` shows it. Nothing here depends on the kind of work.
"""
