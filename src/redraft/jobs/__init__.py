"""Do many items once each: resumable, limited, measured. For every verb that works on many items.

`harness` is the way in, and does the items. `ledger` is the output, with the work on items that were cut,
`provenance` records how it was made, `journal` keeps paid replies, `limits` ends a run, `signals` lets Ctrl-C
end it cleanly, `progress` shows it. Nothing here knows what the work is.
"""
