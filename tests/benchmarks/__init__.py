"""Measurements beside named peers, outside the test suite; each writes its table beside itself."""
