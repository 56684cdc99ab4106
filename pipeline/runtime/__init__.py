"""Files, locks, keys, executors, fingerprints: what runs the stages, whatever they do."""
