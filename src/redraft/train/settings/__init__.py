"""The settings of a run: flags, recipes, and what this machine can do of them."""
