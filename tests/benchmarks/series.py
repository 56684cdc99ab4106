"""Which DICOM series are read, left out and refused, and whether second readers agree.

``python -m tests.benchmarks.series [FOLDER]`` takes the archives that lie in ``FOLDER``
(``shared/data/dicom`` beside the project by default), every file that pydicom brings, each alone,
and series built here with one oddity each. It writes ``series.md`` beside this file. What is read
is compared voxel by voxel, and by the places of its corners, with what SimpleITK, highdicom and
dcm2niix (where it is on the PATH) make of the same files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.data import get_testdata_files

from datasets_spec.contract import Problem
from pipeline.volumes import hounsfield
from pipeline.volumes.dicom import assemble, packed
from pipeline.volumes.dicom import series as dicom_series
from pipeline.volumes.dicom.series import Series
from pipeline.volumes.volume import Grid, Volume
from tests.benchmarks import series_variants
from tests.conftest import PROJECT

READ, LEFT_OUT, REFUSED, WRONG = "read", "left out", "refused", "wrong"
READERS = ("headers", "SimpleITK", "highdicom", "dcm2niix")
_NAMED = 3  # series of one row
_NEAR_MM = 0.05
_NEAR_PLACE_MM = 0.11  # positions rounded to 0.1 mm are taken as even
_INTERCEPT = "RescaleIntercept"
_NEAR_VALUE = 0.02  # NIfTI holds a slope in single precision

_EXPLAINED = """
`python -m tests.benchmarks.series`. *Headers*: each slice by itself, as pydicom decodes it, at the
position that its header states. The other readers make a volume: *other* is one with other voxels,
or with a corner more than {near} mm elsewhere. *Wrong*: a slice is not as its header states, or
readers differ and none agrees. A dash: a reader refuses the series, makes several files of it, or
has no decoder; none makes a volume of slices without one spacing."""
_KNOWN = """
Known differences of second readers: SimpleITK and dcm2niix put the slices of a tilted gantry
straight above each other; SimpleITK decodes 24 bits in 32 to other numbers; dcm2niix does not
invert MONOCHROME1, and takes the first step of rounded positions for all."""


@dataclass
class Row:
    """One series: where it is from, what became of it, and what second readers say."""

    source: str
    name: str
    outcome: str
    words: str
    readers: dict[str, str] = field(default_factory=dict)


def outcomes(source: str, name: str, folder: Path) -> Iterator[Row]:
    """A row for every series in a folder; of a file that is none, for the file."""
    try:
        content = dicom_series.examine(folder)
    except Problem as problem:
        yield Row(source, name, REFUSED, problem.what)
        return
    for one in content.damaged:
        yield Row(source, name, REFUSED, one.what)
    for kind, count in content.others:
        yield Row(source, name, LEFT_OUT, f"{kind} ({count})")
    for one in content.series:
        yield _judged(source, f"{name}, {one.key}" if one.key else name, one)


def _judged(source: str, name: str, one: Series) -> Row:
    if one.left_out:
        return Row(source, name, LEFT_OUT, one.left_out)
    try:
        if one.refused:
            raise dicom_series.refusal(one)
        read = assemble.read(one)
        if read.modality == "CT" and not hounsfield.is_drawing(read.array):
            hounsfield.judged(read, "")
    except Problem as problem:
        return Row(source, name, REFUSED, problem.what)
    readers = {
        reader: "-" if read.uneven and reader != "headers" else compare(one, read)
        for reader, compare in COMPARED.items()
    }
    differing = [reader for reader, answer in readers.items() if answer.startswith("other")]
    wrong = "headers" in differing or (differing and "same" not in readers.values())
    codes = ", ".join(one.code for one in read.findings)
    return Row(source, name, WRONG if wrong else READ, codes, readers)


def _agrees(read: Volume, array: Any, grid: Grid) -> str:
    """ "same", or in what another reader's volume, in its own axis order, is another."""
    turned = grid.to_ras(array)
    if turned.shape != read.array.shape:
        return f"other shape {turned.shape}"
    ends = np.array([[0, 0, 0, 1], [*(np.array(turned.shape) - 1), 1]], float)
    ours, theirs = (_to_ras_affine(one) for one in (read.grid, grid))
    apart = float(np.abs(ends @ (ours - theirs).T).max())
    if apart > _NEAR_MM:
        return f"other place, {apart:.2g} mm"
    values = float(np.abs(turned.astype(np.float64) - read.array).max())
    return "same" if values <= _NEAR_VALUE else f"other values, up to {values:.4g}"


def _to_ras_affine(grid: Grid) -> Any:
    """The affine of the array in RAS+ order."""
    places = np.indices(grid.shape).astype(float)
    turned = [grid.to_ras(one) for one in places]
    origin = np.array([one[0, 0, 0] for one in turned])
    steps = []
    for axis in range(3):
        at = tuple(int(axis == one and turned[0].shape[axis] > 1) for one in range(3))
        steps.append(np.array([one[at] for one in turned]) - origin)
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, :3] @ np.array(steps).T
    affine[:3, 3] = grid.affine[:3, :3] @ origin + grid.affine[:3, 3]
    return affine


def _by_headers(one: Series, read: Volume) -> str:
    """Every slice by itself: pydicom's pixels, rescaled, at the position of the header."""
    if one.slices[0].photometric == "MONOCHROME1":
        return "-"  # what is inverted is the others' question
    own = read.grid.from_ras(read.array)
    files: dict[Path, Any] = {}
    turn = np.diag([-1.0, -1.0, 1.0])
    for index, each in enumerate(one.slices):
        if each.file not in files:
            with packed.opened(each.file) as stream:
                header = pydicom.dcmread(stream, force=True)
            if "TransferSyntaxUID" not in header.file_meta:
                header.file_meta.TransferSyntaxUID = each.syntax
            try:
                files[each.file] = header, header.pixel_array
            except Exception:  # a codec that is not installed
                return "-"
        header, stored = files[each.file]
        frame = each.frame
        picture = stored if frame is None else stored.reshape(-1, *stored.shape[-2:])[frame]
        slope, intercept = (_stated(header, frame, tag) for tag in ("RescaleSlope", _INTERCEPT))
        values = picture * float(slope or 1) + float(intercept or 0)
        if not np.allclose(own[..., index].T, values, atol=_NEAR_VALUE):
            padded = "PixelPaddingValue" in header  # which is set to the lowest value
            return "- (padding)" if padded else f"other values in slice {index}"
        place = turn @ np.array(_stated(header, frame, "ImagePositionPatient"), float)
        ours = (read.grid.affine @ [0, 0, index, 1])[:3]
        if read.uneven is not None:
            ours = read.uneven.places[index]
        if np.abs(ours - place).max() > _NEAR_PLACE_MM:
            return f"other place of slice {index}"
    return "same"


def _stated(header: Any, frame: int | None, tag: str) -> Any:
    """What a header states of a frame, by itself or for all."""
    if frame is None:
        return header.get(tag)
    shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    for groups in (header.PerFrameFunctionalGroupsSequence[frame], shared[0]):
        for item in (one.value[0] for one in groups if one.VR == "SQ" and one.value):
            if tag in item:
                return item[tag].value
    return None


def _by_simpleitk(one: Series, read: Volume) -> str:
    if one.slices[0].frame is not None or len(one.slices) < 2:
        return "-"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(each.file) for each in one.slices])
    try:
        image = reader.Execute()
    except RuntimeError:
        return "-"
    turn = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, :3], affine[:3, 3] = turn @ directions, turn @ image.GetOrigin()
    array = sitk.GetArrayFromImage(image).T
    return _agrees(read, array, Grid(array.shape, affine))


def _by_highdicom(one: Series, read: Volume) -> str:
    files = []
    for file in dict.fromkeys(each.file for each in one.slices):
        with packed.opened(file) as stream:
            files.append(pydicom.dcmread(stream, force=True))
    try:
        if one.slices[0].frame is not None:
            numbers = [(each.frame or 0) + 1 for each in one.slices]
            image = highdicom.Image.from_dataset(files[0])
            frames = [image.get_frame(number, apply_voi_transform=False) for number in numbers]
            array = np.stack(frames).transpose(2, 1, 0)
            if one.key:  # highdicom knows volumes of a whole file alone
                return _agrees(read, array, read.grid)
            volume = image.get_volume(apply_voi_transform=False)
        else:
            volume = highdicom.get_volume_from_series(files, apply_voi_transform=False)
    except Exception:  # it refuses what it does not know
        return "-"
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    return _agrees(read, volume.array, Grid(volume.array.shape, affine))


def _by_dcm2niix(one: Series, read: Volume) -> str:
    program = shutil.which("dcm2niix")
    if program is None or len(one.slices) < 2:
        return "-"
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "in"), Path(folder, "out")
        source.mkdir(), made.mkdir()
        for number, file in enumerate(dict.fromkeys(each.file for each in one.slices)):
            with packed.opened(file) as stream:
                (source / f"{number:04d}.dcm").write_bytes(stream.read())
        command = [program, "-b", "n", "-z", "n", "-m", "n", "-o", str(made), str(source)]
        subprocess.run(command, capture_output=True, timeout=120)
        answers = [_of_nifti(read, file) for file in sorted(made.glob("*.nii"))]
    if "same" in answers:
        return "same"
    return answers[0] if len(answers) == 1 else f"- ({len(answers)} files)" if answers else "-"


def _of_nifti(read: Volume, file: Path) -> str:
    image = nib.load(file)
    volumes = np.asanyarray(image.dataobj)
    volumes = volumes.reshape(*volumes.shape[:3], -1)
    answers = []
    for number in range(volumes.shape[3]):
        array = volumes[..., number]
        answers.append(_agrees(read, array, Grid(array.shape, image.affine)))
    return "same" if "same" in answers else answers[0]


COMPARED: dict[str, Callable[[Series, Volume], str]] = {
    "headers": _by_headers,
    "SimpleITK": _by_simpleitk,
    "highdicom": _by_highdicom,
    "dcm2niix": _by_dcm2niix,
}


def rows(shared: Path, scratch: Path) -> Iterator[Row]:
    """All series of the three sources."""
    for archive in sorted(shared.glob("*.tar.*")):
        folder = scratch / archive.name
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
        yield from _shared(archive.name.partition(".tar")[0], folder, scratch)
    for file in sorted(map(Path, get_testdata_files())):
        if file.is_file() and file.suffix not in (".zip", ".json", ".txt", ".tar", ".py"):
            folder = scratch / "pydicom" / file.parent.name / file.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.name)
            yield from outcomes("pydicom", file.name, folder)
    for name, make in series_variants.VARIANTS.items():
        make(scratch / "built" / name)
        yield from outcomes("built", name, scratch / "built" / name)


def _shared(name: str, folder: Path, scratch: Path) -> Iterator[Row]:
    """The series of an archive; files of one slice in several syntaxes are one each."""
    if "transfer_syntaxes" not in name:
        yield from outcomes("shared", name, folder)
        return
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        alone = scratch / "alone" / name / file.name
        alone.mkdir(parents=True)
        shutil.copy(file, alone / file.name)
        yield from outcomes("shared", f"{name}: {file.name}", alone)


def page(every: Sequence[Row]) -> str:
    """``series.md``: counts, what second readers say, and every series that is no plain one."""
    sources = dict.fromkeys(row.source for row in every)
    kinds = (READ, LEFT_OUT, REFUSED, WRONG)
    lines = ["# Series", "", *_heading(), "", _cells("source", "series", *kinds), _rule(6)]
    for source in sources:
        counts = Counter(row.outcome for row in every if row.source == source)
        lines.append(_cells(source, sum(counts.values()), *(counts[kind] for kind in kinds)))
    lines += ["", _cells("second reader", "compared", "same", "other"), _rule(4)]
    for reader in READERS:
        answers = [row.readers[reader] for row in every if row.readers]
        asked = [one for one in answers if not one.startswith("-")]
        same = asked.count("same")
        lines.append(_cells(reader, len(asked), same, len(asked) - same))
    lines += ["", _cells("source", "series", "outcome", "findings or reason", *READERS), _rule(8)]
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in every:
        answers = [row.readers.get(reader, "-") for reader in READERS]
        words = row.words.replace("|", "/")[:160] or "-"
        alike[row.source, row.outcome, words, *answers].append(row.name)
    for (source, outcome, *rest), names in alike.items():
        few = ", ".join(dict.fromkeys(names[:_NAMED]))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(_cells(source, few + more, outcome, *rest))
    return "\n".join(lines) + "\n"


def _heading() -> list[str]:
    explained = textwrap.wrap(_EXPLAINED.format(near=_NEAR_MM).strip(), 100)
    return [*explained, "", *textwrap.wrap(_KNOWN.strip(), 100)]


def _cells(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _rule(count: int) -> str:
    return _cells(*["---"] * count)


def main() -> None:
    """Write ``series.md``."""
    default = PROJECT.parent / "shared" / "data" / "dicom"
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        every = list(rows(shared, Path(scratch)))
    Path(__file__).with_suffix(".md").write_text(page(every), "utf-8")


if __name__ == "__main__":
    main()
