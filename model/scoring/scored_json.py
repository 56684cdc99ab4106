"""Scored cases as JSON and back, exactly: what pools the folds of a cross-validation."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.scoring.summary import Scored

_VERSION = 3


def written(scored: Sequence[Scored]) -> dict[str, Any]:
    """Everything about ``scored`` as JSON: what does not exist (NaN) is null."""
    return {"version": _VERSION, "cases": [_plain(one) for one in scored]}


def read(content: Mapping[str, Any]) -> list[Scored]:
    """What :func:`written` was given. Raises ValueError, LookupError or TypeError for nonsense."""
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']!r}")
    return [_built(Scored, one) for one in content["cases"]]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and math.isnan(value) else value


def _built(kind: Any, value: Any) -> Any:
    """``value`` from JSON as ``kind``, a type of a field of :class:`Scored`."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{name: _built(hints[name], value[name]) for name in hints})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is np.ndarray:  # its second argument is the dtype of
        return np.array(value, typing.get_args(arguments[1])[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _built(arguments[1], one) for key, one in value.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return tuple(_built(arguments[0], one) for one in value)
    if value is None and kind is float:
        return math.nan
    return value
