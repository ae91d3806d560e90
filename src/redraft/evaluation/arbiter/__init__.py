"""The arbiter: several models, tasks and ways to spend tokens, compared at equal tokens, on one page.

A thin matrix over the runs of `redraft diagnose --run`: each model and task is a folder of such runs.
"""
