"""From pictures to probabilities, and from probabilities to class ids at any size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray
from PIL import Image

import datasets_spec
from model import params
from model.__main__ import main
from model.flexunet import flexunet
from model.inference import class_ids, probabilities, strips
from model.params import Network
from model.predict import _write_probabilities, predict, read_picture
from pipeline import paths
from pipeline.pairs import png
from pipeline.params.limits import Limits
from tests.conftest import PROJECT, Refused
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

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
        ids = png.read_mask(Path(f"masks/{stem}.png"), LABEL_MAP)
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
    found, deep = read_picture(tmp_path / "p.png", Limits())
    assert (found.shape, found.dtype, deep) == ((20, 30), np.uint8, mode == "I;16")
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
        found.append([png.read_mask(file, LABEL_MAP) for file in files])
    same = [np.mean(a == b) for a, b in zip(*found, strict=True)]
    assert min(same) > 0.999


def test_an_exact_square_is_judged_as_training_pictures_are(model: params.Params) -> None:
    _draw(Path("pictures/a.png"), (64, 64))
    assert _predict() == 0
    network = keras.saving.load_model(paths.run(cohort.DATASET) / paths.MODEL, compile=False)
    picture = png.read_image(Path("pictures/a.png"))
    wanted = class_ids(probabilities(network, [picture], model.train.network)[0], 64)
    np.testing.assert_array_equal(png.read_mask(Path("masks/a.png"), LABEL_MAP), wanted)


@pytest.mark.parametrize("damage", [b"", b"no picture", None], ids=["empty", "text", "cut"])
def test_an_unreadable_picture_is_named_and_the_others_kept(
    damage: bytes | None, model: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "bad.png", "c.png"):
        _draw(Path("pictures") / name, (40, 40))
    bad = Path("pictures/bad.png")
    bad.write_bytes(bad.read_bytes()[:-700] if damage is None else damage)
    assert _predict() == 2
    message = capsys.readouterr().err
    assert "bad.png" in message
    assert "1 that are not" in message
    assert sorted(file.name for file in Path("masks").iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("shape", "message"),
    [((90, 60), "at most 2,000 pixels, got 90 x 60"), ((2, 900), "at most 44 pixels a side")],
)
def test_a_picture_that_is_too_large_is_named_and_the_others_kept(
    shape: tuple[int, int],
    message: str,
    model: params.Params,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A long one would become a large square."""
    _draw(Path("pictures") / "a.png", (20, 20))
    _draw(Path("pictures") / "huge.png", shape)
    cohort.write_params(**{"limits.pixels": 2000})
    assert _predict() == 2
    err = capsys.readouterr().err
    assert message in err
    assert "huge.png" in err
    assert [file.name for file in Path("masks").iterdir()] == ["a.png"]


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _postscript(file: Path) -> None:
    """What Pillow would give to Ghostscript."""
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [(_pipe, "named pipe"), (_postscript, "file that is none of these"), (Path.mkdir, "a folder")],
)
def test_what_only_looks_like_a_picture_is_named_and_never_run_or_waited_for(
    make: Callable[[Path], None],
    message: str,
    model: params.Params,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started something"))
    _draw(Path("pictures/a.png"), (20, 20))
    make(Path("pictures/b.png"))
    assert _predict() == (0 if make is Path.mkdir else 2)
    out = capsys.readouterr()
    assert message in out.err or make is Path.mkdir
    assert [file.name for file in Path("masks").iterdir()] == ["a.png"]


@pytest.mark.parametrize("px", [16, 50])
@pytest.mark.parametrize(("shape", "classes"), [((40, 30), 2), ((17, 90), 4), ((64, 64), 7)])
def test_masks_and_probabilities_by_strips_are_those_at_once(
    px: int,
    shape: tuple[int, int],
    classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files included: beside rounding, one cannot tell that a picture was too large to be whole."""
    probability, found = _random(3, px, classes), []
    for whole in (True, False):
        monkeypatch.setattr("model.inference._WHOLE_BYTES", 2**28 if whole else 0)
        monkeypatch.setattr("model.inference._STRIP_BYTES", 4 * classes * shape[1] * 5)
        parts = list(strips(probability, shape))
        assert len(parts) == (1 if whole else -(-shape[0] // 5))
        _write_probabilities(tmp_path / "p.npz", probability, shape)
        with np.load(tmp_path / "p.npz") as archive:
            assert archive["arr_0"].shape == (*shape, classes)
            found.append((np.concatenate([strip for _, strip in parts]), archive["arr_0"]))
    (one, of_one), (other, of_other) = found
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(of_one, of_other, atol=2e-3)
    assert np.mean(one.argmax(-1) == other.argmax(-1)) > 0.999


def test_probabilities_are_the_file_that_numpy_writes(tmp_path: Path) -> None:
    probability = _random(4, 16, 3)
    _write_probabilities(tmp_path / "ours.npz", probability, (40, 30))
    [(_, whole)] = strips(probability, (40, 30))
    np.savez_compressed(tmp_path / "theirs.npz", whole.astype(np.float16))
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "theirs.npz").read_bytes()


def test_one_picture_at_a_time_is_in_memory_at_its_own_size(
    model: params.Params, tmp_path: Path
) -> None:
    """Peak memory above a small picture's, in bytes per pixel, and not per picture."""
    peaks = []
    for name, side, count in (("small", 64, 1), ("large", 4000, 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            picture = np.zeros((side, side), np.uint8)
            picture[::7] = 90 + number
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
        run = (
            "import resource, sys; from model.__main__ import main;"
            " code = main(sys.argv[1:]);"
            " print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        )
        wanted = ["--input", str(tmp_path / name), "--output", str(tmp_path / f"{name}_masks")]
        done = subprocess.run(
            [sys.executable, "-c", run, "predict", cohort.DATASET, *wanted],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.split("peak")[1]) * 1024)
    assert (peaks[1] - peaks[0]) / 4000**2 < 14


SCANS = {
    "b.nii.gz": b"",
    "b.NII": b"",
    "deep/er/IM0001": bytes(128) + b"DICM",
    "slice.dcm": b"",
    "c.mha": b"",
}


@pytest.mark.parametrize("name", SCANS)
def test_scans_beside_pictures_are_refused_by_name(
    name: str, model: params.Params, refused: Refused
) -> None:
    """A few pictures of a documentation would have masks, and the scans would be missed."""
    _draw(Path("pictures/a.png"), (20, 20))
    file = Path("pictures") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(SCANS[name])
    problem = refused(lambda: predict(cohort.DATASET, model, Path("pictures"), Path("masks")))
    assert str(file) in problem.what
    assert "beside 1 pictures" in problem.what
    assert "folder of their own" in problem.remedy
    assert not Path("masks").exists()


def test_what_is_not_read_is_counted_with_an_example(
    model: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "sub/b.png", "sub/c.jpg"):
        Path("pictures", name).parent.mkdir(parents=True, exist_ok=True)
        _draw(Path("pictures") / name, (20, 20))
    for name in ("notes.txt", "more.txt", "README", ".DS_Store"):
        Path("pictures", name).write_text("words")
    assert main(["predict", cohort.DATASET, "--input=pictures", "--output=pictures/masks"]) == 0
    [line] = [one for one in capsys.readouterr().out.splitlines() if "not read" in one]
    assert "2 .txt files (such as pictures/more.txt)" in line
    assert "1 nameless files (such as pictures/README)" in line
    assert "2 pictures in sub-folders (such as pictures/sub/b.png)" in line
    assert "DS_Store" not in line
    assert main(["predict", cohort.DATASET, "--input=pictures", "--output=pictures/masks"]) == 0
    assert capsys.readouterr().out.count("pictures/masks") == 1  # where the masks are; not as read


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


@pytest.mark.parametrize("place", [0.05, 0.5, 0.97])
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
    ("names", "output", "message"),
    [
        ([], "masks", "found none"),
        (["a.png", "a.jpg"], "masks", "a.jpg and a.png"),
        (["a.png"], "pictures", "another folder"),
    ],
)
def test_folders_that_cannot_be_are_refused(
    names: list[str], output: str, message: str, model: params.Params, refused: Refused
) -> None:
    Path("pictures").mkdir()
    for name in names:
        _draw(Path("pictures") / name, (40, 40))
    call = lambda: predict(cohort.DATASET, model, Path("pictures"), Path(output))  # noqa: E731
    assert message in str(refused(call))


def test_model_of_another_network_is_refused_by_name(
    model: params.Params, refused: Refused
) -> None:
    _draw(Path("pictures/a.png"), (40, 40))
    other = cohort.write_params(**{"train.network.image_px": 64})
    problem = refused(lambda: predict(cohort.DATASET, other, Path("pictures"), Path("masks")))
    assert "image_px 64, got one of 32" in problem.what
    assert not Path("masks").exists()
