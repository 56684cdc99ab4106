"""Ask again after a failure that may pass, with growing pauses, and not for ever."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from datasets_spec.contract import Problem

R = TypeVar("R")
PAUSES_S: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before the second attempt, the third, ...: six in all. Each is up to half as long again, so that
a hundred workers do not ask a server that was overloaded at one moment."""
_LASTING = (
    Problem,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    TypeError,
    ValueError,
)
_OF_WHO_ASKS = ("Credential", "Authentication", "Unauthorized", "PermissionDenied", "HostKey")
_LASTING_NUMBERS = (errno.EINVAL, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def retried(action: Callable[[], R]) -> R:
    """What ``action`` returns; one that fails in passing is called again after a pause.

    Raises what the last attempt raised, and at once what no wait will change (:func:`lasts`).
    """
    for pause in PAUSES_S:
        try:
            return action()
        except Exception as error:
            if lasts(error):
                raise
        time.sleep(pause * random.SystemRandom().uniform(1, 1.5))
    return action()


def lasts(error: BaseException) -> bool:
    """Whether an error stays however often one asks: a missing file, refused credentials.

    Whatever is not known to last may be the network's, whose libraries have classes of their own.

    >>> lasts(FileNotFoundError()), lasts(ConnectionResetError())
    (True, False)
    """
    if isinstance(error, _LASTING) or refused(error):
        return True
    return isinstance(error, OSError) and error.errno in _LASTING_NUMBERS


def refused(error: BaseException) -> bool:
    """Whether an error is about who asks: no credentials, wrong ones, or too few rights."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return isinstance(error, PermissionError) or any(
        word in name for word in _OF_WHO_ASKS for name in names
    )
