"""Runs that write files item by item. They can resume, have limits, and start from Python or a shell."""
