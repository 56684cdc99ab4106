"""Whole raw folders, as ``fetch`` verifies and ``convert`` reads them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml

import datasets_spec
from datasets_spec.contract import Case, Problem
from pipeline import paths
from pipeline.pairs import manifest, png
from pipeline.params import reader as params
from pipeline.runtime import executor
from pipeline.runtime.executor import Outcome
from pipeline.sources import listing
from tests.conftest import FIXTURES, PROJECT
from tests.fuzz import dicom as dicom_files
from tests.fuzz import nifti, pictures, second, tables
from tests.fuzz.mutations import Mutation, stranger
from tests.fuzz.reader import LIMITS, Reader, Trial, printed_fault, with_known
from tests.fuzz.trees import Input, of_folder

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
        black = all(png.read_image(_at(pair, pair.image)).max() == 0 for pair in pairs)
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
        with_known(fetch, made.origin, 1, limits=LIMITS, subset=True)
    return listing.cases(datasets_spec.load(made.origin))


_ALL_SCANS = (
    *nifti.MUTATIONS,
    Mutation("chunks", pictures.hostile_chunks, 2.0),
    Mutation("element", dicom_files.hostile_elements, 2.0),
    Mutation("stranger", stranger, 1.0),
)


READERS = (
    Reader("convert", _cohort_seeds, _ALL_SCANS, _convert, _pairs_fault, 1.5),
    Reader("fetch", _raw_seeds, _ALL_SCANS, _fetch, printed_fault),
)
