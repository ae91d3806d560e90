"""Runs that write files item by item. A run can be resumed, limited, and started from Python or a shell."""
