"""Mix files of chains by a recipe."""
