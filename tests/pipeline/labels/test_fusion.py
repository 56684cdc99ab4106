"""The truth of a case: what several raters drew, fused as asked, and how far they agree."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import combinations

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from datasets_spec.contract import IGNORED, Dataset, Licence, Source
from pipeline.labels import decode, fusion
from pipeline.params.limits import Limits
from pipeline.volumes import reader
from pipeline.volumes.findings import DOUBT, HANDLED, text, texts
from tests.support.every import every

SHAPE = (24, 20, 3)
AFFINE = np.diag([0.5, 0.5, 5.0, 1.0])
FUSIONS = ["majority", "staple"]


@pytest.fixture
def dataset(label_map):
    terms = Licence("CC BY 4.0", redistribute=True, commercial=True)
    source = Source("https://example.org", terms, "Someone, 2026", instructions="Ask them.")
    return Dataset("Some scans", "MR", label_map, source)


def disc(row, column, radius):
    rows, columns = np.indices(SHAPE[:2])
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return np.repeat(inside[..., None], SHAPE[2], axis=2)


def drawn(row, column):
    """A rim around a core, as a rater sees it who puts its centre here."""
    ids = np.zeros(SHAPE, np.uint8)
    ids[disc(row, column, 7)] = 2
    ids[disc(row, column, 4)] = 1
    return ids


RATERS = {"1": drawn(11, 9), "2": drawn(12, 10), "4": drawn(12, 11)}


def row_of(*values):
    """A label whose first voxels have these values."""
    ids = np.zeros(SHAPE, np.uint8)
    ids.reshape(-1)[: len(values)] = values
    return ids


@pytest.fixture
def truth(tmp_path, dataset):
    """Save each rater's label as NIfTI and ask for the truth."""

    def ask(raters, how="majority", affine=AFFINE, **changes):
        image = tmp_path / "image.nii"
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE), image)
        pictures = {}
        for rater, label in raters.items():
            pictures[rater] = tmp_path / f"label_{rater}.nii"
            nib.save(nib.Nifti1Image(label, affine), pictures[rater])
        spec = replace(dataset, **changes)
        return fusion.truth(spec, reader.read_image(image), pictures, how)

    return ask


def only(truth):
    """The one label map of a truth whose raters were fused."""
    assert list(truth.ids) == [""]
    return truth.ids[""]


# --- one rater -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", FUSIONS)
@pytest.mark.parametrize("rater", ["", "4"])
def test_the_only_rater_is_the_truth(truth, how, rater):
    found = truth({rater: RATERS["1"]}, how)
    np.testing.assert_array_equal(only(found), RATERS["1"])
    assert found.raters == 1
    assert found.agreement == ()
    assert (found.evidence, found.snapped) == ("", 0)


# --- several raters --------------------------------------------------------------------------


def test_majority_is_what_two_of_three_drew(truth):
    found = truth({"1": row_of(1, 1, 1, 2, 0), "2": row_of(1, 1, 2, 2, 0), "3": row_of(1, 0, 2, 0)})
    assert only(found).reshape(-1)[:5].tolist() == [1, 1, 2, 2, 0]
    assert found.raters == 3


@pytest.mark.parametrize(
    "votes",
    [
        pytest.param((1, 0), id="drawn by one of two"),
        pytest.param((1, 2), id="two classes"),
        pytest.param((0, 1, 2), id="three opinions"),
        pytest.param((1, 1, 2, 2), id="two against two"),
    ],
)
def test_a_tie_is_background(truth, votes):
    raters = {str(number): row_of(vote, 1) for number, vote in enumerate(votes)}
    assert only(truth(raters)).reshape(-1)[:2].tolist() == [0, 1]


@pytest.mark.parametrize("how", FUSIONS)
def test_what_all_raters_drew_is_the_truth(truth, how):
    fused = only(truth(RATERS, how))
    first, second, third = RATERS.values()
    agreed = (first == second) & (second == third)
    assert len(np.unique(first[agreed])) == 3
    np.testing.assert_array_equal(fused[agreed], first[agreed])


@pytest.mark.parametrize("how", FUSIONS)
def test_a_class_is_only_where_some_rater_drew_it(truth, how):
    fused = only(truth(RATERS, how))
    assert np.unique(fused).tolist() == [0, 1, 2]
    union = np.stack(list(RATERS.values()))
    for class_id in (1, 2):
        assert (union == class_id).any(axis=0)[fused == class_id].all()


@every("how", FUSIONS)
@every("raters", [2, 3, 4])
@every("seed", range(5))
def test_fused_labels_have_only_declared_classes(truth, how, raters, seed):
    rng = np.random.default_rng(seed)
    scribbles = {str(n): rng.integers(0, 3, SHAPE).astype(np.uint8) for n in range(raters)}
    fused = only(truth(scribbles, how))
    assert fused.dtype == np.uint8
    assert fused.shape == SHAPE
    assert set(np.unique(fused)) <= {0, 1, 2}


@pytest.mark.parametrize("how", FUSIONS)
def test_nothing_drawn_by_any_rater_is_nothing(truth, how):
    assert not only(truth(dict.fromkeys(RATERS, row_of()), how)).any()


def test_each_keeps_every_rater(truth):
    found = truth(RATERS, "each")
    assert found.ids.keys() == RATERS.keys()
    for rater, ids in RATERS.items():
        np.testing.assert_array_equal(found.ids[rater], ids)


def test_a_named_rater_is_taken_alone(truth):
    found = truth(RATERS, "4")
    assert list(found.ids) == ["4"]
    np.testing.assert_array_equal(found.ids["4"], RATERS["4"])
    assert found.raters == 3


def test_refuses_an_unknown_rater_and_lists_the_known(truth, refused):
    problem = refused(lambda: truth(RATERS, "3"))
    assert problem.where == "convert.raters"
    assert "1, 2, 4" in str(problem)
    assert "'3'" in str(problem)


# --- what nobody annotated -------------------------------------------------------------------


VOTES = {  # votes of the raters -> majority, staple, union, agreed
    (1, 1): (1, 1, 1, 1),
    (1, 0): (0, 0, 1, IGNORED),
    (1, 2): (0, 0, IGNORED, IGNORED),
    (0, 0): (0, 0, 0, 0),
    (1, 1, 2): (1, 1, 1, IGNORED),
    (0, 0, 2): (0, 0, 2, IGNORED),
    (0, 1, 2): (0, 0, IGNORED, IGNORED),
    (IGNORED, 1): (1, 1, 1, 1),
    (IGNORED, 0): (0, 0, 0, 0),
    (IGNORED, IGNORED): (IGNORED,) * 4,
    (IGNORED, 1, 1): (1, 1, 1, 1),
    (IGNORED, 1, 0): (0, 0, 1, IGNORED),
    (IGNORED, IGNORED, 2): (2, 2, 2, 2),
}


@every("votes", VOTES)
def test_raters_who_disagree_or_abstain(votes):
    ids = {str(rater): drawing(vote) for rater, vote in enumerate(votes)}
    for how, wanted in zip(("majority", "staple", "union", "agreed"), VOTES[votes], strict=True):
        fused = fusion.fused(ids, how, 3)
        assert list(fused) == [""]
        assert fused[""].dtype == np.uint8
        assert fused[""][0, 0, 0] == wanted, how
        assert (fused[""][:, :, 1:] == drawing(0)[:, :, 1:]).all()


def drawing(vote):
    """A rim around a core that every rater drew alike, and one voxel with this vote."""
    ids = drawn(12, 10)
    ids[0, 0, 0] = vote
    return ids


@every("how", FUSIONS)
@every("seed", range(4))
def test_two_raters_are_fused_to_their_intersection(truth, how, seed):
    row, column = np.random.default_rng(seed).integers(8, 13, 2)
    one, other = RATERS["1"], drawn(row, column)
    found = truth({"1": one, "2": other}, how)
    np.testing.assert_array_equal(only(found), np.where(one == other, one, 0))
    assert f"two, of whom {how} keeps what both drew alike" in texts(found.findings)


@pytest.mark.parametrize("how", ["union", "agreed", "1"])
def test_other_choices_of_two_raters_are_no_finding(truth, how):
    assert not truth({"1": RATERS["1"], "2": RATERS["2"]}, how).findings


@every("how", ["union", "agreed"])
@every("seed", range(4))
def test_union_and_agreement_are_their_definitions(how, seed):
    ids = np.random.default_rng(seed).choice(np.array([0, 0, 1, 2, IGNORED], np.uint8), (3, *SHAPE))
    fused = fusion.fused({str(n): one for n, one in enumerate(ids)}, how, 3)[""]
    for place in np.ndindex(SHAPE):
        votes = [int(one) for one in ids[(slice(None), *place)] if one != IGNORED]
        drawings = [vote for vote in votes if vote] if how == "union" else votes
        times = sorted((drawings.count(vote), vote) for vote in set(drawings))
        if how == "agreed":
            wanted = votes[0] if len(set(votes)) == 1 else IGNORED
        elif not drawings:
            wanted = 0 if votes else IGNORED
        else:
            tie = len(times) > 1 and times[-1][0] == times[-2][0]
            wanted = IGNORED if tie else times[-1][1]
        assert fused[place] == wanted


def test_raw_values_that_are_ignored_are_of_no_class(truth, refused):
    label = np.zeros(SHAPE, np.int16)
    label.reshape(-1)[:4] = (1, 77, -3, 2)
    found = only(truth({"": label}, ignored_values=(77, -3)))
    assert found.reshape(-1)[:5].tolist() == [1, IGNORED, IGNORED, 2, 0]
    assert "got 77 in 1 voxels" in str(refused(lambda: truth({"": label}, ignored_values=(-3,))))


def test_a_colour_that_is_ignored_is_of_no_class(tmp_path, dataset, label_map):
    ids = np.random.default_rng(0).integers(0, 4, (2, 4, 6))
    palette = np.array([*(label.colour for label in label_map), (255, 0, 255)], np.uint8)
    image = reader.read_image(slices(tmp_path / "image", np.zeros((2, 4, 6), np.uint8)))
    raters = {"": slices(tmp_path / "label", palette[ids])}
    spec = replace(dataset, coding="colours", ignored_values=(0xFF00FF,))
    found = only(fusion.truth(spec, image, raters, "majority"))
    counts = np.bincount(ids.ravel(), minlength=4)
    assert np.bincount(found.ravel(), minlength=256)[[0, 1, 2, IGNORED]].tolist() == counts.tolist()


def test_what_a_rater_did_not_annotate_is_left_out_of_the_agreement(truth):
    half, other = RATERS["1"].copy(), drawn(11, 10)
    half[12:] = 99
    found = truth({"1": half, "2": other}, "agreed", ignored_values=(99,))
    assert found.agreement == pytest.approx(dice(half[:12], other[:12]))
    assert (only(found)[12:] == other[12:]).all()


@every("turn", [[[0, 1], [1, 1], [2, 1]], [[2, -1], [0, 1], [1, -1]], [[1, 1], [2, 1], [0, -1]]])
def test_slices_that_were_annotated_are_counted_as_the_image_is_stored(tmp_path, dataset, turn):
    scan, label = (
        nib.Nifti1Image(array, AFFINE).as_reoriented(np.array(turn))
        for array in (np.zeros(SHAPE, np.int16), RATERS["1"])
    )
    for name, one in (("image", scan), ("label", label)):
        nib.save(one, tmp_path / f"{name}.nii")
    image = reader.read_image(tmp_path / "image.nii")
    labels = {"": tmp_path / "label.nii"}
    found = fusion.truth(dataset, image, labels, "majority", annotated=(0, 2))
    stored = image.grid.from_ras(only(found))
    kept = np.isin(np.arange(stored.shape[2]), (0, 2))
    np.testing.assert_array_equal(stored[..., kept], np.asarray(label.dataobj)[..., kept])
    assert (stored[..., ~kept] == IGNORED).all()


def test_refuses_an_annotated_slice_that_is_not_there(tmp_path, dataset, refused):
    for name in ("image", "label"):
        nib.save(nib.Nifti1Image(RATERS["1"], AFFINE), tmp_path / f"{name}.nii")
    image, labels = reader.read_image(tmp_path / "image.nii"), {"": tmp_path / "label.nii"}
    problem = refused(lambda: fusion.truth(dataset, image, labels, "majority", annotated=(0, 3)))
    assert "expected annotated slices from 0 to 2, got 3" in str(problem)


# --- agreement -------------------------------------------------------------------------------


def dice(one, other):
    """Dice per class by scikit-learn, where it is called F1; NaN where neither has the class."""
    return f1_score(
        one.ravel(), other.ravel(), labels=[0, 1, 2], average=None, zero_division=np.nan
    )


@pytest.mark.parametrize("how", [*FUSIONS, "each", "2"])
def test_agreement_is_the_mean_dice_of_all_pairs_of_raters(truth, how):
    pairs = [dice(one, other) for one, other in combinations(RATERS.values(), 2)]
    expected = np.mean(pairs, axis=0)
    assert (expected < 1).all()
    assert truth(RATERS, how).agreement == pytest.approx(expected)


def test_agreement_is_nan_where_no_rater_has_the_class(truth):
    everywhere, core, rim = truth({"1": row_of(1, 1), "2": row_of(1)}).agreement
    assert everywhere == pytest.approx(dice(row_of(1, 1), row_of(1))[0])
    assert core == pytest.approx(2 / 3)
    assert math.isnan(rim)


def test_a_pair_that_lacks_the_class_is_left_out_of_its_mean(truth):
    found = truth({"1": row_of(1, 2), "2": row_of(1), "3": row_of(1)})
    assert found.agreement[1:] == (1.0, 0.0)


# --- what is refused -------------------------------------------------------------------------


def test_refuses_a_label_on_another_grid(truth, refused):
    elsewhere = AFFINE.copy()
    elsewhere[2, 3] = 5
    problem = refused(lambda: truth({"2": RATERS["2"]}, affine=elsewhere))
    assert problem.where.endswith("label_2.nii")
    assert "5 mm away" in str(problem)


def test_refuses_a_label_of_another_shape(truth, refused):
    problem = refused(lambda: truth({"1": RATERS["1"], "2": RATERS["2"][:-1]}))
    assert problem.where.endswith("label_2.nii")
    assert "(23, 20, 3)" in str(problem)


def test_refuses_an_undeclared_value_and_names_the_file(truth, refused):
    problem = refused(lambda: truth({"1": row_of(1), "2": row_of(1, 7, 7)}))
    assert problem.where.endswith("label_2.nii")
    assert "got 7 in 2 voxels" in str(problem)


# --- resampled labels ------------------------------------------------------------------------


def test_a_label_on_another_grid_is_resampled_where_the_adapter_opts_in(truth):
    label = RATERS["2"]
    thin = np.repeat(label, 2, axis=2)  # every slice drawn as two of half the thickness
    affine = np.diag([0.5, 0.5, 2.5, 1.0])
    affine[2, 3] = -1.25
    found = truth({"2": thin}, affine=affine, resample_labels=True)
    np.testing.assert_array_equal(only(found), label)
    words = texts(found.findings)
    assert words.startswith("label: resampled: by nearest neighbour from 24x20x6")


def test_a_label_on_the_image_s_own_grid_is_never_resampled(truth):
    assert truth({"2": RATERS["2"]}, resample_labels=True).findings == ()


def test_refuses_a_resampled_label_that_lies_outside_its_image(truth, refused):
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] = 500
    problem = refused(lambda: truth({"2": RATERS["2"]}, affine=elsewhere, resample_labels=True))
    assert problem.where.endswith("label_2.nii")
    assert "overlaps its image" in problem.what


def block(shape, *sides):
    """A label of class 1, with a block of class 2 of so many voxels in its middle."""
    ids = np.ones(shape, np.uint8)
    ids[
        tuple(slice((n - side) // 2, (n + side) // 2) for n, side in zip(shape, sides, strict=True))
    ] = 2
    return ids


def apart(millimetres):
    """The image's grid, moved along x."""
    affine = AFFINE.copy()
    affine[0, 3] = millimetres
    return affine


def test_the_volumes_before_and_after_resampling_are_recorded_by_class(truth):
    thin = np.repeat(RATERS["2"], 2, axis=2)
    affine = np.diag([0.5, 0.5, 2.5, 1.0])
    affine[2, 3] = -1.25
    _, *recorded = truth({"2": thin}, affine=affine, resample_labels=True).findings
    core, rim = (np.count_nonzero(thin == label) * 0.5 * 0.5 * 2.5 / 1000 for label in (1, 2))
    inside = "(+0.0%), 0.0% of it outside the image"
    assert texts(recorded) == (
        f"label: resampled: core {core:.3g} to {core:.3g} ml {inside};"
        f" label: resampled: rim {rim:.3g} to {rim:.3g} ml {inside}"
    )
    assert {one.severity for one in recorded} == {HANDLED}


def test_what_a_class_loses_outside_the_image_is_recorded(truth):
    found = truth({"2": block(SHAPE, 4, 4, 3)}, affine=apart(1), resample_labels=True).findings
    _, core, rim = found
    # two of 24 columns lie beside the image
    assert text(core).endswith("(-8.6%), 8.6% of it outside the image")
    assert "ml (+0.0%)" in text(rim)
    assert (core.severity, rim.severity) == (DOUBT, HANDLED)


@pytest.mark.parametrize("columns", [3, 12, 20])
def test_a_class_that_loses_too_much_outside_the_image_is_refused(truth, refused, columns):
    label = block(SHAPE, 4, 4, 3)
    problem = refused(lambda: truth({"2": label}, affine=apart(columns / 2), resample_labels=True))
    assert problem.where.endswith("label_2.nii")
    assert "lose at most 10% by resampling, got core" in problem.what


def test_one_class_outside_the_image_is_refused_though_the_others_are_inside(truth, refused):
    label = np.zeros(SHAPE, np.uint8)
    label[10:, 10:] = 1
    label[:3, :3] = 2
    problem = refused(lambda: truth({"2": label}, affine=apart(-1), resample_labels=True))
    assert "got rim" in problem.what


def test_a_small_lesion_between_thick_slices_is_recorded_and_not_refused(tmp_path, dataset):
    image, label = tmp_path / "image.nii", tmp_path / "label.nii"
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 4), np.int16), np.diag([1, 1, 10, 1.0])), image)
    drawn = np.zeros((20, 20, 31), np.uint8)
    drawn[2:18, 2:18] = 1
    drawn[9:12, 9:12, 4:6] = 2  # the image has slices at 0 and at 10 mm
    nib.save(nib.Nifti1Image(drawn, np.eye(4)), label)
    spec = replace(dataset, resample_labels=True)
    found = fusion.truth(spec, reader.read_image(image), {"": label}, "majority")
    assert 2 not in only(found)
    rim = found.findings[-1]
    assert "rim 0.018 to 0 ml (-100.0%)" in text(rim)
    assert rim.severity == DOUBT


@pytest.mark.parametrize("shear", [0.0, 0.364])  # a gantry of 20 degrees
@pytest.mark.parametrize("side", [0.7, 1.0, 1.6])
def test_plain_and_sheared_resampling_of_what_the_image_shows_is_never_refused(
    tmp_path, dataset, shear, side
):
    image, label = tmp_path / "image.nii", tmp_path / "label.nii"
    lean = np.eye(4)
    lean[1, 2] = shear
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 24), np.int16), np.eye(4)), image)
    counts = [int(n / side) for n in (40, 30, 20)]
    affine = np.diag([side, side, side, 1]) @ lean
    affine[:3, 3] = (12.3, 12.6, 1.7)
    nib.save(nib.Nifti1Image(block(counts, 8, 6, 6), affine), label)
    spec = replace(dataset, resample_labels=True)
    _, *recorded = fusion.truth(spec, reader.read_image(image), {"": label}, "majority").findings
    assert {one.numbers["outside"] for one in recorded} == {0.0}


# --- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["volume", "slices"])
def test_images_and_labels_of_every_kind_obey_the_limits(tmp_path, dataset, refused, kind):
    picture = tmp_path / "label.nii"
    nib.save(nib.Nifti1Image(RATERS["1"], AFFINE), picture)
    if kind == "slices":
        picture = slices(tmp_path / "label", np.zeros((2, 4, 6), np.uint8))
    image = reader.read_image(picture)
    readers = {
        "image": lambda limits: reader.read_image(picture, limits),
        "label": lambda limits: decode.read_raw(dataset, picture, limits),
        "truth": lambda limits: fusion.truth(
            dataset, image, {"": picture}, "majority", limits=limits
        ),
    }
    for read in readers.values():
        assert read(Limits(voxels=image.array.size))
        problem = refused(partial(read, Limits(voxels=image.array.size - 1)))
        assert "limits.voxels" in problem.remedy


# --- slices ----------------------------------------------------------------------------------


def slices(folder, pictures):
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return tuple(sorted(folder.iterdir()))


def test_the_raters_of_a_stack_are_fused_like_those_of_a_volume(tmp_path, dataset):
    image = reader.read_image(slices(tmp_path / "image", np.zeros((2, 4, 6), np.uint8)))
    pictures = np.zeros((3, 2, 4, 6), np.uint8)
    pictures[0, 1, 2, 3:5], pictures[1, 1, 2, 3:5], pictures[2, 1, 2, 3] = (1, 2), 1, 1
    raters = {str(n): slices(tmp_path / str(n), drawing) for n, drawing in enumerate(pictures)}
    fused = only(fusion.truth(dataset, image, raters, "majority"))
    assert int((fused == 1).sum()) == 1 == np.count_nonzero(fused)


def test_a_stack_drawn_in_the_colours_of_the_map_becomes_its_classes(tmp_path, dataset, label_map):
    image = reader.read_image(slices(tmp_path / "image", np.zeros((2, 4, 6), np.uint8)))
    ids = np.random.default_rng(0).integers(0, 3, (2, 4, 6))
    palette = np.array([label.colour for label in label_map], np.uint8)
    near = palette[ids]
    near[ids == 1] += 1
    raters = {"": slices(tmp_path / "label", near)}
    spec = replace(dataset, coding="colours", snap_distance=2)
    found = fusion.truth(spec, image, raters, "majority")
    counts = np.bincount(ids.ravel(), minlength=3)
    assert np.bincount(only(found).ravel(), minlength=3).tolist() == counts.tolist()
    assert found.snapped == counts[1]


@pytest.mark.parametrize("value", [1, 110, 255])
@pytest.mark.parametrize("kind", ["volume", "slices"])
def test_one_value_above_0_is_the_class_of_a_binary_dataset(
    tmp_path, dataset, label_map, kind, value
):
    two = replace(label_map, labels=label_map.labels[:2])
    spec = replace(dataset, label_map=two, coding="binary")
    drawing = np.zeros((2, 4, 6), np.uint8)
    drawing[1, 2, 3] = value
    if kind == "slices":
        image, label = (slices(tmp_path / name, drawing) for name in ("image", "label"))
    else:
        image, label = tmp_path / "image.nii", tmp_path / "label.nii"
        for file in (image, label):
            nib.save(nib.Nifti1Image(drawing, AFFINE), file)
    found = only(fusion.truth(spec, reader.read_image(image), {"": label}, "majority"))
    assert np.bincount(found.ravel()).tolist() == [47, 1]
