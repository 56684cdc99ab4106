"""The manifest: the table of pairs that travels from stage to stage, one row per pair.

It is a Parquet file beside ``images/`` and ``masks/``, sorted by pair id, and
holds no clock and no host name: the same pairs give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.runtime import files


@dataclass(frozen=True, slots=True)
class Pair:
    """One image/mask pair.

    ``id`` is the file name without ``.png``, equal for image and mask; ``image``
    and ``mask`` are relative to the manifest's folder. ``source`` is relative to
    ``data/raw/<dataset>`` (of a stack: the slice's own file); ``source_shape`` and
    ``affine`` (4 x 4, row by row, voxel to mm, RAS+) are the source's own grid,
    and ``canvas`` is the chain of :class:`pipeline.pairs.canvas.Canvas`, so that every
    pixel has its voxel. ``window``: the intensities shown as 0 and 255.
    ``class_pixels``: pixels per class id. ``raters`` counts the raters, and ``agreement`` is
    their mean pairwise Dice per class id (NaN where none). ``label_table`` and
    ``label_evidence`` state which of several published label tables was used and why, and
    ``snapped_pixels`` how many stray colours were changed in the case. ``findings`` (what is
    odd about scan and labels) and ``suspicion`` (what the picture shows that speaks against the
    labels) are JSON lists as :mod:`pipeline.volumes.findings` writes them, empty where all is well.
    ``sop_instance_uid`` is set where the slice is one DICOM instance. Of a dataset that is not
    published as anonymous, patient, case, rater, source and SOPInstanceUID are
    :mod:`pipeline.pairs.pseudonyms`. ``likeness`` is the image's perceptual hash
    (:mod:`pipeline.pairs.likeness`; none on augmented pairs). ``parent`` and ``warp`` (JSON) are
    set on augmented pairs only. ``profile`` is what the case's scan looks like
    in numbers (:mod:`pipeline.volumes.profile`, JSON). ``truth`` (none on augmented pairs) is where
    :mod:`pipeline.pairs.truth_record` keeps the labels that the pair shows on the source's grid,
    relative to ``data/converted/<dataset>``. ``fingerprint`` identifies everything that determines
    the pair; a pair whose fingerprint is unchanged is not made again.

    Of a series without one spacing, ``place`` is the centre of the slice's first voxel in mm
    (x, y, z in RAS+) and ``thickness_mm`` how much of the stack the slice stands for.
    ``channels`` names the channels of a picture that has several, joined by ",", ``absent`` those
    that the case lacks, ``windows`` the values shown as 0 and 255 of each in turn, and
    ``more_digests`` is a JSON list of the sha256 of the files with the channels after the third.
    ``ignored_pixels`` counts what nobody annotated, and ``unlabelled`` are the ids of the classes
    that nobody annotated in the case. ``strata`` (JSON) is what else is known of the patient, and
    ``patient_basis`` how the patient was determined where no id is published. ``scan`` (none on
    augmented pairs) is where convert keeps the case's scan in 8 bits on the source's grid, relative
    to ``data/converted/<dataset>``.

    Of a dataset that is kept in shards, ``shard`` is the tar with the pair's files, relative to
    the manifest's folder, and ``shard_at`` the offset and size in bytes of each of :attr:`files`
    there; ``case_shard`` is that with what convert keeps of the case (``truth``, ``scan``), and
    ``case_at`` the offset and size of all of it.
    """

    id: str
    dataset: str
    patient: str
    case: str
    slice_index: int
    rater: str
    image: str
    mask: str
    source: str
    source_digest: str
    source_shape: tuple[int, int, int]
    affine: tuple[float, ...]
    plane: str
    canvas: tuple[float, ...]
    window: tuple[float, float]
    class_pixels: tuple[int, ...]
    image_digest: str
    mask_digest: str
    licence: str
    fingerprint: str
    official_split: str = ""
    parent: str = ""
    warp: str = ""
    split: str = ""
    sop_instance_uid: str = ""
    raters: int = 1
    agreement: tuple[float, ...] = ()
    label_table: str = ""
    label_evidence: str = ""
    snapped_pixels: int = 0
    findings: str = ""
    suspicion: str = ""
    likeness: str = ""
    truth: str = ""
    truth_digest: str = ""
    profile: str = ""
    place: tuple[float, ...] = ()
    thickness_mm: float = 0.0
    channels: str = ""
    absent: str = ""
    windows: tuple[float, ...] = ()
    more_digests: str = ""
    ignored_pixels: int = 0
    unlabelled: tuple[int, ...] = ()
    strata: str = ""
    patient_basis: str = ""
    scan: str = ""
    scan_digest: str = ""
    shard: str = ""
    shard_at: tuple[int, ...] = ()
    case_shard: str = ""
    case_at: tuple[int, ...] = ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of the picture's channels; none of a grey picture."""
        return tuple(filter(None, self.channels.split(",")))

    @property
    def depth(self) -> int:
        """How many channels the picture has."""
        return len(self.channel_names) or 1

    @property
    def present(self) -> tuple[bool, ...]:
        """Of every channel whether the case has it."""
        absent = self.absent.split(",")
        return tuple(name not in absent for name in self.channel_names) or (True,)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Name and sha256 of every file: those of the image, and the mask."""
        more = json.loads(self.more_digests) if self.more_digests else []
        names = paths.picture_files(Path(self.image), self.depth)
        digests = (self.image_digest, *more)
        pictures = zip((one.as_posix() for one in names), digests, strict=True)
        return (*pictures, (self.mask, self.mask_digest))

    @property
    def empty(self) -> bool:
        """Whether the mask has no foreground, as far as somebody annotated it."""
        return not any(self.class_pixels[1:]) and not self.unannotated

    @property
    def unannotated(self) -> bool:
        """Whether nobody annotated any of the pixels."""
        return self.ignored_pixels > 0 and not any(self.class_pixels)


_TYPES = {
    "str": pa.string(),
    "int": pa.int32(),
    "float": pa.float64(),
    "tuple[int, int, int]": pa.list_(pa.int64()),
    "tuple[int, ...]": pa.list_(pa.int64()),
    "tuple[float, ...]": pa.list_(pa.float64()),
    "tuple[float, float]": pa.list_(pa.float64()),
}

_BATCH_ROWS, _GROUP_ROWS = 1 << 11, 1 << 14  # read and written at once
SCHEMA = pa.schema(
    [
        pa.field(field.name, _TYPES[str(field.type)], nullable=False)
        for field in dataclasses.fields(Pair)
    ]
)


_EMPTY = {"str": "", "int": 0}


def blank(pair_id: str, **values: Any) -> Pair:
    """A row of which only ``values`` are known; all other columns are empty.

    >>> blank("p1_0000", patient="p1").patient
    'p1'
    """
    needed = [one for one in dataclasses.fields(Pair) if one.default is dataclasses.MISSING]
    empty = {one.name: _EMPTY.get(str(one.type), ()) for one in needed}
    return Pair(**{**empty, "id": pair_id, **values})


_OWN = (
    *("id", "image", "mask", "class_pixels", "image_digest", "mask_digest"),
    *("parent", "warp", "fingerprint", "likeness", "truth", "truth_digest", "more_digests"),
    *("ignored_pixels", "scan", "scan_digest"),
    *("shard", "shard_at", "case_shard", "case_at"),
)


def strata_text(strata: Mapping[str, str]) -> str:
    """Strata as the manifest's column holds them: JSON, sorted; "" for none."""
    return json.dumps(dict(sorted(strata.items())), ensure_ascii=False) if strata else ""


def strata_of(pair: Pair) -> dict[str, str]:
    """What is known of the patient of a pair beside the id, such as {"site": "A"}."""
    strata: dict[str, str] = json.loads(pair.strata or "{}")
    return strata


def inherited(pair: Pair, parent: Pair) -> Pair:
    """An augmented pair with all columns that it inherits as they are in ``parent`` now."""
    return replace(parent, **{name: getattr(pair, name) for name in _OWN})


def write(folder: Path, pairs: Iterable[Pair]) -> None:
    """Write ``folder/manifest.parquet``, sorted by id, completely or not at all."""
    rows = sorted(pairs, key=lambda pair: pair.id)
    with (
        files.replacing(folder / paths.MANIFEST) as unfinished,
        pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer,
    ):
        for start in range(0, max(1, len(rows)), _GROUP_ROWS):
            writer.write_table(_table(rows[start : start + _GROUP_ROWS]))


def _table(rows: Sequence[Pair]) -> pa.Table:
    columns = [pa.array([getattr(row, one.name) for row in rows], one.type) for one in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def grouped(pairs: Iterable[Pair], *fields: str) -> list[list[Pair]]:
    """Groups of pairs with equal ``fields``, sorted by these, the members by slice index.

    Pair ids alone would not do: the name of one case can look like a slice of another.
    """
    groups: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(tuple(getattr(pair, field) for field in fields), []).append(pair)
    return [
        sorted(members, key=lambda pair: (pair.slice_index, pair.id))
        for _, members in sorted(groups.items())
    ]


def read(folder: Path) -> list[Pair]:
    """The rows of ``folder/manifest.parquet``. Raises :class:`Problem` if it is not there."""
    file = folder / paths.MANIFEST
    if not file.is_file():
        raise Problem(
            "expected a manifest, found none",
            where=file,
            remedy="Run the stage that writes it (dvc repro runs all stages in order).",
        )
    try:
        with pq.ParquetFile(file) as stored:
            if not stored.schema_arrow.equals(SCHEMA):
                raise Problem(
                    "expected the columns of this version, got another version's",
                    where=file,
                    remedy="Delete the folder and run again.",
                )
            return [
                pair
                for batch in stored.iter_batches(_BATCH_ROWS, use_threads=False)
                for pair in map(Pair, *map(_shared, batch.columns))
            ]
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
        raise Problem(
            f"expected a Parquet table, got {str(error).rstrip('.')}",
            where=file,
            remedy="Delete it, and run the stage that writes it.",
        ) from None


def _shared(column: pa.Array) -> list[Any]:
    """The values of a column, lists as tuples; equal texts and tuples are one object.

    Most columns are the same for all slices of a case, so this takes several times less memory.
    """
    if pa.types.is_string(column.type):
        texts: dict[str, str] = {}
        return [texts.setdefault(text, text) for text in column.to_pylist()]
    if not pa.types.is_list(column.type):
        values: list[Any] = column.to_pylist()
        return values
    numbers = np.from_dlpack(column.values)  # to_numpy would import pandas: 50 MB
    ends = column.offsets.to_pylist()
    tuples: dict[bytes, tuple[Any, ...]] = {}  # by their bits, which distinguish 0.0 from -0.0
    found = []
    for start, stop in pairwise(ends):
        bits = numbers[start:stop].tobytes()
        if bits not in tuples:
            tuples[bits] = tuple(numbers[start:stop].tolist())
        found.append(tuples[bits])
    return found
