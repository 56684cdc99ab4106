"""Hostile inputs for every reader of the project; kept outside the test suite.

    python -m tests.fuzz --minutes 10 [--seed N] [--only READER] [--workers 2] [--keep FOLDER]
    python -m tests.fuzz --replay READER:SEED:NUMBER [--keep FOLDER]

Sound inputs (built here, the repository's fixtures, and files that pydicom ships) are harmed: bits
flipped, cut, spliced, headers and structures made hostile, pipes and devices in files' places,
names that no one expects. The property, for every input:

- the reader gives the right result, as a second, strict reader says, or values that are valid of
  their type where no second reader can decide; of a file whose checksum is wrong only the sound
  file's content is right;
- or it raises :class:`datasets_spec.contract.Problem`, whose text is one line with an expectation
  and a place;
- within 20 s and 1.5 GB, in a process that neither dies nor starts another nor changes a file
  outside its folder.

Inputs run in worker processes with a watchdog, so the one that kills or hangs is known. They
follow from the seed alone. Linux only, since memory and processes are read from /proc.
``readers.py`` lists the readers: a new one is written there.
"""
