"""Films and overlays: every slice in order, of true proportions, outlined, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.delivery import film, frames, overlays
from pipeline.pages.viewer import Slice
from tests.model.delivery.test_measures import LABELS

SHAPE = (20, 30)
PIXEL_MM = (2.0, 0.5)


def slices(count: int, shape: tuple[int, int] = SHAPE) -> Iterator[Slice]:
    """Slices that grow brighter; blood in the middle."""
    rows, columns = shape
    for number in range(count):
        ids = np.zeros(shape, np.uint8)
        ids[rows // 4 : rows // 2, columns // 4 : columns // 2] = 1
        yield np.full(shape, 20 + 10 * number, np.uint8), ids


def test_a_film_shows_every_slice_in_order(tmp_path: Path) -> None:
    file = tmp_path / "films" / "a.webp"
    film.write(file, slices(9), 9, PIXEL_MM, LABELS)
    with Image.open(file) as read:
        assert read.n_frames == 9
        assert read.size == (192, 512)  # 40 mm high, 15 mm wide
        shown = []
        for number in range(9):
            read.seek(number)
            shown.append(int(np.asarray(read.convert("L"))[-1, -1]))
            assert read.info["duration"] == film.FRAME_MS
    assert shown == pytest.approx([20 + 10 * number for number in range(9)], abs=4)


def test_a_film_of_one_slice_is_a_picture(tmp_path: Path) -> None:
    film.write(tmp_path / "a.webp", slices(1), 1, None, LABELS)
    with Image.open(tmp_path / "a.webp") as read:
        assert (getattr(read, "n_frames", 1), read.size) == (1, (512, 341))


def test_a_film_takes_one_slice_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    made = frames.outlined

    class Counted(Image.Image):
        def __del__(self) -> None:
            alive.pop()

    def counted(*given: object) -> Image.Image:
        picture = made(*given)  # type: ignore[arg-type]
        picture.__class__ = Counted
        alive.append(1)
        assert len(alive) <= 4
        return picture

    monkeypatch.setattr(frames, "outlined", counted)
    film.write(tmp_path / "a.webp", slices(20), 20, None, LABELS)
    assert (tmp_path / "a.webp").exists()


@pytest.mark.parametrize(("there", "announced"), [(0, 0), (0, 3), (2, 3)])
def test_a_film_of_fewer_slices_than_announced_is_none(
    there: int, announced: int, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no slices|fewer slices"):
        film.write(tmp_path / "a.webp", slices(there), announced, None, LABELS)
    assert list(tmp_path.iterdir()) == []


def test_films_and_overlays_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        film.write(tmp_path / f"{name}.webp", slices(3), 3, PIXEL_MM, LABELS)
        overlays.write(tmp_path / name, slices(3), PIXEL_MM, LABELS)
    assert (tmp_path / "one.webp").read_bytes() == (tmp_path / "two.webp").read_bytes()
    files = sorted((tmp_path / "one").iterdir())
    assert [file.name for file in files] == ["0001.png", "0002.png", "0003.png"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("shape", "pixel_mm", "size"),
    [
        ((20, 30), (2.0, 0.5), (192, 512)),  # small: enlarged
        ((600, 900), None, (900, 600)),  # its own pixels
        ((600, 900), (1.0, 0.5), (900, 1200)),  # no pixel is lost where they are not square
        ((1000, 4096), None, (2048, 500)),  # large: shrunk
    ],
)
def test_overlays_have_true_proportions(
    shape: tuple[int, int],
    pixel_mm: tuple[float, float] | None,
    size: tuple[int, int],
    tmp_path: Path,
) -> None:
    overlays.write(tmp_path / "a", slices(1, shape), pixel_mm, LABELS)
    with Image.open(tmp_path / "a" / "0001.png") as read:
        picture = np.asarray(read)
        assert (read.size, read.mode) == (size, "RGB")
    blood = (picture == LABELS.labels[1].colour).all(axis=-1)
    rows, columns = np.nonzero(blood)
    scale = np.divide(picture.shape[:2], shape)
    first, last = ([side // part for side in shape] for part in (4, 2))
    assert [rows.min(), columns.min()] == pytest.approx(first * scale, abs=1)
    assert [rows.max() + 1, columns.max() + 1] == pytest.approx(last * scale, abs=1)
    assert tuple(picture[0, 0]) == (20, 20, 20)
    middle = np.add(first, last) / 2 * scale
    assert not blood[tuple(middle.astype(int))]  # an outline, not an area
