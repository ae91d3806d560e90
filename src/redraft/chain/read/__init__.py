"""Read records of published shapes as chains."""
