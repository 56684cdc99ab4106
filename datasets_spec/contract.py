"""The description of a dataset: the frozen values that an adapter passes to the pipeline.

An adapter module defines ``DATASET`` (a :class:`Dataset`) and ``cases(raw)``
(which yields :class:`Case` values). Every value is checked when it is built, so
a mistake in an adapter is an error at import, not a wrong picture later.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from urllib.parse import urlsplit

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

MOST_CHANNELS = 12
"""Of a picture: so many MR sequences of one case, or windows of a CT."""
IGNORED = 255
"""The class id of voxels that nobody annotated: they are neither trained on nor scored."""
IGNORED_COLOUR = (64, 64, 64)
"""How masks show them; no class has this colour."""

ANY_OTHER = "*"
"""Among the names of the background: every segment or region that no class names."""


@dataclass(frozen=True)
class OneVolume:
    """One of the volumes that ``path`` holds: a 4-D NIfTI file, or a folder with a DICOM series.

    ``volume`` is its key, such as "volume 3", "echo 2", "b 1000", "time 3" or "magnitude"; the
    message about a scan that holds several lists them all.
    """

    path: Path
    volume: str

    def __post_init__(self) -> None:
        if not self.volume.strip():
            raise ValueError(f"{self.path}: state the key of the volume that is meant")


Picture = Path | OneVolume | tuple[Path, ...]
"""A NIfTI file, a folder with one DICOM series, one volume of several in these, or an ordered tuple
of slice files; of a label also a DICOM SEG or RTSTRUCT, or a folder with exactly one of these."""


def paths_of(picture: Picture) -> tuple[Path, ...]:
    """The paths that a picture consists of."""
    if isinstance(picture, tuple):
        return picture
    return (picture.path if isinstance(picture, OneVolume) else picture,)


def scan_of(picture: Picture) -> Path | None:
    """The file or folder of a scan with a geometry; None of slice files."""
    return None if isinstance(picture, tuple) else paths_of(picture)[0]


def volume_of(picture: Picture) -> str:
    """The key of the one volume that is meant; "" where the picture is all that its path holds."""
    return picture.volume if isinstance(picture, OneVolume) else ""


_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*(_[A-Za-z0-9.+-]+)*")
_LONGEST = 100  # characters: with variant, rater and slice, a file name has at most 255
_DIGITS = 6  # of a digest, where two names have the same slug
_PLAIN = str.maketrans(
    {
        **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "Th"},
        **{
            "ø": "o",
            "Ø": "O",
            "ł": "l",
            "Ł": "L",
            "đ": "d",
            "Đ": "D",
            "ð": "d",
            "Ð": "D",
            "ı": "i",
        },
    }
)
"""Letters that Unicode does not decompose into a plain letter and a mark."""


class Problem(Exception):
    """An error that a user can correct, reported in one line.

    The line states what was expected, what was received, where, and what to do.
    Programs catch it at the top level, print it and exit with status 2.
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = " ".join(what.split()), str(where), remedy
        super().__init__(self.what, self.where, self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return _problem, (self.what, self.where, self.remedy)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{line}. {self.remedy}" if self.remedy else line
        return printable(" ".join(line.splitlines()))  # a file name may contain a line break


def printable(text: str) -> str:
    r"""``text`` with control and unprintable characters escaped.

    File names may contain escape sequences and bytes of no encoding.

    >>> printable("a\x1b[31m scan")
    'a\\x1b[31m scan'
    """
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _problem(what: str, where: str, remedy: str) -> Problem:
    return Problem(what, where=where, remedy=remedy)


@dataclass(frozen=True)
class Label:
    """One class: its id, its name, its colour and what it means in the anatomy.

    ``values`` are the raw values of this class in the dataset's own label files; by default
    the id itself. ``names`` are those of the segments (DICOM SEG) and regions of interest
    (RTSTRUCT) that are this class, as :func:`spelled` compares them; by default the name itself.
    :data:`ANY_OTHER` among those of the background leaves out all that no class names.
    ``tissue`` is set if the class is one tissue of :data:`TISSUES`: then it is checked whether the
    picture looks like that.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    meaning: str
    values: tuple[int, ...] = ()
    tissue: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.values:
            object.__setattr__(self, "values", (self.id,))
        if not self.names:
            object.__setattr__(self, "names", (self.name,))
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a label's name is lower case words joined by _, not {self.name!r}")
        if len(self.colour) != 3 or not all(0 <= channel <= 255 for channel in self.colour):
            raise ValueError(f"label {self.name}: a colour is three of 0..255, not {self.colour}")
        if not self.meaning.strip():
            raise ValueError(f"label {self.name}: state what it means")
        if self.tissue not in ("", *TISSUES):
            raise ValueError(
                f"label {self.name}: a tissue is one of {', '.join(TISSUES)}, not {self.tissue!r}"
            )
        if tuple(self.colour) == IGNORED_COLOUR:
            raise ValueError(
                f"label {self.name}: the colour {IGNORED_COLOUR} marks what nobody annotated"
            )


@dataclass(frozen=True)
class LabelMap:
    """The classes of a dataset, background first, ids 0..C-1 in order."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        ids = [label.id for label in self.labels]
        if ids != list(range(len(ids))) or not 2 <= len(ids) <= IGNORED:
            raise ValueError(f"label ids are 0, 1, 2, ... with 2 to {IGNORED} classes, not {ids}")
        if self.labels[0].name != "background":
            raise ValueError(f"the first label is 'background', not {self.labels[0].name!r}")
        _distinct("name", [label.name for label in self.labels])
        _distinct("colour", [label.colour for label in self.labels])
        _distinct("raw value", [value for label in self.labels for value in label.values])
        named = [(label, spelled(name)) for label in self.labels for name in label.names]
        _distinct("name of a segment", [name for _, name in named])
        for label, name in named:
            if not name or (name == ANY_OTHER and label.id):
                raise ValueError(f"label {label.name}: {name!r} is no name of a segment")

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
    """One published numbering of the classes, where sources contradict each other.

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
    """The terms of a source. ``redistribute``: whether derived pictures may be passed on."""

    name: str
    redistribute: bool
    commercial: bool
    note: str = ""


_DIGEST = "sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded without a login.

    ``url`` is https, or this machine's own address. ``digest``: "sha256:<64 hex>" or
    "md5:<32 hex>", or both, separated by a space: each is checked. State sha256 wherever it is
    known, because a file can be forged to have a given md5.
    """

    url: str
    digest: str
    unpack: bool = False

    def __post_init__(self) -> None:
        stated = self.digest.split()
        if not (stated and all(re.fullmatch(_DIGEST, one) for one in stated)):
            raise ValueError(f"{self.url}: a digest is sha256:<64 hex> or md5:<32 hex>")
        if len(self.digests) < len(stated):
            raise ValueError(f"{self.url}: one digest of a kind, not {self.digest}")
        if not (urlsplit(self.url).scheme == "https" or is_own_address(self.url)):
            raise ValueError(f"a file's address begins with https://, not {self.url!r}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+%-]*", self.name):
            raise ValueError(f"a file's address ends in the file's name, not {self.url!r}")

    @property
    def name(self) -> str:
        """The last part of the address's path."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def digests(self) -> Mapping[str, str]:
        """Kind ("sha256", "md5") -> hexadecimal digits."""
        return dict(one.split(":") for one in self.digest.split())


def is_own_address(url: str) -> bool:
    """Whether ``url`` is plain http within this machine, where nobody can intercept it."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from: exactly one of ``files``, ``instructions`` and ``recipe``.

    ``recipe`` names a virtual cohort of :mod:`pipeline.virtual.cohorts`, which is generated;
    ``instructions`` explain how to get a gated download. ``cases``: the number of labelled cases
    that the publisher states, or 0.
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
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("a source's files have different names")
        if not self.homepage.startswith("https://") or not self.citation.strip():
            raise ValueError("a source states its homepage (https://...) and its citation")


@dataclass(frozen=True)
class PatientsTable:
    """A table in the raw data that states the patient, split or strata of each case.

    ``file``: a CSV or TSV file with a header, relative to ``data/raw/<dataset>``, such as BIDS'
    ``participants.tsv``. ``key`` is the column whose value is a case's patient, as the adapter
    states it, or else its id. ``patient`` and ``split`` are the columns that replace those of the
    adapter ("": they stay); ``strata`` are columns that :class:`Case` keeps, such as site or age.
    """

    file: str
    key: str = "participant_id"
    patient: str = ""
    split: str = ""
    strata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        path = Path(self.file)
        if path.is_absolute() or ".." in path.parts or path.suffix not in (".csv", ".tsv"):
            raise ValueError(f"a patients table is a .csv or .tsv below raw, not {self.file!r}")
        if not self.key:
            raise ValueError("a patients table states the column that identifies a case")


@dataclass(frozen=True)
class Dataset:
    """The facts of one published dataset. CT has a window in HU; MR has none.

    ``contrast`` is the weighting of MR pictures; in T1w pictures it is checked whether the
    tissues have the order of brightness of T1.

    ``coding`` is how labels are stored: ``values`` (the labels' raw values), ``binary``
    (any one value above 0 is the only class) or ``colours`` (drawn in the label map's
    colours). ``snap_distance`` above 0 is the opt-in for drawings whose colours are not
    exact: a stray colour becomes the nearest class within that distance in RGB, and the
    number of such pixels is recorded. ``resample_labels`` is the opt-in for labels on another
    grid than their image's: they are resampled by nearest neighbour, which is recorded; without
    it they are refused.

    Labels that are DICOM SEG or RTSTRUCT name their classes (:attr:`Label.names`), so neither
    ``coding`` nor ``tables`` concern them. ``later_wins`` is the opt-in for segments or regions of
    several classes that overlap, as a core lies in its rim: the class that the label map has later
    is drawn, and the voxels are counted; without it they are refused. Of a FRACTIONAL segmentation,
    voxels are drawn whose share is ``fraction`` or more.

    ``tables`` lists contradicting label tables; ``probe`` names the test that chooses among
    them for each case by the image's intensities. ``warnings`` are shown to every user.

    ``anonymous`` states that the source is published without the identity of any person, so that
    its ids may be shown. Otherwise, convert replaces them by salted hashes.

    ``channels`` names the pictures of a case where it has several on one grid, such as MR
    sequences, in the order in which a network sees them; ``contrast`` is then that of the first.
    (CT in several windows is one picture: ``convert.windows``.) ``ignored_values`` are raw label
    values (for drawn colours: red * 65536 + green * 256 + blue) that mark what nobody annotated.
    ``patients``: a table in the raw data about them.
    ``patients_unknown`` states that no ids of patients are published: cases are then grouped by
    likeness, so that those of one person do not lie in two splits.
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
    later_wins: bool = False
    fraction: float = 0.5
    tables: tuple[LabelTable, ...] = ()
    probe: str = ""
    warnings: tuple[str, ...] = ()
    anonymous: bool = False
    channels: tuple[str, ...] = ()
    ignored_values: tuple[int, ...] = ()
    patients: PatientsTable | None = None
    patients_unknown: bool = False

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
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is above 0 and at most 1, not {self.fraction}")
        if bool(self.tables) != bool(self.probe) or len(self.tables) == 1:
            raise ValueError("contradicting tables are two or more, with a probe to choose")
        if self.probe and self.probe not in PROBES:
            raise ValueError(f"probe is one of {', '.join(PROBES)}, not {self.probe!r}")
        for name in self.channels:
            if not is_slug(name):
                raise ValueError(
                    f"a channel's name is letters, digits, '.', '+', '-', not {name!r}"
                )
        _distinct("channel", [name.casefold() for name in self.channels])
        if len(self.channels) == 1 or len(self.channels) > MOST_CHANNELS:
            raise ValueError(
                f"a dataset has 2 to {MOST_CHANNELS} channels, or names none, not {self.channels}"
            )
        if self.patients_unknown and self.patients is not None and self.patients.patient:
            raise ValueError("patients are unknown, or stated in a table, not both")
        if self.ignored_values and self.coding == "binary":
            raise ValueError("binary labels ignore nothing: state the coding values")
        known = set(self.label_map.class_of) if self.coding == "values" else set()
        if self.coding == "colours":
            known = {r << 16 | g << 8 | b for r, g, b in (one.colour for one in self.label_map)}
        if self.tables:
            known = {value for table in self.tables for value in table.class_of}
        if both := sorted(known & set(self.ignored_values)):
            raise ValueError(f"a value is a class or ignored, not both: {both}")
        for table in self.tables:
            strange = sorted(set(table.class_of.values()) - set(range(len(self.label_map))))
            if strange:
                raise ValueError(f"table {table.name} has class ids that the map lacks: {strange}")


def spelled(name: str) -> str:
    """A segment's or region's name as it is compared: small letters, single spaces.

    >>> spelled("  GTV  Core "), spelled("gtv core")
    ('gtv core', 'gtv core')
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def slug(name: str) -> str:
    """``name`` as text that is safe in a file's name, in a path and in a spreadsheet's cell.

    A slug has at most 100 characters: ASCII letters and digits, '.', '+', '-' and single '_'; the
    first is a letter or digit. A name like this stays as it is. Otherwise letters lose their marks,
    other characters become '-', and a name that is too long, or in another script, gets a digest of
    the name. Composed and decomposed spellings (NFC, NFD) give the same slug; a name without any
    letter or digit gives "".

    >>> slug("x (1)"), slug("Müller"), slug("=1+1"), slug("sub-01")
    ('x-1', 'Muller', '1+1', 'sub-01')
    """
    name = unicodedata.normalize("NFC", name)
    if is_slug(name) or not any(map(str.isalnum, name)):
        return name if is_slug(name) else ""
    plain = unicodedata.normalize("NFKD", name.translate(_PLAIN))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"[^A-Za-z0-9.+_-]+", "-", plain)
    plain = re.sub(r"_+", "_", re.sub(r"-+", "-", plain)).strip("-_.+")
    if is_slug(plain):
        return plain
    return f"{plain[: _LONGEST // 2].rstrip('_') or 'x'}-{_digest(name)}"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Name -> :func:`slug`, different for different names, independent of their order.

    Names that are slugs stay. Others that would have the same slug as another name get a digest
    of the whole name at the end.
    """
    spelled = {name: unicodedata.normalize("NFC", name) for name in names}
    made = {name: name for name in spelled.values() if is_slug(name)}
    changed = sorted(set(spelled.values()) - made.keys())
    common = Counter([*made, *map(slug, changed)])
    for name in changed:
        made[name] = slug(name)
        if made[name] and common[made[name]] > 1:
            made[name] = f"{made[name][: _LONGEST // 2].rstrip('_')}-{_digest(name)}"
    return {name: made[spelling] for name, spelling in spelled.items()}


def is_slug(name: str) -> bool:
    """Whether ``name`` is a valid id."""
    return len(name) <= _LONGEST and bool(_SLUG.fullmatch(name))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]


_UNCHECKED: ContextVar[bool] = ContextVar("unchecked", default=False)


@contextmanager
def unchecked() -> Iterator[None]:
    """In this block a :class:`Case` does not check its values.

    ``pipeline.sources.listing`` lists an adapter's cases in it, and then builds each of them
    again, with slugs for its names, outside. So every case is checked, but an invalid one is named
    and the others are kept; an error in the adapter's loop would end the loop.
    """
    before = _UNCHECKED.set(True)
    try:
        yield
    finally:
        _UNCHECKED.reset(before)


@dataclass(frozen=True)
class Case:
    """One volume of one patient: its image and, per rater, its label (one rater: "").

    Of a dataset with ``channels``, ``image`` maps the names of those that the case has to their
    pictures, which lie on one grid: at least one, and a missing sequence is left out.

    An adapter may use the names of the raw data: ``pipeline.sources.listing`` makes unique slugs
    of them (:func:`slugs`). Everywhere else, id, patient and raters must be slugs.

    ``unlabelled`` names the classes that nobody annotated in this case. ``annotated_slices`` are
    the indices, along the third axis of the image as it is stored, of the slices that were
    annotated (None: all). ``strata``: what else is known of the patient, such as {"site": "A"}.
    """

    id: str
    patient: str
    image: Picture | Mapping[str, Picture]
    labels: Mapping[str, Picture]
    split: str | None = None
    unlabelled: tuple[str, ...] = ()
    annotated_slices: tuple[int, ...] | None = None
    strata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if _UNCHECKED.get():
            return
        named = [("id", self.id), ("patient", self.patient)]
        for what, value in [*named, *(("rater", rater) for rater in self.labels if rater)]:
            if not isinstance(value, str) or not is_slug(value):
                raise ValueError(
                    f"a case's {what} is letters, digits, '.', '+', '-' and single '_', at most"
                    f" {_LONGEST} of them, not {value!r}"
                )
        if not self.labels:
            raise ValueError(f"case {self.id} has no label")
        if not self.pictures:
            raise ValueError(f"case {self.id} has no image")
        for picture in (*self.pictures.values(), *self.labels.values()):
            if not all(isinstance(file, Path) for file in paths_of(picture)):
                raise ValueError(
                    f"case {self.id}: a picture is a Path, a OneVolume or a tuple of Paths"
                )
        if self.split not in (None, *SPLITS):
            raise ValueError(f"case {self.id}: split is one of {SPLITS} or None, not {self.split}")
        if self.annotated_slices is not None and not (
            self.annotated_slices
            and all(isinstance(one, Integral) and one >= 0 for one in self.annotated_slices)
        ):
            raise ValueError(
                f"case {self.id}: annotated slices are one or more indices from 0, not"
                f" {self.annotated_slices!r}"
            )
        if isinstance(self.unlabelled, str):
            raise ValueError(
                f"case {self.id}: unlabelled is a tuple of names, not {self.unlabelled!r}"
            )
        if isinstance(self.image, Mapping):
            object.__setattr__(self, "image", dict(self.image))
        object.__setattr__(self, "labels", dict(self.labels))
        if not all(isinstance(one, str) for entry in self.strata.items() for one in entry):
            raise ValueError(f"case {self.id}: strata are text by name, not {self.strata!r}")
        object.__setattr__(self, "strata", dict(self.strata))

    @property
    def pictures(self) -> Mapping[str, Picture]:
        """Channel -> picture, in order; of a dataset without channels, one named ""."""
        return dict(self.image) if isinstance(self.image, Mapping) else {"": self.image}

    @property
    def first(self) -> Picture:
        """The first picture: its geometry, instances and name are those of the case."""
        return next(iter(self.pictures.values()))


def _distinct(what: str, values: Sequence[Hashable]) -> None:
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise ValueError(f"two share the {what} {twice[0]}")


def folders_in(*parents: Path) -> list[str]:
    """The names of the folders in ``parents``, sorted: the union, without hidden ones.

    Raises :class:`Problem` if a parent is missing or there are no folders.
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
    """The file names that end in ``suffix``, sorted: the union over ``folders``.

    The union includes files whose partner is missing: they become cases, and reading such a case
    names both paths. Hidden files (``._x`` of macOS) are left out. Raises :class:`Problem` if a
    folder is missing or there are no files, unless ``optional``: then the missing folder of one
    patient does not cost the others.
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
