"""The command line as a user meets it: wrong input is one line and exit status 2."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

import datasets_spec
from model.__main__ import main as model_main
from pipeline import paths
from pipeline.__main__ import guarded, main, wanted_datasets
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.splits import leaks
from pipeline.virtual import cohorts
from tests.conftest import FIXTURES, PROJECT
from tests.support.every import every

NAME = "virtual_mni152"


@pytest.fixture
def project(workplace: Path) -> Path:
    """params.yaml and the fixture's raw data, as a user has them."""
    content = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
    content["convert"]["image_px"] = 64
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    shutil.copytree(FIXTURES / NAME / "raw", paths.raw(NAME))
    return workplace


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of the error."""
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def set_param(section: str, key: str, value: object) -> None:
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    content[section][key] = value
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")


def damage(name: str) -> Path:
    return paths.raw(NAME) / "sub-02" / f"sub-02_{name}.nii"


def change(file: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> None:
    """Write a NIfTI file again with another array or affine."""
    old = nib.load(file)
    array = np.asarray(old.dataobj) if array is None else array
    file.unlink()
    nib.save(nib.Nifti1Image(array, old.affine if affine is None else affine), file)


def missing_label() -> str:
    damage("dseg").unlink()
    return "sub-02_dseg.nii"


def other_shape() -> str:
    change(damage("dseg"), array=np.zeros((9, 9, 9), np.uint8))
    return "label of shape (9, 9, 9)"


def shifted_affine() -> str:
    affine = nib.load(damage("dseg")).affine.copy()
    affine[:3, 3] += 5
    change(damage("dseg"), affine=affine)
    return "mm away"


def undeclared_value() -> str:
    label = np.asarray(nib.load(damage("dseg")).dataobj).copy()
    label[0, 0, :2] = 9
    change(damage("dseg"), array=label)
    return "got 9 in 2 voxels"


def truncated() -> str:
    content = damage("T1w").read_bytes()
    damage("T1w").write_bytes(content[: len(content) // 2])
    return "cannot be read"


@pytest.mark.parametrize(
    "harm", [missing_label, other_shape, shifted_affine, undeclared_value, truncated]
)
def test_a_bad_case_is_named_and_the_others_are_kept(
    harm: object, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = harm()  # type: ignore[operator]
    assert main(["convert", NAME, "--workers", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("sub-02" in line and reason in line for line in lines)
    assert lines[-1].startswith("error: ")
    assert "1 of 3" in lines[-1]
    assert {pair.case for pair in manifest.read(paths.converted(NAME))} == {"sub-01", "sub-03"}
    files = sorted(file.name for file in paths.converted(NAME).rglob("*") if file.is_file())
    assert not [name for name in files if "sub-02" in name or "unfinished" in name]


def test_a_repaired_case_is_all_that_is_made(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = damage("dseg").rename(project / "elsewhere.nii")
    assert main(["convert", NAME, "--workers", "1"]) == 2
    hidden.rename(damage("dseg"))
    capsys.readouterr()
    assert main(["convert", NAME, "--workers", "1"]) == 0
    assert "2 kept, 1 to make" in capsys.readouterr().out


def test_no_raw_data_says_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(paths.raw(NAME))
    assert main(["convert", NAME]) == 2
    assert "python -m pipeline fetch virtual_mni152" in error_line(capsys)


def test_an_unknown_dataset_lists_the_known(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "msd_hipocampus"]) == 2
    line = error_line(capsys)
    assert "Did you mean 'msd_hippocampus'?" in line
    assert "virtual_mni152" in line


def test_a_dataset_that_is_not_enabled_says_how_to(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "msd_hippocampus"]) == 2
    assert "Add a line '  msd_hippocampus:'" in error_line(capsys)


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("convert", "image_pixels", 512, "Did you mean 'image_px'?"),
        ("convert", "image_px", "large", "expected int, got 'large' of type str"),
        ("augment", "empty_slices", 1, "expected bool, got 1 of type int"),
        ("split", "mini_test", -1, "split: mini_test: expected 1 to 1000, got -1"),
        ("train", "loss", "dise_ce", "train: loss: expected one of categorical_crossentropy"),
    ],
)
def test_a_wrong_parameter_names_its_place(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    section: str,
    key: str,
    value: object,
    reason: str,
) -> None:
    set_param(section, key, value)
    if section != "train":  # the floor above states and checks that one
        assert main(["convert", NAME]) == 2
        assert reason in error_line(capsys)
    assert model_main(["preflight"]) == 2
    line = error_line(capsys)
    assert f"params.yaml: {section}" in line
    assert reason in line


def test_too_few_patients_are_reported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(paths.raw(NAME) / "sub-01")
    assert main(["convert", NAME, "--workers", "1"]) == 0
    assert main(["augment", NAME, "--workers", "1"]) == 0
    assert main(["split", NAME]) == 2
    assert "2 patients" in error_line(capsys)


def test_stages_out_of_order_are_reported(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", NAME]) == 2
    assert "expected a manifest" in error_line(capsys)


def test_a_missing_parameter_file_is_reported(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", NAME]) == 2
    assert "--params" in error_line(capsys)


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        (
            "convert",
            "raters",
            "third",
            "majority, staple, union, agreed, each or the name of a rater",
        ),
        ("convert", "label_table", "theirs", "expected one of auto, got 'theirs'"),
    ],
)
def test_a_choice_that_no_case_has_is_reported_once_and_costs_nothing(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    section: str,
    key: str,
    value: object,
    reason: str,
) -> None:
    assert main(["convert", NAME, "--workers", "1"]) == 0
    before = sorted(paths.converted(NAME).rglob("*"))
    capsys.readouterr()
    set_param(section, key, value)
    assert main(["convert", NAME, "--workers", "1"]) == 2
    assert reason in error_line(capsys)
    assert sorted(paths.converted(NAME).rglob("*")) == before


def test_cases_that_a_named_rater_did_not_label_are_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    content["datasets"] = {"mbh_seg25": {"convert": {"raters": "3"}}}
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    shutil.copytree(FIXTURES / "mbh_seg25" / "raw", paths.raw("mbh_seg25"))
    cases = list(datasets_spec.load("mbh_seg25").cases(paths.raw("mbh_seg25")))
    theirs = {case.id for case in cases if "3" in case.labels}
    assert 0 < len(theirs) < len(cases)
    assert main(["convert", "--workers", "1"]) == 0
    assert f"{len(cases) - len(theirs)} of {len(cases)} cases left out" in capsys.readouterr().out
    pairs = manifest.read(paths.converted("mbh_seg25"))
    assert {pair.case for pair in pairs} == theirs


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_and_ends_with_130(
    signal_sent: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: os.kill(os.getpid(), signal_sent), debug=False) == 130
    assert "what was finished is kept" in error_line(capsys)


def test_a_disk_that_fails_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "manifest.parquet")

    monkeypatch.setattr(manifest, "write", full)
    assert main(["convert", NAME, "--workers", "1"]) == 2
    line = error_line(capsys)
    assert line.startswith(f"error: convert {NAME}: manifest.parquet: ")
    assert "No space left on device" in line
    assert f"GB are free in {project}" in line


def test_a_full_disk_is_named_although_the_error_names_no_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """write(2) fails without a name."""
    folder = paths.converted(NAME)
    folder.mkdir(parents=True)
    (folder / ".unfinished-manifest.parquet").symlink_to("/dev/full")
    assert main(["convert", NAME, "--workers", "1"]) == 2
    line = error_line(capsys)
    assert "manifest.parquet: expected room on the disk, got: No space left on device" in line
    assert f"GB are free in {folder.absolute()}" in line


def test_too_little_memory_is_reported_with_what_was_being_made(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*_: object) -> None:
        raise MemoryError

    assert main(["convert", NAME, "--workers", "1"]) == 0
    monkeypatch.setattr("pipeline.splits.outliers.outliers", hungry)
    assert main(["augment", NAME, "--workers", "1"]) == 0
    assert main(["split", NAME]) == 2
    line = error_line(capsys)
    assert line.startswith(f"error: split {NAME}: expected enough memory, got none from the system")
    assert "--workers 1" in line


def test_a_case_that_needs_too_much_memory_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*_: object) -> None:
        raise MemoryError("Unable to allocate 9.31 GiB")

    monkeypatch.setattr("pipeline.volumes.volume.to_8_bit", hungry)
    assert main(["convert", NAME, "--workers", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    [line] = [line for line in lines if f"convert {NAME}: sub-02" in line]
    assert "expected enough memory, got Unable to allocate 9.31 GiB" in line


@every("number", ["two", "0", "-1", "1.5", "", "²", "1_000"])
@every("verb", ["convert", "check"])
def test_a_number_of_workers_that_is_none_is_reported(
    capsys: pytest.CaptureFixture[str], verb: str, number: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "x", f"--workers={number}"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f"--workers: expected a whole number of 1 or more, got {number!r}" in message


@pytest.mark.parametrize("verb", ["convert", "augment", "split", "train", "evaluate"])
@pytest.mark.parametrize("prefix", ["", "../../dvc.yaml:"])
def test_a_stage_of_dvc_gets_its_dataset_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, verb: str, prefix: str
) -> None:
    monkeypatch.setenv("DVC_STAGE", f"{prefix}{verb}@aisd")
    wanted = argparse.Namespace(verb=verb, dataset=None, params=PROJECT / "params.yaml")
    assert wanted_datasets(wanted) == ("aisd",)
    wanted.dataset = NAME
    assert wanted_datasets(wanted) == (NAME,)


@pytest.mark.parametrize("stage", ["", "convert", "mine@aisd", "dvc.yaml:report"])
def test_another_stage_of_dvc_leaves_all_enabled_datasets(
    monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    wanted = argparse.Namespace(verb="convert", dataset=None, params=PROJECT / "params.yaml")
    assert wanted_datasets(wanted) == params.enabled(PROJECT / "params.yaml")


def test_a_hostile_stage_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "convert@x;touch pwned\ntouch pwned")
    assert main(["convert"]) == 2
    assert "expected a dataset's name" in error_line(capsys)


def test_a_stop_that_a_library_makes_another_error_of_is_still_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def traced() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("in user code: KeyboardInterrupt") from None

    assert guarded(traced, debug=False) == 130
    assert "what was finished is kept" in error_line(capsys)


def test_a_stop_that_is_ignored_from_above_stays_ignored() -> None:
    """As nohup asks for."""
    program = (
        "import os, signal, sys; from pipeline.__main__ import guarded;"
        "signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "sys.exit(guarded(lambda: os.kill(os.getpid(), signal.SIGINT), debug=False))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.03, 0.1, 0.2, 0.4, 0.8, 1.5, 2.5])
def test_ctrl_c_at_any_moment_of_a_verb_is_one_line(project: Path, after_s: float) -> None:
    """Imports included, but for the start of Python itself, which hears nothing of ours."""
    program = (
        "from pipeline.__main__ import end, main; print('begins', flush=True);"
        f"end(main(['convert', '{NAME}', '--workers', '2']))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "begins\n"
    time.sleep(after_s)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode in (0, 130)
    assert "Traceback" not in errors


def test_a_reader_that_leaves_ends_the_run_in_silence() -> None:
    program = (
        "import sys; from pipeline.__main__ import guarded;"
        "sys.exit(guarded(lambda: [print('x' * 9000) for _ in range(99)] and None, debug=False))"
    )
    command = f'{sys.executable} -c "{program}" | head -n 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_file_that_cannot_be_moved_is_reported_with_both_its_names(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: os.rename("gone", "there"), debug=False) == 2  # noqa: PTH104
    assert error_line(capsys).startswith("error: gone -> there: expected files")


@pytest.mark.parametrize(
    "arguments",
    [["train", NAME, "--workers", "2"], ["compare", "a", "b", "--params", "params.yaml"]],
)
def test_an_option_that_would_do_nothing_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        model_main(arguments)
    assert f"unrecognized arguments: {arguments[-2]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cases", ["yield 'sub-01'", "yield Case('sub-01', 'p', raw)", "return 1 / 0"]
)
def test_a_mistake_in_cases_is_reported_with_the_module(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cases: str
) -> None:
    source = (PROJECT / "datasets_spec" / "virtual_mni152.py").read_text("utf-8")
    head = source[: source.index("def cases")]
    (project / "mistaken.py").write_text(f"{head}\n\ndef cases(raw):\n    {cases}\n", "utf-8")
    shutil.copytree(paths.raw(NAME), paths.raw("mistaken"))
    monkeypatch.setattr(datasets_spec, "__path__", [*datasets_spec.__path__, str(project)])
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    content["datasets"] = {"mistaken": None}
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    assert main(["convert", "mistaken", "--workers", "1"]) == 2
    sys.modules.pop("datasets_spec.mistaken")
    assert "datasets_spec/mistaken.py: expected cases, got" in error_line(capsys)


def test_a_module_that_is_no_adapter_is_reported_by_name(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "broken_adapter.py").write_text("1 / 0\n")
    monkeypatch.setattr(datasets_spec, "__path__", [*datasets_spec.__path__, str(project)])
    assert main(["fetch", "broken_adapter"]) == 2
    line = error_line(capsys)
    assert "datasets_spec/broken_adapter.py" in line
    assert "ZeroDivisionError: division by zero" in line


def test_debug_adds_the_traceback(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "nothing", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_check_judges_a_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("convert", "augment"):
        assert main([verb, NAME, "--workers", "1"]) == 0
    assert main(["split", NAME]) == 0
    assert main(["check", str(paths.dataset(NAME))]) == 0
    lines = capsys.readouterr().out.splitlines()[-len(leaks.PROMISES) :]
    assert all(line.endswith("holds") for line in lines)
    folder = paths.dataset(NAME)
    name = next(p.id for p in manifest.read(folder) if p.split == "train" and not p.empty)
    for part in ("images", "masks"):
        shutil.copy(folder / "train" / part / f"{name}.png", folder / "valid" / part / "copy.png")
    assert main(["check", str(paths.dataset(NAME))]) == 2
    assert "no picture is in two splits" in error_line(capsys)


@pytest.mark.slow
def test_check_takes_patients_from_the_manifest_alone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("convert", "augment"):
        assert main([verb, NAME, "--workers", "1"]) == 0
    assert main(["split", NAME]) == 0
    assert main(["check", str(paths.dataset(NAME)), "--patient", "^sub"]) == 2
    assert "expected no pattern for patients" in error_line(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["fetch", "check"])
def test_reading_verbs_obey_the_limits_of_the_parameter_file(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    target, options = NAME, ["--subset", "--workers", "1"]
    few_patients = replace(cohorts.RECIPES["mni152_t1w"], patients=1)
    monkeypatch.setitem(cohorts.RECIPES, "mni152_t1w", few_patients)
    if verb == "check":
        options = []
        for stage in ("convert", "augment"):
            assert main([stage, NAME, "--workers", "1"]) == 0
        assert main(["split", NAME]) == 0
        target = str(paths.dataset(NAME))
        (paths.dataset(NAME) / paths.MANIFEST).unlink()  # else what is known is not decoded
    assert main([verb, target, *options]) == 0
    few = project / "few.yaml"
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    few.write_text(yaml.safe_dump({**content, "limits": {"voxels": 10, "pixels": 10}}), "utf-8")
    capsys.readouterr()
    assert main([verb, target, "--params", str(few)]) == 2
    captured = capsys.readouterr()
    assert "expected at most 10 " in captured.out + captured.err


@pytest.mark.parametrize(
    "command", [["pipeline"], ["pipeline", "convert"], ["model"], ["model", "train"]]
)
def test_help_has_an_example(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Example: python -m" in done.stdout
