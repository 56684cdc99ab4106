"""What a dataset is: the frozen values that an adapter hands to the pipeline.

An adapter module defines ``DATASET`` (a :class:`Dataset`) and ``cases(raw)``
(which yields :class:`Case` values). Everything is checked when it is built, so
a mistake in an adapter is an error at import, not a wrong picture later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "valid", "test")
PLANES = ("axial", "coronal", "sagittal")
CODINGS = ("values", "binary", "colours")
PROBES = ("t1_tissues", "ct_stroke")
CONTRASTS = ("T1w", "T2w", "FLAIR")
TISSUES = (
    "air",
    "csf",
    "grey_matter",
    "white_matter",
    "bone",
    "soft_tissue",
    "blood",
    "oedema",
    "infarct",
)
LESIONS = ("blood", "oedema", "infarct")

Picture = Path | tuple[Path, ...]
"""A NIfTI file, a folder with one DICOM series, or an ordered tuple of slice files."""


class Problem(Exception):
    """Something a user can mend, told in one line.

    The line says what was expected, what came, where, and what to do.
    Programs catch it at the door, print it and exit with status 2.
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = " ".join(what.split()), str(where), remedy
        super().__init__(self.what, self.where, self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return _problem, (self.what, self.where, self.remedy)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{line}. {self.remedy}" if self.remedy else line
        return " ".join(line.splitlines())  # a file's name may hold a line's end


def _problem(what: str, where: str, remedy: str) -> Problem:
    return Problem(what, where=where, remedy=remedy)


@dataclass(frozen=True)
class Label:
    """One class: its id, its name, its colour and what it means in the anatomy.

    ``values`` are the raw values that stand for this class in the dataset's own
    label files; by default the id itself. ``tissue`` is set where the class is one tissue of
    :data:`TISSUES`: then the picture is asked whether it looks like that.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    meaning: str
    values: tuple[int, ...] = ()
    tissue: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            object.__setattr__(self, "values", (self.id,))
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a label's name is lower case words joined by _, not {self.name!r}")
        if len(self.colour) != 3 or not all(0 <= channel <= 255 for channel in self.colour):
            raise ValueError(f"label {self.name}: a colour is three of 0..255, not {self.colour}")
        if not self.meaning.strip():
            raise ValueError(f"label {self.name}: say what it means")
        if self.tissue not in ("", *TISSUES):
            raise ValueError(
                f"label {self.name}: a tissue is one of {', '.join(TISSUES)}, not {self.tissue!r}"
            )


@dataclass(frozen=True)
class LabelMap:
    """The classes of a dataset, background first, ids 0..C-1 in order."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        ids = [label.id for label in self.labels]
        if ids != list(range(len(ids))) or not 2 <= len(ids) <= 256:
            raise ValueError(f"label ids are 0, 1, 2, ... with 2 to 256 classes, not {ids}")
        if self.labels[0].name != "background":
            raise ValueError(f"the first label is 'background', not {self.labels[0].name!r}")
        _distinct("name", [label.name for label in self.labels])
        _distinct("colour", [label.colour for label in self.labels])
        _distinct("raw value", [value for label in self.labels for value in label.values])

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    @property
    def foreground(self) -> tuple[Label, ...]:
        """All labels but the background."""
        return self.labels[1:]

    @property
    def class_of(self) -> Mapping[int, int]:
        """Raw value -> class id."""
        return {value: label.id for label in self.labels for value in label.values}


@dataclass(frozen=True)
class LabelTable:
    """One published way to number the classes, where sources contradict each other.

    ``class_of``: raw value (for drawn colours: red * 65536 + green * 256 + blue) -> class id.
    """

    name: str
    class_of: Mapping[int, int]
    evidence: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_of", dict(self.class_of))
        if self.class_of.get(0, 0) != 0:
            raise ValueError(f"table {self.name}: the raw value 0 is the background")


@dataclass(frozen=True)
class Window:
    """A CT window: ``level`` (centre) and ``width``, both in Hounsfield units."""

    level: float
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"a window's width is above 0 HU, not {self.width}")

    @property
    def bounds(self) -> tuple[float, float]:
        """(lowest, highest) HU that the window shows."""
        return self.level - self.width / 2, self.level + self.width / 2


@dataclass(frozen=True)
class Licence:
    """The terms of a source. ``redistribute``: may derived pictures be passed on?"""

    name: str
    redistribute: bool
    commercial: bool
    note: str = ""


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded without a login. ``digest``: "sha256:..." or "md5:..."."""

    url: str
    digest: str
    unpack: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", self.digest):
            raise ValueError(f"{self.url}: a digest is sha256:<64 hex> or md5:<32 hex>")


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from: exactly one of ``files``, ``instructions`` and ``recipe``.

    ``recipe`` names a virtual cohort of :mod:`pipeline.virtual`, which is made
    on the spot; ``instructions`` tell a person how to get a gated download. ``cases``: how
    many labelled cases the publisher states, 0 where the count is not stated.
    """

    homepage: str
    licence: Licence
    citation: str
    files: tuple[RemoteFile, ...] = ()
    instructions: str = ""
    recipe: str = ""
    cases: int = 0

    def __post_init__(self) -> None:
        ways = [bool(self.files), bool(self.instructions), bool(self.recipe)]
        if sum(ways) != 1:
            raise ValueError("a source has exactly one of files, instructions and recipe")
        if not self.homepage.startswith("https://") or not self.citation.strip():
            raise ValueError("a source states its homepage (https://...) and its citation")


@dataclass(frozen=True)
class Dataset:
    """The facts of one published dataset. CT has a window in HU; MR has none.

    ``contrast`` is what the MR pictures are weighted by; T1w ones are asked whether their
    tissues have the order of brightness that T1 gives them.

    ``coding`` says how labels are stored: ``values`` (the labels' raw values), ``binary``
    (any one value above 0 is the only class) or ``colours`` (drawn in the label map's
    colours). ``snap_distance`` above 0 is the opt-in for drawings whose colours are not
    exact: a stray colour becomes the nearest class within that distance in RGB, and the
    number of such pixels is recorded. ``resample_labels`` is the opt-in for labels on another
    grid than their image: they are resampled by nearest neighbour, which is recorded; without
    it they are refused.

    ``tables`` lists contradicting label tables; ``probe`` names the test that chooses among
    them for each case by the image's intensities. ``warnings`` are told to every user.

    ``anonymous`` states that the source is published without any person's identity, so that
    its ids may be shown. Where it is not stated, convert replaces them by salted hashes.
    """

    title: str
    modality: str
    label_map: LabelMap
    source: Source
    window: Window | None = None
    contrast: str = ""
    plane: str = "axial"
    coding: str = "values"
    snap_distance: float = 0.0
    resample_labels: bool = False
    tables: tuple[LabelTable, ...] = ()
    probe: str = ""
    warnings: tuple[str, ...] = ()
    anonymous: bool = False

    def __post_init__(self) -> None:
        if self.modality not in ("CT", "MR"):
            raise ValueError(f"modality is CT or MR, not {self.modality!r}")
        if (self.modality == "CT") != (self.window is not None):
            raise ValueError("a CT dataset states its window in HU, an MR dataset has none")
        if self.contrast not in ("", *CONTRASTS):
            raise ValueError(f"contrast is one of {', '.join(CONTRASTS)}, not {self.contrast!r}")
        if self.contrast and self.modality != "MR":
            raise ValueError("contrast is for MR; CT has a window in HU")
        if self.plane not in PLANES:
            raise ValueError(f"plane is one of {', '.join(PLANES)}, not {self.plane!r}")
        if self.coding not in CODINGS:
            raise ValueError(f"coding is one of {', '.join(CODINGS)}, not {self.coding!r}")
        if self.coding == "binary" and len(self.label_map) != 2:
            raise ValueError("binary labels have one class beside the background")
        if self.snap_distance and self.coding != "colours":
            raise ValueError("snap_distance is for labels drawn in colours")
        if bool(self.tables) != bool(self.probe) or len(self.tables) == 1:
            raise ValueError("contradicting tables are two or more, with a probe to choose")
        if self.probe and self.probe not in PROBES:
            raise ValueError(f"probe is one of {', '.join(PROBES)}, not {self.probe!r}")
        for table in self.tables:
            strange = sorted(set(table.class_of.values()) - set(range(len(self.label_map))))
            if strange:
                raise ValueError(f"table {table.name} has class ids that the map lacks: {strange}")


@dataclass(frozen=True)
class Case:
    """One volume of one patient: its image and, per rater, its label (one rater: "")."""

    id: str
    patient: str
    image: Picture
    labels: Mapping[str, Picture]
    split: str | None = None

    def __post_init__(self) -> None:
        for what, value in (("id", self.id), ("patient", self.patient)):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*(_[A-Za-z0-9.+-]+)*", value):
                raise ValueError(
                    f"a case's {what} is letters, digits, '.', '+', '-' and single '_',"
                    f" not {value!r}"
                )
        if not self.labels:
            raise ValueError(f"case {self.id} has no label")
        for picture in (self.image, *self.labels.values()):
            files = picture if isinstance(picture, tuple) else (picture,)
            if not all(isinstance(file, Path) for file in files):
                raise ValueError(f"case {self.id}: a picture is a Path or a tuple of them")
        if self.split not in (None, *SPLITS):
            raise ValueError(f"case {self.id}: split is one of {SPLITS} or None, not {self.split}")
        object.__setattr__(self, "labels", dict(self.labels))


def _distinct(what: str, values: Sequence[Hashable]) -> None:
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise ValueError(f"two labels share the {what} {twice[0]}")


def folders_in(*parents: Path) -> list[str]:
    """Names of the folders below ``parents``, sorted: the union, hidden ones left out.

    Raises :class:`Problem` where a parent is missing or nothing is found.
    """
    _require_folders(parents)
    names = {
        path.name
        for parent in parents
        for path in parent.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    }
    return _found(names, "folders", parents)


def names_in(*folders: Path, suffix: str, optional: bool = False) -> list[str]:
    """File names that end in ``suffix``, sorted: the union over ``folders``.

    The union keeps a file whose partner is missing: it becomes a case, and
    reading that case names both paths. Hidden files (``._x`` of macOS) are not
    listed. Raises :class:`Problem` where a folder is missing or nothing is found, unless
    that is ``optional``: so one patient's missing folder does not hide the others.
    """
    if not optional:
        _require_folders(folders)
    names = {
        path.name
        for folder in folders
        for path in folder.glob("*")
        if path.name.endswith(suffix) and not path.name.startswith(".")
    }
    return sorted(names) if optional else _found(names, f"files *{suffix}", folders)


def _require_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise Problem(
                "expected a folder, found none",
                where=folder,
                remedy="Is the download unpacked completely, and in the layout that the"
                " adapter's docstring shows?",
            )


def _found(names: set[str], what: str, folders: Sequence[Path]) -> list[str]:
    if not names:
        raise Problem(
            f"expected {what}, found none",
            where=" and ".join(str(folder) for folder in folders),
            remedy="Is the download unpacked completely?",
        )
    return sorted(names)
