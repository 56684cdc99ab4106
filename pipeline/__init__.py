"""How pairs are made: from raw scans to image/mask pairs, splits and a report.

Nothing here imports a deep-learning library.
"""
