"""Run many things once each: resumable, limited, measured. Shared by every verb that works on many chains.

`ledger` is the output file, `making` says beside it how it was made, `runner` does the work, `signals` lets
Ctrl-C end it cleanly, `progress` shows it. What the work is, is not known here.
"""
