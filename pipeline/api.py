"""The pipeline as a library: read a scan, judge a folder of pairs, open a dataset's pairs.

Every function takes explicit paths and works in any folder, also in a notebook; none reads
``params.yaml``. Errors that a user can correct are :class:`datasets_spec.contract.Problem`.
Messages go to the logger ``pipeline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets_spec.contract import OneVolume
from pipeline.pairs import samples
from pipeline.pairs.samples import Sample, Samples
from pipeline.params.limits import Limits
from pipeline.runtime.executor import Workers
from pipeline.splits import folders
from pipeline.splits.leaks import Violation
from pipeline.volumes import hounsfield, reader
from pipeline.volumes.volume import Grid, Volume

__all__ = [
    "Grid",
    "Limits",
    "OneVolume",
    "Sample",
    "Samples",
    "Violation",
    "Volume",
    "check_folder",
    "open_pairs",
    "read_scan",
]


def read_scan(
    path: str | Path | OneVolume | Sequence[str | Path], limits: Limits = Limits()
) -> Volume:
    """Read a NIfTI file, a folder with one DICOM series, or a sequence of slice pictures.

    Of a file or series that holds several volumes, :class:`OneVolume` names one.

    The volume's ``array`` is (X, Y, Z) in RAS+ order (right, anterior, superior): axes are
    permuted and flipped, and nothing is resampled. CT is in Hounsfield units. ``grid`` is the
    source's own grid, with its shape, its affine (voxel index to mm) and the way back into it.

    Raises :class:`datasets_spec.contract.Problem` for a scan that cannot be read or whose geometry
    cannot be trusted, for a CT series whose air and tissue lie elsewhere than HU put them, and for
    one that is larger than ``limits`` allow.

    >>> import tempfile, nibabel, numpy
    >>> leftwards = numpy.diag([-1.0, 2.0, 3.0, 1.0])  # the first axis runs to the left
    >>> scan = nibabel.Nifti1Image(numpy.arange(24, dtype=numpy.int16).reshape(2, 3, 4), leftwards)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nibabel.save(scan, f"{folder}/scan.nii.gz")
    ...     volume = read_scan(f"{folder}/scan.nii.gz")
    >>> volume.array.shape, volume.grid.spacing
    ((2, 3, 4), (1.0, 2.0, 3.0))
    >>> int(volume.array[0, 0, 0])  # the leftmost voxel, which the file stores last
    12
    >>> bool((volume.grid.from_ras(volume.array) == scan.get_fdata()).all())
    True
    """
    if isinstance(path, OneVolume):
        read = reader.read_image(path, limits)
    elif isinstance(path, str | Path):
        read = reader.read_image(Path(path), limits)
    else:
        return reader.read_image(tuple(map(Path, path)), limits)
    if read.modality != "CT" or hounsfield.is_drawing(read.array):
        return read
    return hounsfield.judged(read, path.path if isinstance(path, OneVolume) else path)


def check_folder(
    folder: str | Path, patient: str = "", workers: Workers = 1, limits: Limits = Limits()
) -> list[Violation]:
    """The promises that a folder ``{train,valid,test}/{images,masks}`` breaks; empty if none.

    The promises are listed in :data:`pipeline.splits.leaks.PROMISES`. ``patient`` is a regular
    expression for folders without a manifest: its match in a file's name is the patient.

    Raises :class:`datasets_spec.contract.Problem` if the folder does not have that layout.

    >>> import tempfile, numpy
    >>> from PIL import Image
    >>> random = numpy.random.default_rng(0)
    >>> def save(file):
    ...     file.parent.mkdir(parents=True, exist_ok=True)
    ...     Image.fromarray(random.integers(0, 2, (64, 64)).astype(numpy.uint8)).save(file)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("train/{}/p1_0.png", "valid/{}/p2_0.png", "test/{}/p1_1.png"):
    ...         for part in ("images", "masks"):
    ...             save(Path(folder) / name.format(part))
    ...     violations = check_folder(folder, patient="^p[0-9]+")
    >>> [(one.promise, one.examples) for one in violations]
    [('no patient is in two splits', ('p1: train/p1_0 and test/p1_1',))]
    """
    return folders.check(Path(folder), workers, patient, limits)


def open_pairs(folder: str | Path, split: str = "") -> Samples:
    """The pairs of a dataset folder (``data/dataset/<name>``), of one split or of all.

    A sequence of (row, image, mask): a row of the manifest
    (:class:`pipeline.pairs.manifest.Pair`), a grey image and class ids, both (H, W) uint8. A
    picture is read when it is asked for, so memory does not grow with the dataset. ``label_map``
    names the class ids.

    Raises :class:`datasets_spec.contract.Problem` if the folder was not made by ``split``, or has
    no pairs of that split.

    >>> import json, tempfile, numpy
    >>> from datasets_spec.contract import Label, LabelMap
    >>> from pipeline.pairs import manifest, put
    >>> background = Label(0, "background", (0, 0, 0), "everything else")
    >>> labels = (background, Label(1, "lesion", (255, 0, 0), "ischaemic lesion"))
    >>> row = manifest.blank("p1_0000", patient="p1", split="test")
    >>> image, mask = numpy.full((8, 8), 90, numpy.uint8), numpy.eye(8, dtype=numpy.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = put.put(Path(folder) / "test", row, image, mask, LabelMap(labels))
    ...     manifest.write(Path(folder), [row])
    ...     card = {"labels": [vars(label) for label in labels]}
    ...     size = (Path(folder) / "dataset.json").write_text(json.dumps(card))
    ...     pairs = open_pairs(folder, split="test")
    ...     for sample in pairs:
    ...         print(sample.row.patient, sample.image.shape, int(sample.mask.sum()))
    p1 (8, 8) 8
    >>> len(pairs), pairs.label_map.labels[1].name
    (1, 'lesion')
    """
    return samples.open_folder(Path(folder), split)
