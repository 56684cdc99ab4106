"""Messages: every module logs to a logger of its own name; the door decides where they appear.

A command line shows what is logged at level INFO on stdout and warnings on stderr, as bare lines.
A notebook, a scheduler or a test routes the loggers ``pipeline`` and ``model`` as it likes:
without a handler, Python shows warnings alone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROJECT = ("datasets_spec", "pipeline", "model")


class Terminal(logging.Handler):
    """Bare lines to the stdout or, from WARNING on, the stderr of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what goes wrong is raised, so that a closed pipe ends the program."""
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        stream.write(f"{self.format(record)}\n")
        stream.flush()


@contextmanager
def on_terminal() -> Iterator[None]:
    """Within the block, messages of the project go to the terminal, and nowhere twice."""
    handler = Terminal()
    loggers = [logging.getLogger(name) for name in PROJECT]
    before = [(logger.level, logger.propagate) for logger in loggers]
    if any(isinstance(one, Terminal) for logger in loggers for one in logger.handlers):
        yield
        return
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
