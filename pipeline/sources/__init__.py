"""What lies in ``data/raw``: downloaded, unpacked, listed and counted."""
