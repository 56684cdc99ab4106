"""The raw data in ``data/raw``: downloading, unpacking, listing, counting."""
