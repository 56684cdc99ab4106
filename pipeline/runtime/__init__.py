"""Files, locks, keys, executors, fingerprints: what runs the stages; knows no medicine."""
