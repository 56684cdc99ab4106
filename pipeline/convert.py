"""convert: raw volumes -> square 8-bit images and indexed masks, every slice of every case."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import datasets_spec
from datasets_spec.contract import Case, Dataset, Picture, Problem
from pipeline import params, paths, raw, store, volume
from pipeline.canvas import Canvas
from pipeline.manifest import Pair
from pipeline.store import Job


@dataclass(frozen=True)
class _Work:
    case: Case
    source_digest: str


def convert(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/converted/<dataset>``.

    Raises :class:`Problem` if there is no raw data, two cases share an id, or
    any case fails; the other cases' pairs are kept.
    """
    adapter = datasets_spec.load(dataset)
    recipe = store.fingerprint(
        asdict(settings.convert),
        repr(adapter.dataset),
        store.code(__name__, adapter.module_file),
    )
    failed: dict[str, Exception] = {}
    jobs = []
    for case in raw.cases(adapter):
        try:
            source_digest = store.digest(*raw.files(case))
        except (Problem, OSError) as error:
            failed[case.id] = error
            continue
        work = _Work(case, source_digest)
        jobs.append(Job(case.id, store.fingerprint(recipe, case.id, source_digest), work))
    folder = paths.converted(dataset)
    task = partial(_convert_case, dataset, adapter.dataset, settings.convert, folder)
    store.fill(folder, jobs, task, workers, f"convert {dataset}", failed)


def _convert_case(
    name: str, dataset: Dataset, settings: params.Convert, folder: Path, job: Job[_Work]
) -> list[Pair]:
    """All pairs of one case: every slice, once per rater."""
    case = job.content.case
    image = volume.read(case.image)
    window = dataset.window.bounds if dataset.window else _mr_window(image.array, settings)
    height, width = volume.slices(image.array, dataset.plane).shape[1:]
    spacing = volume.slice_spacing(image.grid, dataset.plane)
    canvas = Canvas.fit((height, width), spacing, settings.image_px)
    labels = {rater: _label(path, image, dataset) for rater, path in case.labels.items()}
    template = Pair(
        id="",
        dataset=name,
        patient=case.patient,
        case=case.id,
        slice_index=0,
        rater="",
        image="",
        mask="",
        source=raw.relative(case.image, name),
        source_label="",
        source_digest=job.content.source_digest,
        source_shape=image.grid.shape,
        affine=tuple(image.grid.affine.ravel().tolist()),
        plane=dataset.plane,
        canvas=canvas.values(),
        window=window,
        class_pixels=(),
        image_digest="",
        mask_digest="",
        licence=dataset.source.licence.name,
        fingerprint=job.fingerprint,
        official_split=case.split or "",
    )
    pairs = []
    for index, native in enumerate(volume.slices(image.array, dataset.plane)):
        picture = np.rint(canvas.image(volume.to_8_bit(native, window))).astype(np.uint8)
        for rater, ids in labels.items():
            mask = canvas.labels(volume.slices(ids, dataset.plane)[index])
            pair_id = "_".join([case.id, *([f"r{rater}"] if rater else []), f"{index:04d}"])
            here = replace(
                template,
                id=pair_id,
                slice_index=index,
                rater=rater,
                source_label=raw.relative(case.labels[rater], name),
            )
            pairs.append(store.put(folder, here, picture, mask, dataset.label_map))
    return pairs


def _label(path: Picture, image: volume.Volume, dataset: Dataset) -> NDArray[np.uint8]:
    label = volume.read(path)
    volume.require_same_grid(image.grid, label.grid, path)
    return volume.class_ids(label, dataset.label_map, path).array


def _mr_window(array: NDArray[Any], settings: params.Convert) -> tuple[float, float]:
    low, high = np.percentile(array, settings.mr_percentiles)
    return float(low), float(high)
