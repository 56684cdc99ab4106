"""Messages go through logging, with one handler at the door."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pipeline.runtime import messages

_LOG = logging.getLogger("pipeline.runtime.test")


@pytest.fixture(autouse=True)
def no_door() -> Iterator[None]:
    """As in a notebook: the handlers that other tests rely on are away."""
    loggers = [logging.getLogger(name) for name in messages.PROJECT]
    kept = [(logger, list(logger.handlers), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers.clear()
        logger.propagate = True
    yield
    for logger, handlers, propagate in kept:
        logger.handlers[:] = handlers
        logger.propagate = propagate


def test_a_command_line_shows_bare_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with messages.on_terminal():
        _LOG.info("convert x: 2 kept")
        _LOG.warning("convert x: a doubt")
    assert capsys.readouterr() == ("convert x: 2 kept\n", "convert x: a doubt\n")


def test_doors_within_doors_show_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    with messages.on_terminal(), messages.on_terminal():
        _LOG.info("once")
    assert capsys.readouterr().out == "once\n"


def test_without_a_door_a_program_hears_what_it_asks_for(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline"):
        _LOG.info("for the scheduler")
    assert caplog.messages == ["for the scheduler"]
    assert capsys.readouterr().out == ""


def test_the_door_leaves_loggers_as_they_were() -> None:
    logger = logging.getLogger("pipeline")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with messages.on_terminal():
        pass
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_a_reader_that_left_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    with messages.on_terminal(), pytest.raises(BrokenPipeError):
        _LOG.info("nobody reads this")
