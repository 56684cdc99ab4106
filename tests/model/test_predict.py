"""New scans and pictures -> masks in their own grid, a table and a page; nothing else is needed."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from datasets_spec.contract import Problem, Window
from model.delivery.wish import Wish
from model.inference.member import Member
from model.inference.predictor import Predictor
from model.predict import predict
from pipeline.pairs import png, pseudonyms
from pipeline.params.limits import Limits
from tests.conftest import Refused
from tests.pipeline.volumes.dicom import enhanced
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support.members import LABELS, member, predictor

SHAPE = (20, 24, 8)
AFFINES = {
    "RAS": np.diag([1.0, 1.0, 2.5, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 2.5, 1.0]),
    "PSR": np.array([[0, 0, 1.0, -9], [-1.0, 0, 0, 30], [0, 2.5, 0, 4], [0, 0, 0, 1.0]]),
}
OUTPUT = Path("masks")


@pytest.fixture(autouse=True)
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a model file whose network follows the brightness of a pixel."""
    Path("model.keras").write_bytes(b"a model")
    use(monkeypatch, member(px=64))
    return workplace


def use(monkeypatch: pytest.MonkeyPatch, *members: Member) -> None:
    """Let these be the models of every file."""
    monkeypatch.setattr(Predictor, "of", lambda *_: predictor(*members))


def use_ct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model be one of CT."""
    one = member(px=64)
    facts = replace(one.facts, modality="CT", window=Window(400.0, 1000.0))
    use(monkeypatch, replace(one, facts=facts))


def scan(file: Path, affine: str = "RAS") -> np.ndarray[Any, Any]:
    """Write a scan with a bright ball; returns its values in the file's own axes."""
    shape = SHAPE if affine != "PSR" else (SHAPE[1], SHAPE[2], SHAPE[0])
    grid = np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2
    ball = (np.linalg.norm(grid * np.array([1, 1, 2]), axis=1) < 6).reshape(shape)
    values = np.where(ball, 900, 100).astype(np.int16)
    values += np.random.default_rng(0).integers(0, 20, shape).astype(np.int16)
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, AFFINES[affine]), file)
    return values


def run(*inputs: str | Path, **more: Any) -> None:
    predict([Path("model.keras")], [Path(one) for one in inputs], OUTPUT, **more)


def rows() -> list[dict[str, str]]:
    with (OUTPUT / "volumes.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz"])
def test_a_mask_stands_in_the_scans_own_grid(affine: str, ending: str) -> None:
    values = scan(Path("scan.nii"), affine)
    source = Path("scan.nii")
    if ending != ".nii":
        source = Path(f"other{ending}")
        kind = nib.MGHImage if ending == ".mgz" else nib.Nifti1Image
        nib.save(kind(values, AFFINES[affine]), source)
    run(source)
    mask = nib.load(OUTPUT / f"{source.name.removesuffix(ending)}.nii.gz")
    np.testing.assert_allclose(mask.affine, nib.load(source).affine)
    ids = np.asanyarray(mask.dataobj)
    assert ids.shape == values.shape
    assert ids.dtype == np.uint8
    assert (ids == np.where(values > 500, 2, 1)).mean() > 0.97


def test_everything_in_a_tree_is_predicted_or_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_ct(monkeypatch)
    scan(Path("in/a/t1.nii.gz"))
    scan(Path("in/b/t1.nii.gz"))
    write_series(Path("in/c/deep"))
    Image.fromarray(np.full((30, 40), 90, np.uint8)).save("in/b/shot.png")
    Path("in/notes.txt").write_text("words")
    run("in")
    said = capsys.readouterr().out
    assert "4 of 4 scans" in said
    assert "in/notes.txt" in said
    names = {file.name for file in OUTPUT.iterdir() if file.is_file() and file.name[0] != "."}
    assert {"a_t1.nii.gz", "b_t1.nii.gz", "deep.nii.gz", "shot.png"} <= names
    assert {row["scan"] for row in rows()} == {"a_t1", "b_t1", "deep", "shot"}


def test_a_dicom_series_has_a_mask_for_each_instance_and_a_seg(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def placed(header: pydicom.Dataset, _: int) -> None:
        header.FrameOfReferenceUID = header.SeriesInstanceUID

    use_ct(monkeypatch)
    write_series(Path("ct"), change=placed)
    run("ct")
    mask = np.asanyarray(nib.load(OUTPUT / "ct.nii.gz").dataobj)
    for file in Path("ct").iterdir():
        one = pydicom.dcmread(file)
        ids = png.read_mask(OUTPUT / "ct" / f"{one.SOPInstanceUID}.png", LABELS)
        assert ids.shape == one.pixel_array.shape
        assert any((mask[..., index] == ids.T).all() for index in range(mask.shape[2]))
    seg = pydicom.dcmread(OUTPUT / "ct.seg.dcm")
    assert seg.SOPClassUID == pydicom.uid.SegmentationStorage


def test_of_several_volumes_the_one_that_is_named_is_predicted(refused: Refused) -> None:
    def echoes(groups: pydicom.Dataset, frame: int) -> None:
        enhanced.group(groups, "MREchoSequence", EffectiveEchoTime=2.3 if frame < 5 else 4.6)

    enhanced.write(Path("in/mr/a.dcm"), (*range(5), *range(5)), echoes, modality="MR")
    values = scan(Path("one.nii.gz"))
    nib.save(nib.Nifti1Image(np.stack([values, values[::-1]], -1), np.eye(4)), "in/two.nii.gz")
    assert "found none" in str(refused(lambda: run("in")))
    with pytest.raises(Problem):
        run("in", key="echo 2")  # which the NIfTI file does not have
    assert (OUTPUT / "mr_echo-2.nii.gz").is_file()
    uid = pydicom.dcmread("in/mr/a.dcm").SOPInstanceUID
    masks = {file.name for file in (OUTPUT / "mr_echo-2").iterdir()}
    assert masks == {f"{uid}_frame{number}.png" for number in range(6, 11)}
    assert (OUTPUT / "mr_echo-2.seg.dcm").is_file()
    run("in/two.nii.gz", key="volume 2")
    mask = nib.load(OUTPUT / "two_volume-2.nii.gz")
    assert mask.shape == SHAPE
    assert (np.asanyarray(mask.dataobj) == np.where(values[::-1] > 500, 2, 1)).mean() > 0.97


def test_an_anonymous_run_writes_no_name_no_uid_and_no_seg(monkeypatch: pytest.MonkeyPatch) -> None:
    use_ct(monkeypatch)
    write_series(Path("Miller_Anna"))
    scan(Path("Miller_Anna/t1_miller.nii.gz"))
    run("Miller_Anna", wish=Wish(anonymous=True, overlays=True, film=True, probabilities=True))
    files = [file for file in OUTPUT.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert not [file for file in files if "iller" in str(file) or file.name.endswith(".dcm")]
    assert not [file for file in files if b"iller" in file.read_bytes()]
    assert not [file for file in files if b"1.2.3" in file.name.encode()]


def test_maps_are_written_where_they_are_wanted() -> None:
    scan(Path("s.nii.gz"))
    run("s.nii.gz", wish=Wish(probabilities=True, uncertainty=True, view=False))
    maps = {
        name: np.asanyarray(nib.load(OUTPUT / f"s_{name}.nii.gz").dataobj)
        for name in ("probability_dark", "probability_bright", "entropy")
    }
    assert not (OUTPUT / "s_disagreement.nii.gz").exists()
    assert not (OUTPUT / "index.html").exists()
    ids = np.asanyarray(nib.load(OUTPUT / "s.nii.gz").dataobj)
    bright = maps["probability_bright"] > np.maximum(maps["probability_dark"], 0.1)
    assert (bright == (ids == 2)).mean() > 0.999
    assert 0 < maps["entropy"].min() < maps["entropy"].max() < 1


def test_an_ensemble_of_several_planes_states_where_it_disagrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, member("axial"), member("sagittal", px=64))
    scan(Path("s.nii.gz"), "LPS")
    run("s.nii.gz", wish=Wish(uncertainty=True))
    apart = np.asanyarray(nib.load(OUTPUT / "s_disagreement.nii.gz").dataobj)
    assert 0 <= apart.min() < apart.max() < 1


def test_volumes_are_those_of_the_mask() -> None:
    scan(Path("s.nii.gz"))
    run("s.nii.gz")
    ids = np.asanyarray(nib.load(OUTPUT / "s.nii.gz").dataobj)
    [bright] = [row for row in rows() if row["class"] == "bright" and row["kind"] == "class"]
    assert float(bright["ml"]) == pytest.approx((ids == 2).sum() * 2.5 / 1000)
    centre = np.argwhere(ids == 2).mean(axis=0) * [1, 1, 2.5]
    assert [float(bright[f"{axis}_mm"]) for axis in "xyz"] == pytest.approx(centre, abs=1e-3)


def test_the_expected_dice_of_what_was_drawn_is_stated() -> None:
    scan(Path("s.nii.gz"))
    Image.fromarray(np.full((30, 40), 250, np.uint8)).save("shot.png")
    run("s.nii.gz", "shot.png", wish=Wish(probabilities=True))
    names = ("dark", "bright")
    maps = [nib.load(OUTPUT / f"s_probability_{name}.nii.gz").get_fdata() for name in names]
    ids = np.asanyarray(nib.load(OUTPUT / "s.nii.gz").dataobj)
    wanted = {
        name: 2 * p[ids == label].sum() / ((ids == label).sum() + p.sum())
        for label, (name, p) in enumerate(zip(names, maps, strict=True), 1)
    }
    stated = {
        (row["scan"], row["class"]): row["expected_dice"]
        for row in rows()
        if row["kind"] == "class"
    }
    for name in names:
        assert float(stated["s", name]) == pytest.approx(wanted[name], abs=1e-3)
    assert stated["shot", "dark"] == ""  # nothing was drawn
    assert 0.8 < float(stated["shot", "bright"]) < 1
    assert all(row["expected_dice"] == "" for row in rows() if row["kind"] != "class")
    assert "Least sure first" in (OUTPUT / "index.html").read_text("utf-8")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-400])


def _text(file: Path) -> None:
    file.write_text("no scan")


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [_cut, _text, _pipe])
def test_a_bad_scan_is_named_and_the_others_are_done(
    damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "bad", "c"):
        scan(Path(f"in/{name}.nii.gz"))
    damage(Path("in/bad.nii.gz"))
    caught = None
    try:
        run("in")
    except Problem as problem:
        caught = problem
    assert (caught is None) == (damage is _pipe)  # which is no file that may be a scan
    said = capsys.readouterr()
    assert "bad.nii.gz" in said.err + said.out
    assert sorted(file.name for file in OUTPUT.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
    assert {row["scan"] for row in rows()} == {"a", "c"}


def test_what_was_made_before_is_not_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        scan(Path(f"in/{name}.nii.gz"))
    run("in")
    before = {file: file.stat().st_mtime_ns for file in OUTPUT.rglob("*.nii.gz")}
    (OUTPUT / "b.nii.gz").unlink()
    capsys.readouterr()
    run("in")
    said = capsys.readouterr().out
    assert "a: done before" in said
    assert "b: done before" not in said
    assert (OUTPUT / "a.nii.gz").stat().st_mtime_ns == before[OUTPUT / "a.nii.gz"]
    assert (OUTPUT / "b.nii.gz").exists()


@pytest.mark.parametrize("change", ["scan", "wish", "model"])
def test_what_follows_from_something_else_is_made_anew(
    change: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(Path("in/a.nii.gz"))
    run("in")
    wish = Wish(overlays=change == "wish")
    if change == "scan":
        scan(Path("in/a.nii.gz"), "LPS")
    if change == "model":
        use(monkeypatch, replace(member(), digest="1" * 64))
    run("in", wish=wish)
    assert "done before" not in capsys.readouterr().out


def test_the_same_scan_gives_the_same_bytes() -> None:
    scan(Path("s.nii.gz"))
    contents = []
    for _ in range(2):
        run("s.nii.gz", wish=Wish(probabilities=True, overlays=True, film=True))
        contents.append(
            {file: file.read_bytes() for file in OUTPUT.rglob("*") if file.is_file()
             and file.parent.name != "records"}
        )  # fmt: skip
        shutil.rmtree(OUTPUT)
    assert len(contents[0]) > 8
    assert contents[0] == contents[1]


def test_a_stopped_run_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch) -> None:
    scan(Path("s.nii.gz"))

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.delivery.measures.measured", stop)
    with pytest.raises(KeyboardInterrupt):
        run("s.nii.gz", wish=Wish(probabilities=True))
    left = {file.name for file in OUTPUT.rglob("*") if file.is_file() and file.name[0] != "."}
    assert left <= {"s.nii.gz", "s_probability_dark.nii.gz", "s_probability_bright.nii.gz"}
    assert not list(OUTPUT.rglob(".unfinished*"))
    for name in left:
        np.asanyarray(nib.load(OUTPUT / name).dataobj)


def test_nothing_to_predict_is_an_error(refused: Refused) -> None:
    Path("in").mkdir()
    Path("in/notes.txt").write_text("words")
    assert "found none" in str(refused(lambda: run("in")))
    assert "found nothing" in str(refused(lambda: run("missing")))


def test_what_is_larger_than_the_limits_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    scan(Path("in/a.nii.gz"))
    with pytest.raises(Problem):
        run("in", limits=Limits(voxels=1000))
    assert "at most 1,000 voxels" in capsys.readouterr().err


def test_a_scan_that_cannot_be_right_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A series whose header states CT, and a model of MR."""
    write_series(Path("ct"))
    with pytest.raises(Problem):
        run("ct")
    assert "modality CT" in capsys.readouterr().err


def test_names_of_an_anonymous_run_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow from a salt, which stays beside the folder of results."""
    use_ct(monkeypatch)
    write_series(Path("anna"))
    found = []
    for salt in (None, None, "of my own"):
        if salt:
            monkeypatch.setenv(pseudonyms.SALT_VARIABLE, salt)
        run("anna", wish=Wish(anonymous=True))
        found.append({file.name for file in OUTPUT.rglob("*.png")})
        shutil.rmtree(OUTPUT)
    assert found[0] == found[1] != found[2]
    plain = {
        hashlib.sha256(one.SOPInstanceUID.encode()).hexdigest()[:16] for one in headers("anna")
    }
    assert not [name for names in found for name in names if name[:16] in plain]
    assert Path(".masks.salt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("first", [True, False])
def test_anonymous_results_and_others_do_not_share_a_folder(first: bool, refused: Refused) -> None:
    scan(Path("anna.nii.gz"))
    run("anna.nii.gz", wish=Wish(anonymous=first))
    problem = refused(lambda: run("anna.nii.gz", wish=Wish(anonymous=not first)))
    assert "--anonymous" in problem.what


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_an_output_that_cannot_be_a_folder_is_refused_at_once(
    kind: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("afile").write_text("text")
    scan(Path("s.nii.gz"))
    monkeypatch.setattr(Predictor, "of", lambda *_: pytest.fail("loaded a model"))
    output = Path("afile") if kind == "file" else Path("afile/masks")
    problem = refused(lambda: predict([Path("m")], [Path("s.nii.gz")], output))
    assert "--output" in problem.remedy


def test_pictures_are_compared_too_and_never_refused(capsys: pytest.CaptureFixture[str]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    photo[..., 0] //= 4
    Path("in").mkdir()
    Image.fromarray(photo).save("in/photo.png")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save("in/empty.png")
    run("in")
    said = capsys.readouterr().out
    assert "it is in colour" in said
    assert "2 of 2 scans" in said


def headers(folder: str) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file) for file in Path(folder).iterdir()]
