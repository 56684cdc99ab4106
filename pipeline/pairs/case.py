"""One case -> its pairs: the scan is read once, and every slice becomes a picture and its masks.

The code that this module imports decides the bytes of pairs, and its fingerprint is part of
theirs; what runs it (:mod:`pipeline.convert`, :mod:`pipeline.pairs.store`) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Case, Dataset, paths_of, scan_of
from pipeline.labels import fusion, plausibility
from pipeline.labels.fusion import Truth
from pipeline.pairs import identities, kept, likeness, truth_record
from pipeline.pairs import truth as truth_of_case
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.pairs.put import put
from pipeline.pairs.store import Job
from pipeline.params.convert import Convert
from pipeline.params.limits import Limits
from pipeline.sources import places
from pipeline.volumes import findings, hounsfield, profile, reader, volume, windows
from pipeline.volumes.volume import Volume


@dataclass(frozen=True)
class Work:
    """A case, and the sha256 of all its files, image first."""

    case: Case
    source_digest: str


@dataclass(frozen=True)
class Decision:
    """The label table that holds for all cases ("auto": each case decides), and why."""

    table: str
    evidence: str


@dataclass(frozen=True)
class CaseMaker:
    """Makes all pairs of one case in ``folder``: every slice, once per rater that is kept."""

    dataset: Dataset
    settings: Convert
    decision: Decision
    names: Pseudonyms
    folder: Path
    limits: Limits

    def __call__(self, job: Job[Work]) -> list[Pair]:
        """The pairs of a case, with their pictures on disk.

        Raises :class:`Problem` for a scan or a label that cannot be read or does not fit.
        """
        case = job.content.case
        image = reader.read_image(case.image, self.limits, self.settings.dicom)
        window = windows.window_of(
            image.array,
            reader.has_own_grey(case.image),
            self.dataset.window.bounds if self.dataset.window else None,
            self.settings.mr_percentiles,
        )
        image = hounsfield.confirmed(self.dataset, image, case.image)
        truth = fusion.truth(
            self.dataset,
            image,
            case.labels,
            self.settings.raters,
            self.decision.table,
            self.decision.evidence,
            limits=self.limits,
        )
        identities.write(self.names, case, image.slice_uids(self.dataset.plane))
        name, digest = self._keep_truth(case, image, truth)
        truth = replace(truth, drawn={})  # else raters who were fused would stay in memory
        canvas = self._canvas(image)
        template = self._template(job, image, truth, canvas, window)
        template = replace(template, truth=name, truth_digest=digest)
        pairs, shades = self._slices(case, image, truth.ids, canvas, template)
        by_name = {self.names.of("rater", rater): ids for rater, ids in truth.ids.items()}
        return kept.judged(pairs, image.array, shades, by_name, self.dataset.label_map)

    def _keep_truth(self, case: Case, image: Volume, truth: Truth) -> tuple[str, str]:
        """Write the labels on the source's grid; returns the record's name and its sha256."""
        names, source = self.names, None
        scan = scan_of(case.image)
        if scan is None:
            kind, stems = truth_record.PICTURES, [file.stem for file in paths_of(case.image)]
            indices = [f"{index:04d}" for index in range(len(stems))]
            parts = stems if names.anonymous else indices
        elif scan.is_dir():
            kind, parts = truth_record.DICOM, [names.uid(uid) for uid in image.uids]
        else:
            kind, parts, source = truth_record.NIFTI, [], scan
        labels, drawn = (
            {names.of("rater", rater): one for rater, one in ids.items()}
            for ids in (truth.ids, truth.drawn)
        )
        return truth_of_case.write(
            self.folder,
            names.of("case", case.id),
            image,
            source,
            labels,
            drawn,
            kind,
            tuple(parts),
        )

    def _canvas(self, image: Volume) -> Canvas:
        stack = volume.slices(image.array, self.dataset.plane)
        spacing = volume.slice_spacing(image.grid, self.dataset.plane)
        return Canvas.fit((stack.shape[1], stack.shape[2]), spacing, self.settings.image_px)

    def _template(
        self,
        job: Job[Work],
        image: Volume,
        truth: Truth,
        canvas: Canvas,
        window: tuple[float, float],
    ) -> Pair:
        """What all pairs of the case have in common."""
        case, dataset = job.content.case, self.dataset
        return Pair(
            id="",
            dataset=self.names.dataset,
            patient=self.names.of("patient", case.patient),
            case=self.names.of("case", case.id),
            slice_index=0,
            rater="",
            image="",
            mask="",
            source="",
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
            raters=truth.raters,
            agreement=truth.agreement,
            label_table=truth.table,
            label_evidence=truth.evidence,
            snapped_pixels=truth.snapped,
            findings=findings.to_json([*image.findings, *truth.findings]),
            profile=profile.of(image, window, pictures=reader.has_own_grey(case.image)).to_json(),
        )

    def _slices(
        self,
        case: Case,
        image: Volume,
        truth: Mapping[str, NDArray[np.uint8]],
        canvas: Canvas,
        template: Pair,
    ) -> tuple[list[Pair], set[int]]:
        """The pairs of every slice, and the darkest and brightest values of their pictures."""
        dataset, names = self.dataset, self.names
        windowed = reader.has_own_grey(case.image)
        suspicion = {
            rater: findings.to_json(plausibility.of_case(dataset, image, ids, windowed))
            for rater, ids in truth.items()
        }
        uids = image.slice_uids(dataset.plane)
        pairs = []
        shades: set[int] = set()
        for index, native in enumerate(volume.slices(image.array, dataset.plane)):
            grey = canvas.image(volume.to_8_bit(native, template.window))
            picture = np.rint(grey).astype(np.uint8)
            shades |= {int(picture.min()), int(picture.max())}
            of_slice = replace(
                template,
                slice_index=index,
                source=names.of("source", places.relative(case.image, names.dataset, index)),
                sop_instance_uid=names.uid(uids[index]),
                likeness=likeness.perceptual_hash(picture),
            )
            for raw_rater, ids in truth.items():
                rater = names.of("rater", raw_rater)
                mask = canvas.labels(volume.slices(ids, dataset.plane)[index])
                parts = [template.case, *([f"r{rater}"] if rater else []), f"{index:04d}"]
                pair = replace(
                    of_slice, id="_".join(parts), rater=rater, suspicion=suspicion[raw_rater]
                )
                pairs.append(put(self.folder, pair, picture, mask, dataset.label_map))
        return pairs, shades
