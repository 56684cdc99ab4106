"""All scans below some paths, each once and with a name of its own; and by name what is no scan.

NIfTI and MGZ files, DICOM series and PNG or JPEG pictures are scans. Files of DICOM are grouped by
SeriesInstanceUID in whatever folders they lie, and the rules of
:mod:`pipeline.volumes.dicom.checks` judge every series. A header is read once.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from datasets_spec.contract import OneVolume, Problem, printable
from pipeline.params.limits import Limits
from pipeline.runtime import files
from pipeline.volumes import nifti, reader, scan_names
from pipeline.volumes.dicom import assemble, header, packed
from pipeline.volumes.dicom import series as dicom_series
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.series import Series
from pipeline.volumes.dicom.several import listed
from pipeline.volumes.scan_names import Place
from pipeline.volumes.volume import Volume

NIFTI, DICOM, PICTURE = "nifti", "dicom", "picture"
_PICTURES = (".png", ".jpg", ".jpeg")
_NO_SCAN = "no scan"
_FOLDERS = 3  # in one line
_Key = tuple[str, str]
_NO_SCANS = (
    *(".bval", ".bvec", ".csv", ".html", ".json", ".keras", ".log", ".mat", ".md", ".npy", ".npz"),
    *(".onnx", ".parquet", ".pdf", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
)
_OTHERS = (
    (
        "scans of another format",
        "convert them to NIfTI",
        True,
        (".nrrd", ".nhdr", ".mha", ".mhd", ".mnc", ".head", ".brik", ".par", ".rec"),
    ),
    (
        "compressed DICOM files",
        "unpack them, or compress them with gzip",
        True,
        (".dcm.bz2", ".dcm.xz", ".dcm.zst"),
    ),
    (
        "archives",
        "unpack them",
        False,
        (".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst"),
    ),
    (
        "pictures of another format",
        "PNG and JPEG are read",
        False,
        (".tif", ".tiff", ".bmp", ".gif", ".webp", ".svg"),
    ),
    *((f"{suffix} files", _NO_SCAN, False, (suffix,)) for suffix in _NO_SCANS),
)
"""What is known by its name and not opened: its kind, what to do, whether it is missed, suffixes.

A suffix stands before those that it ends in."""


@dataclass(frozen=True)
class Scan:
    """One scan: a file, or a DICOM series.

    ``name`` is a slug, unique among the scans whatever the case of letters: of the file's name or,
    for DICOM, of its folder's, with those of parents where these do not distinguish. ``kind`` is
    :data:`NIFTI`, :data:`DICOM` or :data:`PICTURE`. ``path`` is the file (of a pair, its .hdr) or
    the folder below which all files of the ``series`` lie. ``volume``: which of several volumes
    of the file or series it is, such as "echo 2"; "" where that holds one.
    """

    name: str
    kind: str
    path: Path
    series: Series | None = None
    volume: str = ""


@dataclass(frozen=True)
class Unread:
    """Files that are not read: their kind and number, one of them, and why.

    ``missed``: they are scans, or may be, so that whoever counts on all scans has to be informed.
    """

    kind: str
    count: int
    example: Path
    reason: str
    missed: bool

    def __str__(self) -> str:
        more = f" and {self.count - 1:,} more" if self.count > 1 else ""
        return printable(f"{self.kind}: {self.example}{more}: {self.reason}")


@dataclass(frozen=True)
class Inventory:
    """All scans below some paths by name, and what is not read by kind."""

    scans: tuple[Scan, ...]
    unread: tuple[Unread, ...]


def search(
    inputs: Sequence[Path],
    *,
    skip: Path | None = None,
    limits: Limits = Limits(),
    reserved: Collection[str] = (),
    key: str = "",
) -> Inventory:
    """Every scan that ``inputs`` are or hold in folders of any depth; a progress bar on a terminal.

    A file of a DICOM series stands for all files of the series in its folder. Hidden files and
    folders are not searched, nor is ``skip`` (such as the folder of results); inputs themselves
    are. No scan gets a ``reserved`` name. ``key``: which volume, of files and series that hold
    several; those are not read without. Raises :class:`Problem` for an input that is not there,
    or that is ``skip``.
    """
    for path in inputs:
        if not os.path.lexists(path):
            raise Problem("expected a scan or a folder of scans, found nothing", where=path)
        if skip is not None and path.is_dir() and os.path.realpath(path) == os.path.realpath(skip):
            raise Problem(
                "expected another folder than that of the results",
                where=path,
                remedy="Name another one for the results: they are not searched for scans.",
            )
    work = _Search(None if skip is None else os.path.realpath(skip), limits, key)
    with tqdm(desc="search", unit="file", disable=None, leave=False, delay=1) as bar:
        for file in work.below([path for path in inputs if path.is_dir()]):
            work.add(file)
            bar.update()
        for file in (path for path in inputs if not path.is_dir()):
            if work.is_new(file):
                work.add(file, alone=True)
                bar.update()
        work.add_siblings()
    return work.inventory(reserved)


def read(scan: Scan, limits: Limits = Limits()) -> Volume:
    """The volume of a scan; a picture is one slice with square pixels of no known size.

    Raises :class:`Problem` for one that cannot be read, or is larger than ``limits`` allow.
    """
    if scan.series is not None:
        return assemble.read(scan.series, limits=limits)
    if scan.volume:
        return reader.read_image(OneVolume(scan.path, scan.volume), limits)
    return reader.read_image((scan.path,) if scan.kind == PICTURE else scan.path, limits)


@dataclass
class _Search:
    """What is known so far. ``seen``: a real path, and the absolute one by which it was met.

    ``instances``: the DICOM files of each series, by UID and, where there is none, by folder.
    ``alone``: the folder of a file that is an input itself, and its series.
    """

    skip: str | None
    limits: Limits
    key: str
    seen: dict[str, str] = field(default_factory=dict)
    images: dict[Path, None] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    instances: dict[_Key, list[Instance]] = field(default_factory=lambda: defaultdict(list))
    alone: dict[Path, set[_Key]] = field(default_factory=lambda: defaultdict(set))
    unread: dict[tuple[str, str, bool], tuple[int, Path]] = field(default_factory=dict)

    def below(self, folders: Iterable[Path]) -> Iterator[Path]:
        """Every file below ``folders`` that is not hidden and is new; links are followed."""
        for folder in filter(self.is_new, folders):
            for here, inner, names in os.walk(folder, onerror=self._note_error, followlinks=True):
                below = [Path(here, name) for name in sorted(inner)]
                inner[:] = [one.name for one in below if self._is_searched(one)]
                for file in (Path(here, name) for name in sorted(names)):
                    if file.name.startswith("."):
                        self.note("hidden files", "not searched", False, file)
                    elif self.is_new(file):
                        yield file

    def is_new(self, path: Path) -> bool:
        """Whether ``path`` was not met before; one that was, by another name, is noted."""
        real, name = os.path.realpath(path), scan_names.normal(path)
        if real not in self.seen:
            self.seen[real] = name
            return True
        if self.seen[real] != name:
            self.note("links", "they lead to what is searched already", False, path)
        return False

    def add(self, file: Path, alone: bool = False) -> None:
        """Sort a file in by its name or, where that states nothing, by its content."""
        end = scan_names.ending(file)
        if strange := files.kind(file):
            broken = strange == "a broken link"
            self.note(strange.split(" ", 1)[1] + "s", "no regular file", broken, file)
        elif not os.access(file, os.R_OK):
            self.note("files", "no permission to read them", True, file)
        elif end in scan_names.IMAGES:
            self._add_image(file)
        elif end in _PICTURES:
            self.pictures.append(file)
        elif packed.is_packed(file):
            self._add_dicom(file, alone)
        elif other := next((one for one in _OTHERS if file.name.lower().endswith(one[3])), None):
            self.note(*other[:3], file)
        else:
            self._add_dicom(file, alone)

    def add_siblings(self) -> None:
        """Of inputs that are files of a series, the files beside them of the same series."""
        for folder, wanted in self.alone.items():
            for file in self._beside(folder):
                content = self._content(file)
                if isinstance(content, tuple) and _key(content[0]) in wanted:
                    self.instances[_key(content[0])].extend(content)

    def note(self, kind: str, reason: str, missed: bool, *those: Path) -> None:
        """Count files that are not read."""
        count, first = self.unread.get((kind, reason, missed), (0, those[0]))
        self.unread[kind, reason, missed] = count + len(those), min(first, *those)

    def inventory(self, reserved: Collection[str]) -> Inventory:
        """The scans, and a note of all else."""
        found: list[tuple[str, Place, Series | None, str]] = []
        for file, volume in self._chosen(self.images):
            found.append((NIFTI, Place(file, scan_names.ending(file), volume), None, volume))
        found += [
            (PICTURE, Place(file, scan_names.ending(file)), None, "") for file in self.pictures
        ]
        found += [(DICOM, place, one, one.key) for place, one in _placed(self._volumes())]
        names = scan_names.unique([place for _, place, _, _ in found], reserved)
        scans = [
            Scan(name, kind, place.path, one, volume)
            for name, (kind, place, one, volume) in zip(names, found, strict=True)
        ]
        unread = [
            Unread(kind, count, first, reason, missed)
            for (kind, reason, missed), (count, first) in self.unread.items()
        ]
        return Inventory(
            tuple(sorted(scans, key=lambda one: one.name)),
            tuple(sorted(unread, key=lambda one: (not one.missed, one.kind, one.example))),
        )

    def _beside(self, folder: Path) -> Iterator[Path]:
        """The regular files of ``folder`` itself that were not met before, without hidden ones."""
        _, _, names = next(os.walk(folder, onerror=self._note_error), ("", [], []))
        for file in (folder / name for name in sorted(names) if not name.startswith(".")):
            if files.is_regular(file) and os.path.realpath(file) not in self.seen:
                yield file

    def _chosen(self, images: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """NIfTI and MGH files, each with the key of the volume that is wanted of several."""
        for file in images:
            count = nifti.volumes(file)
            if count == 1:
                yield file, ""
            elif nifti.choice(count, self.key) is not None:
                yield file, self.key
            else:
                self.note(
                    "files of several volumes", self._ask([f"volume 1 to {count}"]), True, file
                )

    def _volumes(self) -> Iterator[Series]:
        """The series that can be read; the others are noted with the rules' reasons."""
        for (uid, _), instances in sorted(self.instances.items()):
            every = dicom_series.all_judged(uid, instances, self.limits)
            paths = {each.file for each in instances}
            several = len(every) > 1 and not all(one.left_out for one in every)
            chosen = [one for one in every if one.key == self.key] if several else every[:1]
            if not chosen:
                keys = [one.key for one in every if not one.left_out]
                self.note("files of several volumes", self._ask(keys), True, *paths)
                continue
            [one] = chosen
            if one.left_out:
                self.note(f"files of a {one.left_out}", "no volume", False, *paths)
            elif one.refused:
                problem = dicom_series.refusal(one)
                file = next((each for each in sorted(paths) if str(each) == problem.where), None)
                guilty = f"{file}: " if file else ""
                reason = guilty + _in_words(problem) + _in_folders(paths)
                self.note("files of a DICOM series", reason, True, *paths)
            else:
                yield one

    def _ask(self, keys: Sequence[str]) -> str:
        no = f"no {self.key!r}: " if self.key else ""
        return f"{no}it holds {listed(keys)}; name one with --volume"

    def _is_searched(self, folder: Path) -> bool:
        if os.path.realpath(folder) == self.skip:
            return False
        if folder.name.startswith("."):
            self.note("hidden folders", "not searched", False, folder)
            return False
        return self.is_new(folder)

    def _add_image(self, file: Path) -> None:
        """A NIfTI or MGH file; both halves of a pair are one, known by its header."""
        halves = nifti.files(file)
        if not scan_names.is_half(file):
            self.images[file] = None
        elif len(halves) == 2:
            self.images[min(halves)] = None
        else:
            self.note("halves of a NIfTI pair", "the other half is missing", True, file)

    def _add_dicom(self, file: Path, alone: bool) -> None:
        content = self._content(file)
        if isinstance(content, tuple):
            self.instances[_key(content[0])].extend(content)
            if alone:
                self.alone[file.parent].add(_key(content[0]))
        elif isinstance(content, Problem):
            self.note("damaged DICOM files", _in_words(content), True, file)
        elif content == header.FOREIGN:
            suffix = file.suffix.lower()
            kind = f"{suffix} files" if suffix[1:].isalpha() else "files without suffix"
            damaged = packed.is_packed(file)
            reason = "no DICOM that gzip compressed; copy them again" if damaged else _NO_SCAN
            self.note(kind, reason, damaged, file)
        else:
            drawn = any(word in content for word in ("Segmentation", "Structure Set"))
            reason = "a drawing; name the scan that it was drawn on" if drawn else "no slices"
            self.note(f"DICOM files ({content})", reason, False, file)

    def _content(self, file: Path) -> tuple[Instance, ...] | Problem | str:
        try:
            return header.read_all(file, self.limits)
        except Problem as problem:
            return problem
        except OSError as error:
            return Problem(f"expected a file that can be read, got {error.strerror}", where=file)

    def _note_error(self, error: OSError) -> None:
        self.note("folders", f"cannot be listed ({error.strerror})", True, Path(error.filename))


def _key(one: Instance) -> _Key:
    """What the files of one series have in common: its UID or, without any, their folder."""
    return one.series, "" if one.series else str(one.file.parent)


def _placed(several: Iterable[Series]) -> Iterator[tuple[Place, Series]]:
    """Each series with its folder, and with what distinguishes it from others in that.

    That is its number where it has one of its own, else a digest of its UID: no words of a header.
    """
    together: dict[Path, list[Series]] = defaultdict(list)
    for one in several:
        together[one.folder].append(one)
    for folder, those in together.items():
        numbers = Counter(one.slices[0].series_number for one in those)
        for one in those:
            number = one.slices[0].series_number
            own = number is not None and numbers[number] == 1
            part = f"s{number}" if own else f"s-{scan_names.digest(one.uid)}"
            parts = [part if len(those) > 1 else "", one.key]
            yield Place(folder, part="_".join(filter(None, parts))), one


def _in_folders(files: Iterable[Path]) -> str:
    """In which folders the files of one series lie, if in several."""
    folders = sorted({str(file.parent) for file in files})
    if len(folders) == 1:
        return ""
    more = f" and {len(folders) - _FOLDERS} more" if len(folders) > _FOLDERS else ""
    return f" They lie in {', '.join(folders[:_FOLDERS])}{more}."


def _in_words(problem: Problem) -> str:
    return f"{problem.what}. {problem.remedy}" if problem.remedy else problem.what
