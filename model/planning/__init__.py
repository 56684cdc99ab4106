"""How a dataset's settings follow from what it is and from the machine that learns it."""
