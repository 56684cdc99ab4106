"""Who goes to train, valid and test, and what must never be true of the result."""
