"""The gate on folders of other projects: what it reports, what it accepts, and what it refuses.

tests/test_stages.py has the gate on folders of this project.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets_spec.contract import SPLITS
from pipeline import paths
from pipeline.__main__ import main
from pipeline.params.limits import Limits
from pipeline.splits import contents, folders, leaks, near_duplicates
from pipeline.volumes.arrays import Image8
from tests.conftest import PROJECT, Refused, png_of
from tests.support.cohort import pair

PX = 128
SEED_PAIRS = PROJECT.parent / "shared" / "data" / "seed_pairs"
needs_seed_pairs = pytest.mark.skipif(
    not SEED_PAIRS.is_dir(), reason="the published sample pairs do not lie beside the project"
)


def slice_of(patient: int, number: int = 0) -> Image8:
    """A drawn slice (PX, PX) uint8; neighbours of one patient look alike, patients do not."""
    grain = np.random.default_rng(patient).normal(0, 1, (3, 14, 14)).astype(np.float32)
    tissue = grain[0] + np.sin(number) * grain[1] + np.cos(number) * grain[2]
    texture = cv2.resize(tissue, (PX, PX), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:PX, :PX] - PX / 2
    inside = np.hypot(rows, columns * 1.2) < 54
    return np.where(inside, np.clip(120 + 30 * texture, 40, 230), 4).astype(np.uint8)


def mask_of(picture: Image8) -> Image.Image:
    """Two classes, red and blue, drawn as RGB."""
    rgb = np.zeros((*picture.shape, 3), np.uint8)
    rgb[picture > 120] = (255, 0, 0)
    rgb[picture > 160] = (0, 0, 255)
    return Image.fromarray(rgb)


def put(folder: Path, split: str, name: str, picture: Image8) -> None:
    """Write image and mask, named with their suffix."""
    for part in (paths.IMAGES, paths.MASKS):
        (folder / split / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / split / paths.IMAGES / name)
    mask = (folder / split / paths.MASKS / name).with_suffix(".png")
    mask_of(picture).save(mask)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Nine patients "p0" to "p8" of three slices each, three patients in every split."""
    for patient in range(9):
        for number in range(3):
            picture = slice_of(patient, number)
            put(tmp_path, SPLITS[patient // 3], f"p{patient}_{number}.png", picture)
    return tmp_path


def broken(folder: Path, patient: str = "") -> dict[str, leaks.Violation]:
    return {finding.promise: finding for finding in folders.check(folder, 1, patient)}


@pytest.mark.parametrize("patient", ["", "^p[0-9]", "^p([0-9])"])
def test_a_clean_folder_passes(clean: Path, patient: str) -> None:
    assert broken(clean, patient) == {}
    lines = leaks.table([]).splitlines()
    assert len(lines) == len(leaks.PROMISES)
    assert all(line.endswith("holds") for line in lines)


def test_a_folder_split_by_slices_shares_patients(clean: Path) -> None:
    for part in (paths.IMAGES, paths.MASKS):
        (clean / "train" / part / "p0_2.png").rename(clean / "test" / part / "p0_2.png")
    found = broken(clean, "^p[0-9]")
    assert set(found) == {leaks.PATIENTS}
    assert "p0" in found[leaks.PATIENTS].examples[0]


CHANGES: dict[str, Callable[[Image8], Image8]] = {
    "brighter": lambda picture: np.clip(picture.astype(int) + 20, 0, 255).astype(np.uint8),
    "moved": lambda picture: np.roll(picture, (2, -3), (0, 1)),
    "mirrored": lambda picture: picture[:, ::-1].copy(),
    "of another size": lambda picture: cv2.resize(picture, (200, 200)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_near_duplicates_are_found_by_their_looks_alone(
    clean: Path, change: Callable[[Image8], Image8]
) -> None:
    put(clean, "test", "another.png", change(slice_of(0)))
    found = broken(clean, "^p[0-9]")
    assert set(found) == {leaks.LIKENESSES}
    assert found[leaks.LIKENESSES].count == 1
    assert "train/p0_0 and test/another (correlation " in found[leaks.LIKENESSES].examples[0]


def test_near_duplicates_within_a_split_or_a_patient_are_no_leak(clean: Path) -> None:
    put(clean, "train", "p0_7.png", CHANGES["brighter"](slice_of(0)))
    assert broken(clean, "^p[0-9]") == {}


def test_one_picture_under_two_names_is_a_copy_and_no_near_duplicate(clean: Path) -> None:
    put(clean, "valid", "another.png", slice_of(0))
    assert set(broken(clean)) == {leaks.COPIES}


def test_a_re_encoded_picture_is_a_near_duplicate(clean: Path) -> None:
    put(clean, "valid", "another.jpg", slice_of(0))
    assert set(broken(clean)) == {leaks.LIKENESSES}


def test_blank_pictures_say_nothing(clean: Path) -> None:
    for split in SPLITS:
        put(clean, split, f"{split}.png", np.zeros((PX, PX), np.uint8))
    assert broken(clean) == {}


def test_the_patient_of_a_blank_picture_counts(tmp_path: Path) -> None:
    pairs = [
        pair("a_0", split="train", patient="a", image_digest="blank"),
        pair("a_1", split="test", patient="a"),
    ]
    assert [one.promise for one in leaks.judge(tmp_path, pairs, ["blank"])] == [leaks.PATIENTS]


def by_slice_after_augmentation(folder: Path, pictures: dict[str, Image8]) -> None:
    """As the reference projects do: warp, then deal the slices out one by one."""
    names = cycle(["train", "train", "train", "valid", "test"])
    for name, picture in pictures.items():
        put(folder, next(names), f"{name}.png", picture)
        put(folder, next(names), f"hflip_{name}.png", CHANGES["mirrored"](picture))
        put(folder, next(names), f"bright_{name}.png", CHANGES["brighter"](picture))


def test_a_folder_split_after_augmentation_breaks_every_law(tmp_path: Path) -> None:
    by_slice_after_augmentation(
        tmp_path, {f"{100 + n}{k:03d}": slice_of(n, k) for n in range(6) for k in range(2)}
    )
    assert set(broken(tmp_path, "[0-9]{3}")) == {leaks.PATIENTS, leaks.PARENTS, leaks.AUGMENTED}
    found = broken(tmp_path)
    assert set(found) == {leaks.PARENTS, leaks.LIKENESSES, leaks.AUGMENTED}
    assert found[leaks.LIKENESSES].count >= 10


def test_an_augmented_picture_has_its_parents_patient(clean: Path) -> None:
    picture = slice_of(0)[::-1].copy()
    put(clean, "train", "turned_p0_0.png", picture)
    assert broken(clean, "^p[0-9]") == {}
    put(clean, "valid", "turned_p1_0.png", slice_of(1)[::-1].copy())
    assert set(broken(clean, "^p[0-9]")) == {leaks.PATIENTS, leaks.PARENTS, leaks.AUGMENTED}


@pytest.mark.parametrize("part", [paths.IMAGES, paths.MASKS])
def test_a_missing_partner_is_found(clean: Path, part: str) -> None:
    (clean / "valid" / part / "p3_1.png").unlink()
    found = broken(clean)
    assert set(found) == {leaks.PAIRED}
    assert found[leaks.PAIRED].examples[0] == "valid/p3_1"


def test_two_images_of_one_name_are_found(clean: Path) -> None:
    put(clean, "train", "p0_0.jpg", slice_of(0))
    found = broken(clean)
    assert set(found) == {leaks.PAIRED}
    assert found[leaks.PAIRED].examples[0] == "train/images/p0_0.jpg and train/images/p0_0.png"


@pytest.mark.parametrize("harm", [b"", b"no picture", None], ids=["empty", "other", "cut"])
@pytest.mark.parametrize("part", [paths.IMAGES, paths.MASKS])
def test_an_unreadable_picture_is_named(clean: Path, part: str, harm: bytes | None) -> None:
    file = clean / "test" / part / "p8_0.png"
    file.write_bytes(file.read_bytes()[:60] if harm is None else harm)
    found = broken(clean)
    assert set(found) == {leaks.READABLE}
    message = f"test/p8_0: the {part.removesuffix('s')} cannot be read"
    assert found[leaks.READABLE].examples[0].startswith(message)


@pytest.mark.parametrize("part", [paths.IMAGES, paths.MASKS])
def test_a_picture_beyond_the_limits_is_named(clean: Path, part: str) -> None:
    assert folders.check(clean, 1, limits=Limits(pixels=PX * PX)) == []
    file = clean / "test" / part / "p8_0.png"
    file.write_bytes(png_of(50_000, 50_000))
    limited = broken(clean)
    assert set(limited) == {leaks.READABLE}
    message = limited[leaks.READABLE].examples[0]
    assert message.startswith(f"test/p8_0: the {part.removesuffix('s')} cannot be read")
    assert "100,000,000 pixels" in message


def test_an_eps_for_a_mask_is_named(clean: Path) -> None:
    (clean / "test" / paths.MASKS / "p8_0.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    )
    [found] = broken(clean).values()
    assert found.promise == leaks.READABLE
    assert found.examples[0].startswith("test/p8_0: the mask cannot be read")


@pytest.mark.parametrize("part", [paths.IMAGES, paths.MASKS])
def test_a_pipe_is_refused_at_once(clean: Path, refused: Refused, part: str) -> None:
    file = clean / "test" / part / "p8_0.png"
    file.unlink()
    os.mkfifo(file)
    problem = refused(lambda: folders.check(clean, 1))
    assert problem.where == str(file)
    assert "got a named pipe" in problem.what


def test_a_mask_of_another_size_is_named(clean: Path) -> None:
    mask_of(slice_of(1)[:50]).save(clean / "train" / paths.MASKS / "p1_0.png")
    assert (
        broken(clean)[leaks.READABLE].examples[0]
        == "train/p1_0: the image is (128, 128), the mask (50, 128)"
    )


def test_blended_colours_are_found_by_their_number(clean: Path) -> None:
    file = clean / "train" / paths.MASKS / "p1_0.png"
    Image.open(file).resize((PX // 2, PX // 2), Image.Resampling.BILINEAR).resize((PX, PX)).save(
        file
    )
    found = broken(clean)
    assert set(found) == {leaks.COLOURS}
    assert found[leaks.COLOURS].examples[0].startswith("train/p1_0 with ")


def test_a_card_declares_the_colours(clean: Path) -> None:
    colours = [[0, 0, 0], [255, 0, 0]]
    card = {"labels": [{"colour": colour} for colour in colours]}
    (clean / paths.CARD).write_text(json.dumps(card))
    found = broken(clean)
    assert set(found) == {leaks.COLOURS}
    assert found[leaks.COLOURS].count == 27
    assert "(0, 0, 255)" in found[leaks.COLOURS].examples[0]


@pytest.mark.parametrize(
    "card",
    [
        '{"labels": {"background": 0}}',
        '{"labels": [{"colour": 7}]}',
        '{"labels": [{"colour": [1, 2]}]}',
        "[" * 100_000,
        "no JSON",
        "[]",
    ],
)
def test_another_programs_card_is_no_card(clean: Path, card: str) -> None:
    (clean / paths.CARD).write_text(card)
    assert broken(clean) == {}


def test_jpeg_images_with_png_masks_and_suffixes_in_capitals_are_pairs(tmp_path: Path) -> None:
    for number, (split, suffix) in enumerate(zip(SPLITS, (".jpg", ".PNG", ".jpeg"), strict=True)):
        put(tmp_path, split, f"p{number}{suffix}", slice_of(number))
    assert broken(tmp_path) == {}


def test_files_that_are_no_pictures_are_left_alone(clean: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", ".p0_0.png"):
        (clean / "train" / paths.IMAGES / name).write_bytes(b"\0")
    (clean / "train" / paths.MASKS / "folder").mkdir()
    assert broken(clean) == {}


@pytest.mark.slow
def test_the_gates_verdict_does_not_depend_on_workers(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(clean, "test", "another.png", CHANGES["moved"](slice_of(0)))
    alone = folders.check(clean, 1)
    monkeypatch.setattr(contents, "_FEW", 1)
    monkeypatch.setattr(contents, "_CHUNK", 10)
    assert folders.check(clean, 2) == alone


def test_a_split_without_pictures_is_refused(clean: Path, refused: Refused) -> None:
    shutil.rmtree(clean / "valid" / paths.IMAGES)
    (clean / "valid" / paths.IMAGES).mkdir()
    (clean / "valid" / paths.IMAGES / "volume.nii").write_bytes(b"")
    message = str(refused(lambda: folders.check(clean, 1)))
    assert "found none among 1 files" in message
    assert "valid/images" in message


def test_another_layout_is_refused(clean: Path, refused: Refused) -> None:
    (clean / "valid").rename(clean / "val")
    message = str(refused(lambda: folders.check(clean, 1)))
    assert "found no valid/images" in message


@pytest.mark.parametrize(
    ("pattern", "reason"), [("^q", "expected names that match '^q'"), ("(", "regular expression")]
)
def test_a_pattern_that_matches_nothing_is_refused(
    clean: Path, refused: Refused, pattern: str, reason: str
) -> None:
    assert reason in str(refused(lambda: folders.check(clean, 1, pattern)))


def test_the_search_for_near_duplicates_ends_and_says_so(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "ENOUGH", 4)
    for number in range(9):
        put(clean, "test", f"copy{number}.png", np.roll(slice_of(0), number, 0))
    found = broken(clean)[leaks.LIKENESSES]
    assert found.count == 4
    assert found.examples[0].endswith("between two splits the search ends at 4")


def test_some_examples_are_shown_with_how_many_are_left_and_all_on_demand(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = sorted((clean / "train" / paths.MASKS).iterdir())[:5]
    for mask in masks:
        mask.unlink()
    names = [f"train/{mask.stem}" for mask in masks]
    assert main(["check", str(clean), "--workers", "1"]) == 2
    message = capsys.readouterr()
    line = f"broken 5 times, such as {'; '.join(names[:3])}; and 2 more"
    assert line in message.out
    assert f"{leaks.PAIRED}: {line}" in message.err
    assert main(["check", str(clean), "--workers", "1", "--all"]) == 2
    assert f"broken 5 times, such as {'; '.join(names)}\n" in capsys.readouterr().out


def test_every_patient_of_two_splits_is_among_the_examples(clean: Path) -> None:
    for part in (paths.IMAGES, paths.MASKS):
        for name in ("p0_2", "p1_2"):
            (clean / "train" / part / f"{name}.png").rename(clean / "test" / part / f"{name}.png")
    found = broken(clean, "^p[0-9]")[leaks.PATIENTS]
    assert [message.split(":")[0] for message in found.examples] == ["p0", "p1"]


def laid_out(folder: Path, files: Sequence[Path], splits: Sequence[str]) -> None:
    for image, split in zip(files, splits, strict=True):
        for part in (paths.IMAGES, paths.MASKS):
            (folder / split / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(image.parent.parent / part / image.name, folder / split / part)


@needs_seed_pairs
@pytest.mark.parametrize(
    ("name", "stray_colours"),
    [("AISD", False), ("MBH-Seg25", False), ("PHE-SICH-CT-IDS", True), ("Full-Head-T1W", True)],
)
def test_pairs_of_the_reference_projects(tmp_path: Path, name: str, stray_colours: bool) -> None:
    files = sorted((SEED_PAIRS / name / "images").glob("*.png"))
    third = len(files) // 3
    splits = ["train"] * (len(files) - 2 * third) + ["valid"] * third + ["test"] * third
    laid_out(tmp_path, files, splits)
    assert (leaks.COLOURS in broken(tmp_path)) == stray_colours


@pytest.mark.slow
@needs_seed_pairs
def test_splitting_as_the_reference_projects_do_is_detected(tmp_path: Path) -> None:
    files = sorted((SEED_PAIRS / "MBH-Seg25" / "images").glob("*.png"))
    pictures = {
        file.stem: np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8)
        for file in files
    }
    by_slice_after_augmentation(tmp_path, pictures)
    found = broken(tmp_path, "[0-9]{3}")
    assert {leaks.PATIENTS, leaks.PARENTS, leaks.AUGMENTED} <= set(found)
    patients = {name[:3] for name in pictures}
    assert found[leaks.PATIENTS].count > 0.8 * len(patients)
    assert leaks.LIKENESSES not in found
    assert broken(tmp_path)[leaks.LIKENESSES].count > 0.5 * len(files)
