"""Runs that make a file, item by item: resumable, within limits, from Python and from the command line."""
