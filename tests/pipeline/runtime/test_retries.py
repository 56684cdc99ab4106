"""What may pass is asked again, so many times; what lasts is not."""

from __future__ import annotations

import errno
import time

import pytest

from datasets_spec.contract import Problem
from pipeline.runtime import retries


class NoCredentialsError(Exception):
    """As a library calls it."""


class Failing:
    """Raises an error the first ``times`` times."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "an answer"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), OSError(), Exception()])
def test_what_may_pass_is_asked_again_after_growing_pauses(
    slept: list[float], error: Exception
) -> None:
    times = len(retries.PAUSES_S)
    assert retries.retried(Failing(error, times)) == "an answer"
    assert len(slept) == times
    for pause, least in zip(slept, retries.PAUSES_S, strict=True):
        assert least <= pause <= 1.5 * least
    assert list(retries.PAUSES_S) == sorted(retries.PAUSES_S)


def test_what_does_not_pass_is_raised_in_the_end(slept: list[float]) -> None:
    failing = Failing(ConnectionResetError("gone"), 100)
    with pytest.raises(ConnectionResetError, match="gone"):
        retries.retried(failing)
    assert failing.calls == len(retries.PAUSES_S) + 1


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        PermissionError(),
        NoCredentialsError(),
        Problem("expected one thing, got another"),
        OSError(errno.ENOSPC, "full"),
        ImportError(),
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_lasts_is_raised_at_once(slept: list[float], error: Exception) -> None:
    failing = Failing(error, 1)
    with pytest.raises(type(error)):
        retries.retried(failing)
    assert (failing.calls, slept) == (1, [])
