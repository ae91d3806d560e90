"""Make training data with a teacher: feedback chains, and new instructions."""
