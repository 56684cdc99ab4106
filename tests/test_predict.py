"""From pictures to probabilities, and from probabilities to class ids at any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray
from PIL import Image

import datasets_spec
from model.__main__ import main
from model.flexunet import flexunet
from model.predict import class_ids, predict, probabilities, read_picture
from pipeline import colors, params, paths
from pipeline.params import Network
from tests import cohort
from tests.conftest import Refused
from tests.models import save_untrained

LABEL_MAP = datasets_spec.load(cohort.DATASET).dataset.label_map

PX = 16
NETWORK = Network(PX, 1, 2, 3, 2, 1, 0.0, "relu", "none")


def _random(seed: int, side: int, classes: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).random((side, side, classes)).astype(np.float32)
    return values / values.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_ids_at_the_same_size_are_the_likeliest_classes(classes: int) -> None:
    probability = _random(1, PX, classes)
    ids = class_ids(probability, PX)
    assert ids.dtype == np.uint8
    for row, col in np.ndindex(PX, PX):
        assert probability[row, col, ids[row, col]] == probability[row, col].max()


@pytest.mark.parametrize("px", [8, PX, 40, 512])
@pytest.mark.parametrize("label", [0, 2])
def test_constant_map_stays_constant_at_every_size(label: int, px: int) -> None:
    probability = np.full((PX, PX, 3), 0.2, np.float32)
    probability[..., label] = 0.6
    np.testing.assert_array_equal(class_ids(probability, px), np.full((px, px), label, np.uint8))


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_enlarging_holds_for_many_classes(classes: int) -> None:
    ids = np.arange(classes).repeat(2 * classes).reshape(classes, -1)[:, :classes]
    probability = np.eye(classes, dtype=np.float32)[ids]
    enlarged = class_ids(probability, 8 * classes)
    np.testing.assert_array_equal(enlarged, ids.repeat(8, 0).repeat(8, 1))


def test_an_outline_is_smoothed_by_enlarging_probabilities() -> None:
    """A straight edge at any angle stays straight to half a pixel of the small map."""
    slope = (np.add(*np.indices((PX, PX)) * np.array([1, 0.5])[:, None, None]) - 11.5) / 8
    inside = np.clip(0.5 + slope, 0, 1).astype(np.float32)
    enlarged = class_ids(np.stack([1 - inside, inside], axis=-1), 8 * PX)
    row, col = (np.indices(enlarged.shape) + 0.5) / 8 - 0.5
    np.testing.assert_array_equal(enlarged[8:-8, 8:-8], (row + col / 2 > 11.5)[8:-8, 8:-8])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, PX, 40])
def test_pictures_of_any_size_become_probabilities(side: int, channels: int) -> None:
    network = replace(NETWORK, channels=channels)
    model = flexunet(network, 3)
    pictures = [np.full((side, side), value, np.uint8) for value in (0, 90, 255)]
    predicted = probabilities(model, pictures, network)
    assert predicted.shape == (3, PX, PX, 3)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(axis=-1), 1, rtol=1e-5)


def test_a_grey_picture_fills_every_channel_of_the_network() -> None:
    seen = keras.Input((PX, PX, 3))
    echo = keras.Model(seen, layers.Rescaling(1.0)(seen))
    picture = np.random.default_rng(0).integers(0, 256, (PX, PX)).astype(np.uint8)
    predicted = probabilities(echo, [picture], replace(NETWORK, channels=3))
    np.testing.assert_array_equal(predicted[0], np.stack([picture] * 3, axis=-1))


def test_prediction_of_a_picture_does_not_depend_on_its_neighbours() -> None:
    model = flexunet(replace(NETWORK, normalization="batch", dropout_rate=0.5), 3)
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (PX, PX)).astype(np.uint8) for _ in range(4)]
    together = probabilities(model, pictures, NETWORK)
    alone = np.concatenate([probabilities(model, [picture], NETWORK) for picture in pictures])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


@pytest.fixture
def model(workplace: Path) -> params.Params:
    """A model on disk that says of itself what it must."""
    settings = cohort.prepare()
    save_untrained(cohort.DATASET, settings)
    return settings


def _draw(file: Path, shape: tuple[int, int], mode: str = "L") -> None:
    file.parent.mkdir(exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if mode == "I;16":
        Image.fromarray(picture.astype(np.uint16) * 257).save(file)
    else:
        Image.fromarray(picture).convert(mode).save(file)


def _predict(*more: str) -> int:
    return main(["predict", cohort.DATASET, "--input", "pictures", "--output", "masks", *more])


SHAPES = {"a.png": (40, 30), "b.jpg": (17, 90), "c.PNG": (32, 32), "d.jpeg": (64, 64)}


def test_masks_have_the_pictures_own_size(model: params.Params) -> None:
    for name, shape in SHAPES.items():
        _draw(Path("pictures") / name, shape)
    assert _predict("--probabilities", "--overlays") == 0
    assert len(list(Path("masks").glob("*.png"))) == len(SHAPES)
    for name, shape in SHAPES.items():
        stem = Path(name).stem
        with Image.open(f"masks/{stem}.png") as mask:
            assert (mask.mode, mask.size) == ("P", shape[::-1])
        ids = colors.read_mask(Path(f"masks/{stem}.png"), LABEL_MAP)
        with np.load(f"masks/{stem}.npz") as archive:
            (guess,) = archive.values()
        assert (guess.shape, guess.dtype) == ((*shape, len(LABEL_MAP)), np.float16)
        np.testing.assert_allclose(guess.sum(axis=-1, dtype=np.float64), 1, atol=5e-3)
        likely = np.take_along_axis(guess, ids[..., None].astype(int), -1)[..., 0]
        assert (likely >= guess.max(axis=-1) - 1e-3).all()
        with Image.open(f"masks/overlays/{stem}.png") as overlay:
            assert (overlay.mode, overlay.size) == ("RGB", shape[::-1])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_pictures_of_any_depth_are_read_as_grey(mode: str, tmp_path: Path) -> None:
    _draw(tmp_path / "p.png", (20, 30), mode)
    found = read_picture(tmp_path / "p.png")
    assert (found.shape, found.dtype) == ((20, 30), np.uint8)
    wanted = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    if mode not in ("1", "P"):
        assert np.abs(found.astype(int) - wanted).max() <= 1


def test_mask_of_a_picture_does_not_depend_on_the_batch(model: params.Params) -> None:
    for name, shape in SHAPES.items():
        _draw(Path("pictures") / name, shape)
    found = []
    for batch in (1, 3):
        changed = replace(model, evaluate=replace(model.evaluate, batch_slices=batch))
        predict(cohort.DATASET, changed, Path("pictures"), Path(f"masks{batch}"))
        files = sorted(Path(f"masks{batch}").glob("*.png"))
        found.append([colors.read_mask(file, LABEL_MAP) for file in files])
    same = [np.mean(a == b) for a, b in zip(*found, strict=True)]
    assert min(same) > 0.999


def test_an_exact_square_is_judged_as_training_pictures_are(model: params.Params) -> None:
    _draw(Path("pictures/a.png"), (64, 64))
    assert _predict() == 0
    network = keras.saving.load_model(paths.run(cohort.DATASET) / paths.MODEL, compile=False)
    picture = colors.read_image(Path("pictures/a.png"))
    wanted = class_ids(probabilities(network, [picture], model.train.network)[0], 64)
    np.testing.assert_array_equal(colors.read_mask(Path("masks/a.png"), LABEL_MAP), wanted)


@pytest.mark.parametrize("damage", [b"", b"no picture", None], ids=["empty", "text", "cut"])
def test_an_unreadable_picture_is_named_and_the_others_kept(
    damage: bytes | None, model: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "bad.png", "c.png"):
        _draw(Path("pictures") / name, (40, 40))
    bad = Path("pictures/bad.png")
    bad.write_bytes(bad.read_bytes()[:-700] if damage is None else damage)
    assert _predict() == 2
    told = capsys.readouterr().err
    assert "bad.png" in told
    assert "1 that are not" in told
    assert sorted(file.name for file in Path("masks").iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize(("shape", "limit"), [((90, 60), 2000), ((2, 33000), None)])
def test_a_picture_that_is_too_large_is_named_and_the_others_kept(
    shape: tuple[int, int],
    limit: int | None,
    model: params.Params,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond twice the limit, PIL does not open it; a long one would become a large square."""
    _draw(Path("pictures") / "a.png", (20, 20))
    _draw(Path("pictures") / "huge.png", shape)
    if limit:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert _predict() == 2
    told = capsys.readouterr().err
    assert f"{shape[0] * shape[1]} pixels" in told or "33000 x 2" in told
    assert "huge.png" in told
    assert [file.name for file in Path("masks").iterdir()] == ["a.png"]


def test_deep_pictures_that_are_almost_black_are_counted_and_done(
    model: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pictures").mkdir()
    for name, values in (
        ("a", np.full((20, 20), 4095, np.uint16)),
        ("b", np.full((20, 20), 4096, np.uint16)),
        ("c", np.full((20, 20), 15, np.uint8)),
        ("d", np.full((20, 20), 9, np.uint16)),
    ):
        Image.fromarray(values).save(f"pictures/{name}.png")
    assert _predict() == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "almost black" in line]
    assert line.startswith("  2 of 4 pictures")
    assert "pictures/a.png: 12-bit values in 16-bit files? rescale them" in line
    assert len(list(Path("masks").iterdir())) == 4


@pytest.mark.parametrize("place", [0.05, 0.5, 0.999])
def test_a_damaged_model_is_one_line(place: float, model: params.Params, refused: Refused) -> None:
    _draw(Path("pictures/a.png"), (20, 20))
    file = paths.run(cohort.DATASET) / paths.MODEL
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    file.write_bytes(content)
    problem = refused(lambda: predict(cohort.DATASET, model, Path("pictures"), Path("masks")))
    assert problem.where == str(file)
    assert f"python -m model train {cohort.DATASET}" in problem.remedy


@pytest.mark.parametrize(
    ("names", "output", "told"),
    [
        ([], "masks", "found none"),
        (["a.png", "a.jpg"], "masks", "a.jpg and a.png"),
        (["a.png"], "pictures", "another folder"),
    ],
)
def test_folders_that_cannot_be_are_refused(
    names: list[str], output: str, told: str, model: params.Params, refused: Refused
) -> None:
    Path("pictures").mkdir()
    for name in names:
        _draw(Path("pictures") / name, (40, 40))
    call = lambda: predict(cohort.DATASET, model, Path("pictures"), Path(output))  # noqa: E731
    assert told in str(refused(call))


def test_model_of_another_network_is_refused_by_name(
    model: params.Params, refused: Refused
) -> None:
    _draw(Path("pictures/a.png"), (40, 40))
    other = cohort.write_params(**{"train.network.image_px": 64})
    problem = refused(lambda: predict(cohort.DATASET, other, Path("pictures"), Path("masks")))
    assert "image_px 64, got one of 32" in problem.what
    assert not Path("masks").exists()
