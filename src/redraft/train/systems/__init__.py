"""Run the stages of a recipe with one command, `redraft run`, which resumes a stopped run."""
