"""Make files item by item. Such runs resume, keep to limits, and start from Python or the command line."""
