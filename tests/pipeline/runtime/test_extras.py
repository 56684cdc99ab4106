"""What is imported comes with the package, or with an extra that is named where it is missing."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import packages_distributions

import pytest

from pipeline.__main__ import guarded
from pipeline.runtime import extras
from tests.conftest import PROJECT
from tests.support.modules import FLOORS, modules
from tests.test_architecture import foreign

CONFIG = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
WHERE_INSTALLED = {"dvclive"}  # a log that nobody needs
IN_NO_LOCK = {"jax"}  # large, and asked for by few
IMPORTED = {name: extra for extra, names in extras.IMPORTED.items() for name in names.split()}


def packages(requirements: list[str]) -> set[str]:
    """The names of the packages that requirements such as "numpy>=2.2,<2.5" ask for."""
    return {re.split(r"[\[<>=; ]", one)[0].lower() for one in requirements}


def distributions(name: str) -> set[str]:
    """The packages that bring what is imported by a name; all of them are installed here."""
    return {one.lower().replace("_", "-") for one in _installed()[name]}


@lru_cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def test_whatever_is_imported_is_in_the_package_or_in_an_extra() -> None:
    used = {name for file in modules() for name in foreign(file)}
    used -= {*sys.stdlib_module_names, *FLOORS, *WHERE_INSTALLED}
    assert {"numpy", "cv2", "keras"} <= used
    own = packages(CONFIG["dependencies"])
    assert [name for name in sorted(used - set(IMPORTED)) if not distributions(name) & own] == []


@pytest.mark.parametrize("name", sorted(IMPORTED.keys() - IN_NO_LOCK))
def test_an_extra_brings_what_it_is_named_for(name: str) -> None:
    wanted = packages(CONFIG["optional-dependencies"][IMPORTED[name]])
    assert distributions(name) & wanted
    assert not distributions(name) & packages(CONFIG["dependencies"])


@pytest.mark.parametrize("protocol", extras.PROTOCOLS)
def test_a_url_whose_library_is_missing_names_an_extra_that_there_is(protocol: str) -> None:
    problem = extras.problem_of_protocol(protocol, f"{protocol}://bucket/raw")
    assert problem is not None
    extra = extras.PROTOCOLS[protocol]
    assert f"[{extra}]" in problem.remedy
    assert CONFIG["optional-dependencies"][extra]


@pytest.mark.parametrize(("name", "extra"), [("cv2", "train"), ("highdicom.seg", "seg")])
def test_a_package_that_is_missing_is_one_line_with_its_extra(
    capsys: pytest.CaptureFixture[str], name: str, extra: str
) -> None:
    def action() -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert guarded(action, debug=False) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"expected the package {name.partition('.')[0]}, which is not installed" in line
    assert f'pip install "flexunet-pipeline[{extra}]"' in line


def test_a_module_of_our_own_that_is_missing_is_a_mistake() -> None:
    def action() -> None:
        raise ModuleNotFoundError("No module named 'pipeline.nowhere'", name="pipeline.nowhere")

    with pytest.raises(ModuleNotFoundError):
        guarded(action, debug=False)
