"""The tutorial, followed to the letter with tiny scans."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.support import markdown
from tests.support.walkthrough import Reader

PAGE = Path("docs/tutorial/own-scans.md")
SHAPE = (40, 48, 10)
AFFINE = np.diag([-2.0, 2.0, 5.0, 1.0])


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A head-like ellipsoid with a brighter one inside it, and what is drawn of that."""
    rng = np.random.default_rng(number)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij"))

    def inside(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
        return np.einsum("c...->...", ((place.T - centre) / radii).T ** 2) < 1

    head = inside(np.zeros(3), rng.uniform(0.7, 0.95, 3))
    tumour = head & inside(rng.uniform(-0.35, 0.35, 3), rng.uniform(0.25, 0.4, 3))
    texture = 3000 * gaussian_filter(rng.normal(size=SHAPE), 3)
    image = head * (400 + texture) + 500 * tumour + rng.normal(0, 20, SHAPE)
    return np.rint(image).astype(np.int16), tumour.astype(np.uint8)


@pytest.mark.slow
def test_the_tutorial_ends_where_it_says(tmp_path: Path) -> None:
    """One item, since what it asks of a minute's work takes no time."""
    reader = Reader(tmp_path)
    for number in range(1, 9):
        for kind, array in zip(("images", "labels"), draw(number), strict=True):
            file = reader.home / "scans" / kind / f"case{number:02d}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, AFFINE), file)
    reader.follow(markdown.read(PAGE))
    every_step_is_tried(reader)
    everything_that_the_page_names_is_there(reader)
    every_column_of_the_scores_is_described(reader)
    a_mask_comes_back_on_the_scans_own_grid(reader)
    every_new_scan_has_its_mask_on_its_own_grid(reader)


def every_step_is_tried(reader: Reader) -> None:
    tried = "".join(reader.tried)
    for verb in ("fetch", "convert", "augment", "split", "train", "evaluate", "predict", "report"):
        assert re.search(rf"python -m (pipeline|model) {verb}\b", tried)


def everything_that_the_page_names_is_there(reader: Reader) -> None:
    named = [one for one in markdown.code(markdown.read(PAGE)) if "my_scans" in one or "/" in one]
    named = [one for one in named if re.match(r"(data|runs|masks|report|datasets_spec)\b", one)]
    assert len(named) > 8
    for one in named:
        pattern = re.sub(r"<\w+>", "*", one)
        assert list(reader.project.glob(pattern)), one


def every_column_of_the_scores_is_described(reader: Reader) -> None:
    described = markdown.code(markdown.read(Path("docs/reference/file-formats.md")))
    scores = (reader.project / "runs/my_scans/per_case.csv").read_text("utf-8")
    assert set(scores.splitlines()[0].split(",")) <= set(described)


def a_mask_comes_back_on_the_scans_own_grid(reader: Reader) -> None:
    (file,) = (reader.project / "runs/my_scans/predictions/native").glob("*.nii.gz")
    mask = nib.load(file)
    assert mask.shape == SHAPE
    assert np.allclose(mask.affine, AFFINE)
    assert set(np.unique(np.asanyarray(mask.dataobj))) <= {0, 1}


def every_new_scan_has_its_mask_on_its_own_grid(reader: Reader) -> None:
    scans = sorted((reader.home / "scans/images").glob("*.nii.gz"))
    masks = sorted((reader.project / "masks").glob("*.nii.gz"))
    assert [file.name for file in masks] == [file.name for file in scans] != []
    mask = nib.load(masks[0])
    assert mask.shape == SHAPE
    assert np.allclose(mask.affine, AFFINE)
    assert set(np.unique(np.asanyarray(mask.dataobj))) <= {0, 1}
    volumes = (reader.project / "masks/volumes.csv").read_text("utf-8")
    assert volumes.count("tumour,class") == len(scans)
