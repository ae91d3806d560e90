"""Use checks and chains in other programs, through pytest and MCP.

`judged` gives any framework a check's score, verdict and feedback. `docs/bridges.md` has examples.
"""
