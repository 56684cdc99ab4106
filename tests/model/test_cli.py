"""flexunet: one command for the verbs of both floors."""

from __future__ import annotations

import subprocess
import sys

import pytest

import model.__main__
import pipeline.__main__
from model.cli import main
from tests.conftest import PROJECT

FLOORS = (pipeline.__main__, model.__main__)


def test_help_lists_every_verb_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = " ".join(capsys.readouterr().out.split())
    for floor in FLOORS:
        assert floor.VERBS
        for name, verb in floor.VERBS.items():
            assert f" {name} {verb.help} " in listed


def test_no_verb_is_on_both_floors() -> None:
    """argparse would let the second take the place of the first."""
    assert not set(pipeline.__main__.VERBS) & set(model.__main__.VERBS)


@pytest.mark.parametrize("floor", FLOORS, ids=["pipeline", "model"])
def test_a_verb_is_called_as_it_was_called(
    capsys: pytest.CaptureFixture[str], floor: object
) -> None:
    for verb in floor.VERBS:  # type: ignore[attr-defined]
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        shown = capsys.readouterr().out
        assert f"usage: flexunet {verb} " in shown
        assert f"Example: flexunet {verb}" in shown
        assert "python -m" not in shown


@pytest.mark.parametrize("floor", FLOORS, ids=["pipeline", "model"])
def test_a_verb_is_run_by_its_own_floor(monkeypatch: pytest.MonkeyPatch, floor: object) -> None:
    called = []
    for one in FLOORS:
        monkeypatch.setattr(one, "run", lambda options, one=one: called.append((one, options.verb)))
    operands = {verb: ["a"] for verb in ("audit", "check", "doctor", "drift", "export")}
    operands |= {"compare": ["a", "b"], "predict": ["any", "a", "--output", "b"]}
    for verb in floor.VERBS:  # type: ignore[attr-defined]
        called.clear()
        assert main([verb, *operands.get(verb, [])]) == 0
        assert called == [(floor, verb)]


def test_a_users_error_is_one_line_and_exit_status_2(
    workplace: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "nowhere"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: nowhere: expected train/images")


@pytest.mark.slow
def test_only_a_verb_of_the_model_imports_a_deep_learning_library() -> None:
    program = (
        "import sys; from model.cli import main; main(['check', 'nowhere']);"
        " print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True)
    assert done.stdout.strip() == b"[]"
