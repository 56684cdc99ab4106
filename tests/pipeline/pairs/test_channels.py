"""Several pictures of one grid become the channels of one: sequences, windows, and what lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem, Window
from model import params
from pipeline import paths
from pipeline.api import check_folder, open_pairs
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import channels, manifest, png
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.channels import Channel, Views
from pipeline.pairs.manifest import Pair
from pipeline.pairs.variants import Variants
from pipeline.params.augment import Augment
from pipeline.params.convert import WINDOWS, Convert
from pipeline.params.values import OutOfRange
from pipeline.volumes import reader, volume
from pipeline.volumes.volume import Grid, Volume
from tests.conftest import Refused
from tests.support import channelled, cohort

CONVERTED, DATASET = paths.converted(cohort.DATASET), paths.dataset(cohort.DATASET)


def converted(**overrides: object) -> list[Pair]:
    """What convert makes of the raw data that lies here."""
    convert(cohort.DATASET, cohort.write_params(**overrides), 1)
    return manifest.read(CONVERTED)


def picture(pair: Pair) -> np.ndarray:
    return png.read_image(CONVERTED / pair.image, pair.depth)


def grey(pair: Pair, name: str, window: tuple[float, float]) -> np.ndarray:
    """The slice of a pair as convert makes a grey picture of one raw file."""
    scan = reader.read_image(channelled.raw(pair.case, name))
    native = volume.slices(scan.array, "axial")[pair.slice_index]
    return np.rint(Canvas.of(pair.canvas).image(volume.to_8_bit(native, window))).astype(np.uint8)


def windows(pair: Pair) -> dict[str, tuple[float, float]]:
    ends = zip(pair.windows[::2], pair.windows[1::2], strict=True)
    return dict(zip(pair.channel_names, ends, strict=True))


class TestSequences:
    @pytest.mark.parametrize("count", [2, 4])
    def test_become_the_channels_of_a_picture_in_the_dataset_s_order(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, count: int
    ) -> None:
        channelled.sequences(monkeypatch, count, patients=3)
        for pair in converted():
            assert pair.channel_names == channelled.SEQUENCES[:count]
            shown = picture(pair)
            assert shown.shape == (64, 64, count)
            for at, name in enumerate(pair.channel_names):
                if name == pair.absent:
                    assert windows(pair)[name] == (0, 0)
                    assert not shown[..., at].any()
                else:
                    assert (shown[..., at] == grey(pair, name, windows(pair)[name])).all()

    def test_of_which_one_is_missing_are_named(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channelled.sequences(monkeypatch, 2, patients=3)
        lacking = {pair.case: pair.absent for pair in converted()}
        assert lacking == {"sub-01": "", channelled.LACKING: "flair", "sub-03": ""}

    def test_more_than_three_lie_in_several_files_of_one_pair(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channelled.sequences(monkeypatch, 4, patients=3)
        pair = converted()[0]
        first, second = (CONVERTED / name for name, _ in pair.files[:-1])
        assert second == CONVERTED / "images_2" / first.name
        rgb, more = (np.asarray(Image.open(file)) for file in (first, second))
        assert (np.dstack([rgb, more[..., 0]]) == picture(pair)).all()
        assert not more[..., 1:].any()
        assert json.loads(pair.more_digests) == [pair.files[1][1]]
        assert len(list((CONVERTED / "images").iterdir())) == len(manifest.read(CONVERTED))

    @pytest.mark.parametrize("part", ["images", "images_2"])
    def test_are_made_again_where_a_file_is_damaged(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        channelled.sequences(monkeypatch, 4, patients=3)
        pair = converted()[0]
        file = CONVERTED / part / f"{pair.id}.png"
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        (CONVERTED / part / "stray.png").write_bytes(content)
        converted()
        assert file.read_bytes() == content
        assert not (CONVERTED / part / "stray.png").exists()

    def test_on_two_grids_are_refused_with_both_named(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, caplog
    ) -> None:
        channelled.sequences(monkeypatch, 2, patients=3)
        file = channelled.raw("sub-03", "flair")
        scan = nib.load(file)
        affine = scan.affine.copy()
        affine[2, 3] += 1
        nib.save(nib.Nifti1Image(np.asarray(scan.dataobj).copy(), affine), file)
        refused(converted)
        assert "expected the channels of a case on one grid, got t1w of" in caplog.text
        assert "corners lie up to 1 mm apart" in caplog.text
        assert {pair.case for pair in manifest.read(CONVERTED)} == {"sub-01", "sub-02"}

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            pytest.param({"pd": Path("a.nii")}, "got pd", id="unknown"),
            pytest.param({}, "got no picture", id="none"),
            pytest.param(Path("a.nii"), "maps channels (t1w, flair)", id="one picture"),
            pytest.param({"t1w": Path("gone.nii")}, "expected the image of", id="no first"),
            pytest.param(
                {"t1w": Path(__file__), "flair": Path("gone.nii")},
                "expected the picture of the channel flair of sub-01",
                id="no second",
            ),
        ],
    )
    def test_are_those_of_the_dataset(
        self,
        workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
        refused: Refused,
        caplog,
        image: object,
        message: str,
    ) -> None:
        adapter = channelled.sequences(monkeypatch, 2, patients=3)

        def cases(raw: Path):
            for one in adapter.cases(raw):
                yield replace(one, image=image) if one.id == "sub-01" else one

        changed = replace(adapter, cases=cases)
        monkeypatch.setattr(datasets_spec, "load", lambda _: changed)
        refused(converted)
        assert message in caplog.text


class TestWindows:
    def test_of_a_ct_become_the_channels_of_an_rgb_picture(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channelled.ct(monkeypatch, patients=3)
        for pair in converted(**{"convert.windows": channelled.WINDOWS}):
            assert pair.channel_names == ("brain", "blood", "bone")
            assert pair.windows == (0, 80, -20, 180, -800, 2000)
            shown = np.asarray(Image.open(CONVERTED / pair.image))
            for at, name in enumerate(pair.channel_names):
                assert (shown[..., at] == grey(pair, "T1w", windows(pair)[name])).all()

    def test_that_are_stated_have_their_own_order_and_values(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channelled.ct(monkeypatch, patients=3)
        one = converted(**{"convert.windows": {"wide": [100, 400], "brain": None}})[3]
        other = converted(**{"convert.windows": {"brain": None, "wide": [100, 400]}})[3]
        assert (one.windows, other.windows) == ((-100, 300, 0, 80), (0, 80, -100, 300))
        assert one.image_digest != other.image_digest

    def test_of_nobody_are_one_grey_picture(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channelled.ct(monkeypatch, patients=3)
        pair = converted()[0]
        assert (pair.channels, pair.depth, pair.windows, pair.present) == ("", 1, (), (True,))
        with Image.open(CONVERTED / pair.image) as opened:
            assert opened.mode == "L"

    def test_are_refused_for_mr(self, refused: Refused) -> None:
        facts = datasets_spec.load(cohort.DATASET).dataset
        problem = refused(lambda: channels.of(facts, dict(WINDOWS)))
        assert "expected no windows for an MR" in problem.what

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"brain": None}, "none, or 2 to"),
            ({"brain": None, "lung": None}, r"\[level, width\] of lung"),
            ({"brain": None, "wide": [40, 0]}, "width above 0"),
            ({"brain": None, "wide": [40]}, "of wide"),
            ({"brain": None, "a,b": [40, 80]}, "names of letters"),
        ],
    )
    def test_that_mean_nothing_are_refused(self, wanted: dict, message: str) -> None:
        with pytest.raises(OutOfRange, match=message):
            Convert(64, (0.5, 99.5), "majority", "auto", windows=wanted)


class TestViews:
    GRID = Grid((3, 4, 5), np.diag([1.0, 1.0, 2.0, 1.0]))
    CHANNELS = (Channel("t1w"), Channel("flair"))

    def scan(self, grid: Grid = GRID) -> Volume:
        return Volume(np.arange(60.0).reshape(grid.to_ras(np.empty(grid.shape)).shape), grid)

    def views(self, images: channels.Images) -> Views:
        return Views.of(images, self.CHANNELS, "axial", None, (0.0, 100.0), 16)

    def test_of_sequences_without_names_are_refused(self, refused: Refused) -> None:
        assert "got one without a name" in refused(lambda: self.views(self.scan())).what
        assert "got pd" in refused(lambda: self.views({"pd": self.scan()})).what

    def test_do_not_depend_on_the_order_in_which_scans_are_given(self) -> None:
        one, other = self.scan(), replace(self.scan(), array=self.scan().array[::-1])
        there = self.views({"t1w": one, "flair": other}).picture(0)
        assert (there == self.views({"flair": other, "t1w": one}).picture(0)).all()

    @pytest.mark.parametrize("turn", [[2, 0, 1], [1, 0, 2], [0, 2, 1]])
    def test_scans_of_other_axes_may_lie_on_one_grid(self, turn: list[int]) -> None:
        affine = self.GRID.affine[:, [*turn, 3]].copy()
        shape = tuple(self.GRID.shape[axis] for axis in turn)
        turned = Grid(shape, affine)
        flipped = affine.copy()
        flipped[:, 0], flipped[:, 3] = -affine[:, 0], affine @ [shape[0] - 1, 0, 0, 1]
        for grid in (turned, Grid(shape, flipped)):
            channels.require_one_grid({"a": self.scan(), "b": self.scan(grid)}, {"a": 1, "b": 2})
        flipped[0, 3] += 1
        with pytest.raises(Problem, match="on one grid"):
            channels.require_one_grid(
                {"a": self.scan(), "b": self.scan(Grid(shape, flipped))}, {"a": 1, "b": 2}
            )


BENT = [{"Elastic": {"sd_px": 2.0, "sigma_px": 8.0}}, {"Rotate": {"degrees": 90}}]
TONED = [{"Brighten": {"factor": 1.5}}, {"Sharpen": {"amount": 1.0}}]
THEIRS = [{"RandomBrightnessContrast": {"brightness_limit": [0.2, 0.2]}}]


class TestVariants:
    def variants(self, steps: list, count: int = 4) -> Variants:
        return Variants("x", Augment(1, True, {"v": steps}), count)

    @pytest.mark.parametrize("steps", [BENT, TONED, THEIRS], ids=["bent", "toned", "theirs"])
    @pytest.mark.parametrize("count", [2, 3, 4, 7])
    def test_do_to_each_channel_what_they_do_to_a_grey_picture(
        self, steps: list, count: int
    ) -> None:
        rng = np.random.default_rng(0)
        image = rng.integers(1, 256, (64, 64, count), np.uint8)
        mask = rng.integers(0, 3, (64, 64), np.uint8)
        made = self.variants(steps, count)
        key = made.key("p", "v")
        several, ids = made.make("v", key, image, mask)
        for at in range(count):
            grey, own_ids = made.make("v", key, np.ascontiguousarray(image[..., at]), mask)
            assert (several[..., at] == grey).all()
            assert (ids == own_ids).all()

    def test_leave_a_missing_channel_black(self) -> None:
        image = np.full((64, 64, 2), 100, np.uint8)
        image[..., 1] = 0
        made = self.variants(THEIRS, 2)
        bright, _ = made.make("v", made.key("p", "v"), image, image[..., 0])
        assert (bright[..., 0] > 100).all()
        assert not bright[..., 1].any()

    def test_of_colours_are_refused_for_channels_before_any_work(self, refused: Refused) -> None:
        steps = [{"HueSaturationValue": None}]
        self.variants(steps, 1)
        problem = refused(lambda: self.variants(steps, 4))
        assert (
            "expected transforms of pictures of 4 channels, got HueSaturationValue" in problem.what
        )
        assert problem.where == "augment.variants.v"


class TestStages:
    @pytest.fixture(params=[2, 4])
    def settings(
        self, request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> params.Params:
        channelled.sequences(monkeypatch, request.param)
        settings = cohort.write_params()
        cohort.make_pairs(settings)
        return settings

    def test_carry_all_channels_through(self, settings: params.Params) -> None:
        count = settings.train.network.channels
        seen = open_pairs(DATASET)
        assert {bool(one.row.parent) for one in seen} == {True, False}
        for row, image, mask in seen:
            assert image.shape == (64, 64, count)
            assert mask.shape == (64, 64)
            assert image[..., 0].any()
            for name, digest in row.files:
                file = DATASET / row.split / name
                assert manifest.files.holds(file, digest)
                source = CONVERTED if not row.parent else paths.augmented(cohort.DATASET)
                assert file.samefile(source / name)
        mini = DATASET / paths.MINI_TEST
        assert len(list(mini.glob("images_2/*"))) == (6 if count > 3 else 0)

    def test_pass_the_gate_until_a_file_changes(self, settings: params.Params) -> None:
        assert check_folder(DATASET) == []
        row = open_pairs(DATASET, "test").rows[0]
        name = row.files[-2][0]
        file = DATASET / row.split / name
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content + b"\0")
        (broken,) = check_folder(DATASET)
        assert broken.promise == "every picture is the manifest's"

    def test_state_the_channels_on_the_card(self, settings: params.Params) -> None:
        card = json.loads((DATASET / paths.CARD).read_text("utf-8"))
        names = channelled.SEQUENCES[: settings.train.network.channels]
        lacking = {name: int(name == "flair") for name in names}
        assert [(one["name"], one["lacking_cases"]) for one in card["channels"]] == list(
            lacking.items()
        )
        text = (DATASET / "README.md").read_text("utf-8")
        assert f"Channels: {', '.join(names)}" in text
        assert "1 case lacks flair" in text

    def test_make_nothing_again(self, settings: params.Params, caplog) -> None:
        caplog.clear()
        caplog.set_level("INFO")
        for stage in (convert, augment):
            stage(cohort.DATASET, settings, 1)
        assert [line for line in caplog.messages if "6 kept, 0 to make" in line]


def test_a_copy_in_two_splits_is_caught_whatever_its_colours(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    channelled.sequences(monkeypatch, 2)
    for part in ("t1w", "flair", "dseg"):
        target = channelled.raw("sub-06", part)
        target.write_bytes(channelled.raw("sub-01", part).read_bytes())
    problem = refused(lambda: cohort.make_pairs(cohort.write_params()))
    assert "no picture is in two splits" in problem.what


@pytest.mark.parametrize("depth", [1, 3])
def test_a_foreign_folder_of_colours_is_read_as_grey(workplace: Path, depth: int) -> None:
    rng = np.random.default_rng(0)
    file = Path("images/a.png")
    file.parent.mkdir()
    rgb = rng.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(rgb).save(file)
    expected = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if depth == 1 else rgb
    assert (png.read_image(file, depth) == expected).all()


def test_a_grey_file_is_grey_however_many_channels_are_asked_for(workplace: Path) -> None:
    grey_picture = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    png.write_image(Path("a.png"), grey_picture)
    assert (png.read_image(Path("a.png"), 3) == grey_picture).all()
    assert (png.read_shown(Path("a.png")) == grey_picture).all()


def test_people_see_the_first_channel_that_shows_anything() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 1:] = 7, 9
    assert (png.one_channel(image) == 7).all()
    assert (png.one_channel(image[..., 0]) == 0).all()


@pytest.mark.parametrize("names", [("t1w",), ("t1w", "T1w"), ("t1 w", "flair")])
def test_a_dataset_names_two_or_more_channels(names: tuple[str, ...]) -> None:
    facts: Dataset = datasets_spec.load(cohort.DATASET).dataset
    with pytest.raises(ValueError, match="channel"):
        replace(facts, channels=names)


def test_the_first_picture_of_a_case_is_the_case_s() -> None:
    case = Case("a", "a", {"t1w": Path("t"), "flair": Path("f")}, {"": Path("l")})
    assert (case.first, list(case.pictures)) == (Path("t"), ["t1w", "flair"])
    assert Case("a", "a", Path("t"), {"": Path("l")}).pictures == {"": Path("t")}
    with pytest.raises(ValueError, match="has no image"):
        Case("a", "a", {}, {"": Path("l")})


def test_presets_are_the_usual_windows() -> None:
    assert {name: Window(*values).bounds for name, values in WINDOWS.items()} == {
        "brain": (0, 80),
        "blood": (-20, 180),
        "bone": (-800, 2000),
    }
