"""What revising did to answers, and whether it pays against other ways to spend the same tokens."""
