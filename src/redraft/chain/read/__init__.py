"""Read published record shapes as chains."""
