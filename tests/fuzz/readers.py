"""Every reader of the project, called as its verbs call it, and how its answers are judged.

A :class:`Reader` that is not in :data:`READERS` is named "module:NAME", so that tests can plant
one. To add a reader, write its seeds, its call and its fault here, and list it.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml

import datasets_spec
from datasets_spec.contract import Case, Dataset, Label, LabelMap, Problem
from pipeline import (
    colors,
    dicom,
    executor,
    gate,
    labels,
    manifest,
    params,
    paths,
    raw,
    series,
    volume,
)
from pipeline.executor import Outcome
from pipeline.volume import Volume
from tests import cohort
from tests.conftest import FIXTURES, PROJECT
from tests.fuzz import (
    archives,
    nifti,
    pictures,
    second,
    tables,
    texts,
    workplace,
)
from tests.fuzz import dicom as dicom_files
from tests.fuzz.mutations import Mutation, stranger
from tests.fuzz.trees import Input, of_folder

LIMITS = params.Limits(voxels=30_000_000, pixels=10_000_000)
"""Smaller than the defaults, so that what passes them fits the campaign's limit of memory."""


@dataclass(frozen=True)
class Trial:
    """One call of a reader: what it was called with, and what came.

    ``sound`` is what the reader made of the untouched seed; ``printed`` what it wrote to stdout.
    """

    made: Input
    seed: Input
    result: Any
    sound: Any
    printed: str
    folder: Path


@dataclass(frozen=True)
class Reader:
    """``call`` gets the paths of ``Input.main``; ``fault`` says what is wrong with its result.

    ``weight`` is the share of the time that it gets.
    """

    name: str
    seeds: Callable[[], list[Input]]
    mutations: tuple[Mutation, ...]
    call: Callable[[tuple[Path, ...], Input], Any]
    fault: Callable[[Trial], str]
    weight: float = 1.0
    heavy: bool = False


def find(name: str) -> Reader:
    """The reader of that name; "module:NAME" for one that stands elsewhere."""
    module, _, variable = name.partition(":")
    if variable:
        found: Reader = getattr(importlib.import_module(module), variable)
        return found
    return {reader.name: reader for reader in READERS}[name]


def _told(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call ``function`` with those of ``named`` that it takes."""
    known = inspect.signature(function).parameters
    return function(*arguments, **{key: one for key, one in named.items() if key in known})


def _limited(function: Callable[..., Any], *arguments: Any) -> Any:
    return _told(function, *arguments, limits=LIMITS)


# ---- scans


def _read_image(files: tuple[Path, ...], made: Input) -> Volume:
    picture = files[0] if len(files) == 1 else files
    return _limited(labels.read_image, picture)


def _scan_fault(trial: Trial) -> str:
    found = nifti.oddity(trial.result)
    if found:
        return found
    try:
        return nifti.differs(trial.result, nifti.expected(trial.made))
    except second.Undecided:
        return ""
    except second.Damaged as damage:
        different = nifti.differs(trial.result, _as_scan(trial.sound))
        return f"a damaged file ({damage}) read as {different}" if different else ""


def _as_scan(sound: Volume) -> second.Scan:
    """The untouched seed's volume, as the second reader would give it."""
    return second.Scan(sound.grid.from_ras(sound.array).astype(np.float64), sound.grid.affine)


def _dicom_fault(trial: Trial) -> str:
    return dicom_files.fault(trial.result, trial.made)


def _dicom_seeds() -> list[Input]:
    root = FIXTURES / "virtual_ncct" / "raw"
    return [*dicom_files.seeds(), dicom_files.fixture(root / "sub-02" / "ct")]


def _examine(files: tuple[Path, ...], made: Input) -> series.Folder:
    return _limited(series.examine, files[0])


def _folder_fault(trial: Trial) -> str:
    found: series.Folder = trial.result
    lines = [one.facts for one in found.series] + [kind for kind, _ in found.others]
    lines += [str(told) for one in found.series for told in one.findings]
    return _of_lines(lines) or _of_lines([str(problem) for problem in found.damaged])


def _doctor(files: tuple[Path, ...], made: Input) -> None:
    from pipeline.doctor import doctor

    _limited(doctor, files[0])


def _printed_fault(trial: Trial) -> str:
    return _of_lines(trial.printed.split("\n"))


def _of_lines(lines: Sequence[str]) -> str:
    bad = next((line for line in lines if not one_line(line)), None)
    return "" if bad is None else f"a line with control characters: {bad!r:.80}"


def one_line(text: str) -> bool:
    """Whether it is printable text in one line; bytes of an unknown encoding may stand in it."""
    return all(character.isprintable() or 0xDC80 <= ord(character) <= 0xDCFF for character in text)


# ---- stacks of pictures


def _facts(coding: str, modality: str = "MR") -> Dataset:
    """A dataset of the three classes that the seeds' labels are drawn in."""
    drawn = pictures.COLOURS[: 2 if coding == "binary" else 3]
    names = ("background", "core", "rim")
    label_map = LabelMap(
        tuple(Label(at, names[at], colour, names[at]) for at, colour in enumerate(drawn))
    )
    source = datasets_spec.load(cohort.DATASET).dataset.source
    return Dataset("fuzz", modality, label_map, source, coding=coding)


def _images_fault(trial: Trial) -> str:
    return nifti.oddity(trial.result) or _slices_fault(trial, trial.result, pictures.grey_of)


def _read_raw(coding: str) -> Callable[[tuple[Path, ...], Input], Volume]:
    dataset = _facts(coding)

    def call(files: tuple[Path, ...], made: Input) -> Volume:
        found: tuple[Volume, int] = _limited(labels.read_raw, dataset, files)
        return found[0]

    return call


def _raw_fault(coding: str) -> Callable[[Trial], str]:
    def wanted(content: object) -> np.ndarray:
        if coding == "colours":
            return colors.pack(pictures.rgb_of(content)).astype(np.int64)
        ids = pictures.ids_of(content)
        return (ids > 0).astype(np.uint8) if coding == "binary" else ids

    def fault(trial: Trial) -> str:
        return nifti.oddity(trial.result) or _slices_fault(trial, trial.result, wanted)

    return fault


def _slices_fault(trial: Trial, read: Volume, decode: Callable[[object], np.ndarray]) -> str:
    slices = volume.slices(read.array, "axial")
    sound = volume.slices(trial.sound.array, "axial")
    if len(slices) != len(trial.made.main):
        return "another number of slices than files"
    for index, name in enumerate(trial.made.main):
        found = _pixels_fault(slices[index], trial.made.tree.get(name), sound[index], decode)
        if found:
            return found
    return ""


def _pixels_fault(
    read: np.ndarray, content: object, sound: np.ndarray, decode: Callable[[object], np.ndarray]
) -> str:
    damage = ""
    try:
        wanted = decode(content)
    except second.Undecided:
        return ""
    except second.Damaged as error:
        wanted, damage = sound, f"a damaged file ({error}) read as "
    if read.shape != wanted.shape:
        return f"{damage}another shape than the second reader's"
    return "" if np.array_equal(read, wanted) else f"{damage}other pixels than the second reader's"


def _label_seeds(coding: str) -> Callable[[], list[Input]]:
    return lambda: pictures.label_seeds()[coding]


def _single(seeds: Callable[[], list[Input]]) -> Callable[[], list[Input]]:
    """The first slice of each stack, as an input of one file."""

    def first() -> list[Input]:
        return [
            dataclasses.replace(one, tree={one.main[0]: one.tree[one.main[0]]}, main=one.main[:1])
            for one in seeds()
        ]

    return first


def _mask_fault(trial: Trial) -> str:
    def wanted(content: object) -> np.ndarray:
        packed = colors.pack(pictures.rgb_of(content))
        ids = np.full(packed.shape, 255, np.uint8)
        for at, colour in enumerate(pictures.COLOURS):
            ids[packed == colors.pack(np.array(colour))] = at
        return ids

    if trial.result.dtype != np.uint8 or trial.result.max(initial=0) > 2:
        return "ids that are no class's"
    content = trial.made.tree.get(trial.made.main[0])
    return _pixels_fault(trial.result, content, trial.sound, wanted)


def _grey_fault(trial: Trial) -> str:
    def wanted(content: object) -> np.ndarray:
        grey = pictures.grey_of(content)
        return (grey >> 8).astype(np.uint8) if grey.dtype != np.uint8 else grey

    if trial.result.dtype != np.uint8 or trial.result.ndim != 2:
        return "no grey picture of 8 bits"
    content = trial.made.tree.get(trial.made.main[0])
    return _pixels_fault(trial.result, content, trial.sound, wanted)


def _read_picture(files: tuple[Path, ...], made: Input) -> np.ndarray:
    """As predict does: what read_picture states to raise is the reason beside the file's name."""
    from PIL import Image

    from model.predict import read_picture

    try:
        return _limited(read_picture, files[0])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Problem(f"expected a readable picture, got {error}", where=files[0]) from None


# ---- truth, pairs and cohorts


def _truth_seeds() -> list[Input]:
    ids = np.stack(pictures.classes(), axis=-1)
    image = (ids * 100 + 50).astype(np.int16)

    def packed(array: np.ndarray) -> bytes:
        import gzip

        import nibabel as nib

        return gzip.compress(nib.Nifti1Image(array, np.diag([1, 1, 3, 1.0])).to_bytes(), mtime=0)

    tree = {"image.nii.gz": packed(image), "one.nii.gz": packed(ids)}
    other = np.where(ids == 2, 1, ids).astype(np.uint8)
    return [
        Input("one rater", dict(tree), tuple(tree)),
        Input("floats", {**tree, "one.nii.gz": packed(ids.astype(np.float32))}, tuple(tree)),
        Input(
            "three raters",
            {**tree, "two.nii.gz": packed(other), "three.nii.gz": packed(ids)},
            ("image.nii.gz", "one.nii.gz", "two.nii.gz", "three.nii.gz"),
        ),
    ]


def _truth(files: tuple[Path, ...], made: Input) -> labels.Truth:
    image = _limited(labels.read_image, files[0])
    raters = {f"r{at}": file for at, file in enumerate(files[1:])}
    fusion = "each" if len(files) == 2 else "staple"
    return _limited(labels.truth, _facts("values"), image, raters, fusion)


def _truth_fault(trial: Trial) -> str:
    for rater, ids in trial.result.ids.items():
        if ids.dtype != np.uint8 or ids.max(initial=0) > 2:
            return "ids that are no class's"
        if not rater:  # fused
            continue
        try:
            part = dataclasses.replace(trial.made, main=(trial.made.main[1],))
            wanted = nifti.expected(part).array
        except second.Undecided:
            continue
        except second.Damaged as damage:
            if not np.array_equal(ids, trial.sound.ids[rater]):
                return f"a damaged label ({damage}) read as other classes"
            continue
        counts = [np.bincount(one.astype(int).ravel(), minlength=3) for one in (ids, wanted)]
        if not np.array_equal(*counts):
            return "other classes than the second reader's"
    return ""


_CASES = {
    "virtual_mni152": ("sub-01/**/*",),
    "virtual_ncct": ("sub-01/**/*",),
    "msd_hippocampus": ("**/*_001.nii.gz",),
    "aisd": ("*/0100001/*",),
    "phe_sich_ct_ids": ("SubdatasetC_PNG/set/image4/*", "SubdatasetC_PNG/label/label4/*"),
    "teknofest_2021_stroke": ("**/*.png",),
    "mbh_seg25": ("**/ID_0a1b_ID_0002/*",),
    "full_head_t1w": ("**/*",),
}


def _cohort_seeds() -> list[Input]:
    found = []
    for name, patterns in _CASES.items():
        tree = of_folder(FIXTURES / name / "raw", *patterns)
        within = {f"{paths.raw(name).as_posix()}/{path}": one for path, one in tree.items()}
        found.append(Input(name, dict(within)))
    return found


def _settings(dataset: str) -> params.Params:
    """Small parameters; the file that they stand in lies in the current folder."""
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    content.pop("presets", None)
    content["datasets"] = dict.fromkeys(datasets_spec.names())
    content["convert"]["image_px"] = 64
    content["limits"] = dataclasses.asdict(LIMITS)
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    return params.load(dataset)


def _strictly(
    task: Callable[[Any], Any], jobs: Sequence[Any], workers: int, title: str, unit: str = "case"
) -> Iterator[Outcome[Any, Any]]:
    """:func:`executor.run`, but what is no reason for a user to read comes out as it was raised."""
    for job in jobs:
        try:
            yield Outcome(job, task(job), None)
        except (Problem, OSError) as error:
            yield Outcome(job, None, error)


def _convert(files: tuple[Path, ...], made: Input) -> list[manifest.Pair]:
    from pipeline.convert import convert

    with mock.patch.object(executor, "run", _strictly):
        convert(made.origin, _settings(made.origin), 1)
    return list(manifest.read(paths.converted(made.origin)))


def _pairs_fault(trial: Trial) -> str:
    """A picture that is black, or a mask that is empty, though its source is not."""
    pairs: list[manifest.Pair] = trial.result
    found = tables.fault(pairs)
    if found or not pairs:
        return found or "no pairs and no word about it"
    facts = datasets_spec.load(trial.made.origin).dataset
    sources = {file: trial.made.tree[file] for file in trial.made.files()}
    arrays = dict(_decoded(trial.made, sources))
    images = [array for name, array in arrays.items() if not re.search("label|dseg|labelsTr", name)]
    drawn = [array for name, array in arrays.items() if re.search("label|dseg|labelsTr", name)]
    if facts.modality == "MR" and len(images) == 1:
        low, high = np.percentile(images[0], (0.5, 99.5))
        black = all(colors.read_image(_at(pair, pair.image)).max() == 0 for pair in pairs)
        if low < high and black:
            return "black pictures of a scan that is not"
    if drawn and all((array > 0.5).any() for array in drawn) and all(p.empty for p in pairs):
        return "empty masks of labels that are not"
    return ""


def _at(pair: manifest.Pair, name: str) -> Path:
    return paths.converted(pair.dataset) / name


def _decoded(made: Input, sources: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    for name in sources:
        try:
            yield name, nifti.expected(dataclasses.replace(made, main=(name,))).array
        except (second.Damaged, second.Undecided, ValueError):
            continue


_GATED = ("aisd", "phe_sich_ct_ids", "teknofest_2021_stroke", "mbh_seg25", "full_head_t1w")


def _raw_seeds() -> list[Input]:
    return [
        Input(
            name,
            {
                f"{paths.raw(name).as_posix()}/{path}": entry
                for path, entry in of_folder(FIXTURES / name / "raw").items()
            },
        )
        for name in _GATED
    ]


def _fetch(files: tuple[Path, ...], made: Input) -> list[Case]:
    """As ``fetch`` verifies what somebody unpacked, and what it prints of it."""
    from pipeline.fetch import fetch

    with mock.patch.object(executor, "run", _strictly):
        _told(fetch, made.origin, 1, limits=LIMITS, subset=True)
    return raw.cases(datasets_spec.load(made.origin))


# ---- tables, parameters, models, archives


def _check(files: tuple[Path, ...], made: Input) -> list[gate.Finding]:
    return list(_limited(gate.check, files[0], 1))


def _check_fault(trial: Trial) -> str:
    if len(gate.table(trial.result).splitlines()) != len(gate.PROMISES):
        return "a table with another number of lines than promises"
    told = {finding.promise for finding in trial.result}
    changed = trial.made.origin == "ours" and any(
        trial.made.tree.get(name) != entry
        for name, entry in trial.seed.tree.items()
        if name.endswith(".png")
    )
    if changed and trial.made.tree.get(paths.MANIFEST) == trial.seed.tree[paths.MANIFEST]:
        broken = told & {gate.UNCHANGED, gate.PAIRED, gate.READABLE}
        return "" if broken else "a changed picture of ours passes"
    return _of_lines(gate.table(trial.result).splitlines())


def _read_manifest(files: tuple[Path, ...], made: Input) -> list[manifest.Pair]:
    return list(manifest.read(files[0]))


def _params_seed() -> list[Input]:
    content = (PROJECT / paths.PARAMS).read_bytes()
    return [Input("params.yaml", {"params.yaml": content}, ("params.yaml",))]


def _load(files: tuple[Path, ...], made: Input) -> list[object]:
    file = files[0]
    return [
        params.limits(file),
        params.presets(file),
        *(params.load(name, file) for name in params.enabled(file)),
    ]


def _params_fault(trial: Trial) -> str:
    return next((fault for one in trial.result for fault in _odd_values(one)), "")


def _odd_values(value: Any, name: str = "it") -> Iterator[str]:
    """Numbers that are not finite, and fields whose values are of another type than they say."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            kind = {"int": int, "float": float, "str": str, "bool": bool}.get(str(field.type))
            part = getattr(value, field.name)
            if kind is not None and type(part) is not kind:
                yield f"{field.name} of the type {type(part).__name__}"
            yield from _odd_values(part, field.name)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _odd_values(part, str(key))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _odd_values(part, name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name} that is not finite"


def _load_model(files: tuple[Path, ...], made: Input) -> Any:
    from model import provenance

    said = provenance.read(files[0])
    settings = _small_settings()
    facts = datasets_spec.load(cohort.DATASET).dataset
    model = provenance.load(files[0], cohort.DATASET, facts, settings)
    return said, model


def _small_settings() -> params.Params:
    return cohort.write_params()


def _model_fault(trial: Trial) -> str:
    from model.predict import probabilities

    said, model = trial.result
    if not isinstance(said, dict):
        return "a provenance that is no mapping"
    px = _small_settings().train.network
    picture = np.full((px.image_px, px.image_px), 100, np.uint8)
    found = probabilities(model, [picture], px)
    classes = len(datasets_spec.load(cohort.DATASET).dataset.label_map)
    if found.shape != (1, px.image_px, px.image_px, classes):
        return "a network of another shape"
    if not np.isfinite(found).all() or abs(found.sum(axis=-1) - 1).max() > 1e-3:
        return "a network that gives no probabilities"
    return ""


def _compare(files: tuple[Path, ...], made: Input) -> None:
    from model.compare import compare

    compare(files[0], files[1])


def _compare_fault(trial: Trial) -> str:
    odd = re.search(r"\b(?:nan|inf)\b", trial.printed)
    return _printed_fault(trial) or ("numbers that are not finite" if odd else "")


def _report(files: tuple[Path, ...], made: Input) -> str:
    from pipeline.report import report

    report(params.enabled(), paths.PARAMS)
    return (paths.REPORT / "index.html").read_text("utf-8")


def _report_fault(trial: Trial) -> str:
    if "<script>alert(1)" in trial.result:
        return "a script of the input stands in the page"
    return ""


def _archive_seeds() -> list[Input]:
    return archives.seeds(of_folder(FIXTURES / "msd_hippocampus" / "raw", "**/*_001.nii.gz"))


def _unpack(files: tuple[Path, ...], made: Input) -> Path:
    target = Path("unpacked").resolve()
    target.mkdir()
    try:
        from pipeline.unpack import unpack
    except ImportError:  # fetch unpacks with pooch
        import pooch

        kind = pooch.Unzip if files[0].suffix == ".zip" else pooch.Untar
        kind(extract_dir=str(target))(str(files[0]), "download", None)
    else:
        unpack(files[0], target)
    return target


def _unpack_fault(trial: Trial) -> str:
    """Links, devices, odd modes, or sound members with other bytes than they had."""
    for here, folders, names in os.walk(trial.result):
        for path in (Path(here, name) for name in (*folders, *names)):
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return f"unpacked something that is no file ({stat.filemode(mode)[0]})"
            if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
                return "unpacked a setuid file"
            if not os.access(path, os.R_OK) or not mode & stat.S_IRUSR:
                return "unpacked a file that its owner may not read"
    name = next(iter(trial.made.tree))
    if trial.made.tree[name] != trial.seed.tree.get(name):
        return ""
    for member, content in trial.seed.packed.items():
        if (trial.result / member).read_bytes() != content:
            return "another file than was packed"
    return ""


def _fine(_: Trial) -> str:
    return ""


def _stack_reader(coding: str) -> Reader:
    return Reader(
        f"labels-{coding}",
        _label_seeds(coding),
        pictures.MUTATIONS,
        _read_raw(coding),
        _raw_fault(coding),
        0.5,
    )


_ALL_SCANS = (
    *nifti.MUTATIONS,
    Mutation("chunks", pictures.hostile_chunks, 2.0),
    Mutation("element", dicom_files.hostile_elements, 2.0),
    Mutation("stranger", stranger, 1.0),
)

READERS = (
    Reader("nifti", nifti.seeds, nifti.MUTATIONS, _read_image, _scan_fault, 2.0),
    Reader("truth", _truth_seeds, nifti.MUTATIONS, _truth, _truth_fault),
    Reader(
        "dicom",
        _dicom_seeds,
        dicom_files.MUTATIONS,
        lambda files, _: _limited(dicom.read_series, files[0]),
        _dicom_fault,
        2.0,
    ),
    Reader("examine", _dicom_seeds, dicom_files.MUTATIONS, _examine, _folder_fault, 0.5),
    Reader("doctor", _dicom_seeds, dicom_files.MUTATIONS, _doctor, _printed_fault, 0.7),
    Reader("images", pictures.image_seeds, pictures.MUTATIONS, _read_image, _images_fault),
    *(_stack_reader(coding) for coding in ("values", "binary", "colours")),
    Reader(
        "mask",
        _single(_label_seeds("colours")),
        pictures.MUTATIONS,
        lambda files, _: _limited(colors.read_mask, files[0], _facts("values").label_map),
        _mask_fault,
        0.5,
    ),
    Reader(
        "image",
        _single(lambda: pictures.image_seeds()[:1]),
        pictures.MUTATIONS,
        lambda files, _: _limited(colors.read_image, files[0]),
        _grey_fault,
        0.5,
    ),
    Reader(
        "predict",
        _single(pictures.image_seeds),
        pictures.MUTATIONS,
        _read_picture,
        _grey_fault,
        heavy=True,
    ),
    Reader("check", tables.layout_seeds, tables.LAYOUT_MUTATIONS, _check, _check_fault),
    Reader(
        "manifest",
        tables.manifest_seeds,
        tables.MANIFEST_MUTATIONS,
        _read_manifest,
        lambda trial: tables.fault(trial.result),
    ),
    Reader("params", _params_seed, texts.MUTATIONS, _load, _params_fault),
    Reader("convert", _cohort_seeds, _ALL_SCANS, _convert, _pairs_fault, 1.5),
    Reader("fetch", _raw_seeds, _ALL_SCANS, _fetch, _printed_fault),
    Reader("unpack", _archive_seeds, archives.MUTATIONS, _unpack, _unpack_fault),
    Reader("compare", tables.runs_seed, texts.MUTATIONS, _compare, _compare_fault, 0.7),
    Reader(
        "report",
        workplace.report_seed,
        (*texts.MUTATIONS, *tables.LAYOUT_MUTATIONS),
        _report,
        _report_fault,
        heavy=True,
    ),
    Reader(
        "model",
        workplace.model_seed,
        archives.MODEL_MUTATIONS,
        _load_model,
        _model_fault,
        2.0,
        heavy=True,
    ),
)
"""All of them, in the order of the table."""
