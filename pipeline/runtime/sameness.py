"""Whether two machines would make the same bytes: the project's code, and the libraries it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pipeline import paths
from pipeline.runtime import files, fingerprints, imports

_ALSO = ("distributed", "keras", "onnxruntime", "pyarrow", "tensorflow-cpu", "tensorflow")
_NAMED = 3


@dataclass(frozen=True)
class Installed:
    """The sha256 of every file of the project's packages, and the version of every library."""

    code: Mapping[str, str]
    libraries: Mapping[str, str]


@cache
def installed() -> Installed:
    """What this process would work with."""
    code = {
        file.relative_to(imports.ROOT).as_posix(): files.sha256(file)
        for floor in imports.FLOORS
        for file in paths.files_below(imports.ROOT / floor)
        if "__pycache__" not in file.parts
    }
    return Installed(code, {name: _version(name) for name in (*fingerprints.LIBRARIES, *_ALSO)})


def difference(here: Installed, there: Installed) -> str:
    """What is different there, in words; "" where nothing is.

    >>> one = Installed({"pipeline/a.py": "1", "pipeline/b.py": "2"}, {"numpy": "2.3"})
    >>> difference(one, Installed({"pipeline/a.py": "1"}, {"numpy": "2.4"}))
    'its numpy is 2.4 and not 2.3; its code differs in pipeline/b.py'
    """
    found = [
        f"its {name} is {there.libraries.get(name) or 'missing'} and not {wanted or 'missing'}"
        for name, wanted in here.libraries.items()
        if there.libraries.get(name) != wanted
    ]
    names = {**here.code, **there.code}
    other = sorted(name for name in names if here.code.get(name) != there.code.get(name))
    if other:
        more = f" and {len(other) - _NAMED} more files" if len(other) > _NAMED else ""
        found.append(f"its code differs in {', '.join(other[:_NAMED])}{more}")
    return "; ".join(found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
