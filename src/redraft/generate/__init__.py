"""Generate training data with a teacher: instructions, and chains."""
