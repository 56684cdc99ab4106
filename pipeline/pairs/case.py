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

from datasets_spec.contract import Case, Dataset, Problem, paths_of, scan_of
from pipeline.labels import fusion, plausibility
from pipeline.labels.fusion import Truth
from pipeline.pairs import (
    channels,
    identities,
    kept,
    kept_scan,
    likeness,
    manifest,
    png,
    truth_record,
)
from pipeline.pairs import truth as truth_of_case
from pipeline.pairs.channels import Views
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.pairs.put import put
from pipeline.pairs.store import Job
from pipeline.params.convert import Convert
from pipeline.params.limits import Limits
from pipeline.sources import places as source_places
from pipeline.sources.brought import brought
from pipeline.volumes import findings, hounsfield, profile, reader, volume
from pipeline.volumes.volume import Volume


@dataclass(frozen=True)
class Work:
    """A case, and the sha256 of all its files, image first; "" of files behind a URL."""

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
        with brought(job.content.case) as here:
            digest = job.content.source_digest or here.source_digest()
            content = replace(job.content, source_digest=digest)
            return self._pairs(replace(job, content=content), here.case)

    def _pairs(self, job: Job[Work], here: Case) -> list[Pair]:
        """The pairs of a case, which is ``here`` with files that can be opened."""
        case = job.content.case
        scans = self._scans(here)
        image = channels.first(scans)
        volume.require_own_plane(image, self.dataset.plane, here.first)
        dataset = self._of_first(case)
        views = self._views(here, scans)
        truth = fusion.truth(
            dataset,
            image,
            here.labels,
            self.settings.raters,
            self.decision.table,
            self.decision.evidence,
            limits=self.limits,
            annotated=case.annotated_slices,
            tolerances=self.settings.dicom,
        )
        unlabelled = _unlabelled(self.dataset, case, truth)
        identities.write(self.names, case, image.slice_uids(self.dataset.plane))
        name, digest = self._keep_truth(here, image, truth)
        truth = replace(truth, drawn={})  # else raters who were fused would stay in memory
        scan, scan_digest = self._keep_scan(here, image, views)
        template = replace(
            self._template(job, scans, truth, views),
            truth=name,
            truth_digest=digest,
            unlabelled=unlabelled,
            scan=scan,
            scan_digest=scan_digest,
        )
        pairs, shades = self._slices(case, image, truth.ids, views, template)
        by_name = {self.names.of("rater", rater): ids for rater, ids in truth.ids.items()}
        for view, its_own in zip(views.every, shades, strict=True):
            if view is not None:
                kept.require_shades(view.stack, its_own)
        return kept.judged(pairs, by_name, self.dataset.label_map)

    def _scans(self, case: Case) -> Mapping[str, Volume]:
        """Every scan of the case by its channel, read and judged.

        Raises :class:`Problem` for one that cannot be read or is not of the dataset's modality, and
        unless all lie on one grid.
        """
        scans: dict[str, Volume] = {}
        for name, picture in case.pictures.items():
            scan = reader.read_image(picture, self.limits, self.settings.dicom)
            scans[name] = hounsfield.confirmed(self.dataset, scan, picture)
        where = {name: source_places.parts(picture)[0] for name, picture in case.pictures.items()}
        channels.require_one_grid(scans, where)
        return scans

    def _of_first(self, case: Case) -> Dataset:
        """The dataset as it describes the first picture: its contrast is that of a channel."""
        named = self.dataset.channels
        if not named or named[0] in case.pictures:
            return self.dataset
        return replace(self.dataset, contrast="")

    def _views(self, case: Case, scans: Mapping[str, Volume]) -> Views:
        """What the pictures show. Raises :class:`Problem` for windows of what has no HU."""
        own_grey = reader.has_own_grey(case.first)
        wanted = channels.of(self.dataset, self.settings.in_hu)
        if own_grey and self.settings.windows:
            raise Problem(
                "expected a CT in HU, which convert.windows needs, got pictures that their"
                " publisher windowed",
                where=source_places.parts(case.first)[0],
                remedy="Leave convert.windows out for this dataset.",
            )
        return Views.of(
            scans,
            wanted,
            self.dataset.plane,
            self.dataset.window.bounds if self.dataset.window else None,
            self.settings.mr_percentiles,
            self.settings.image_px,
            own_grey,
        )

    def _keep_truth(self, case: Case, image: Volume, truth: Truth) -> tuple[str, str]:
        """Write the labels on the source's grid; returns the record's name and its sha256."""
        names, source, scan = self.names, None, scan_of(case.first)
        if scan is None:
            kind, stems = truth_record.PICTURES, [file.stem for file in paths_of(case.first)]
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

    def _keep_scan(self, case: Case, image: Volume, views: Views) -> tuple[str, str]:
        """Write what the pictures show on the source's grid; the record's name and its sha256."""
        scan = scan_of(case.first)
        source = None if scan is None or scan.is_dir() else scan
        name = self.names.of("case", case.id)
        return kept_scan.write(self.folder, name, image, source, views, self.dataset.plane)

    def _template(
        self,
        job: Job[Work],
        scans: Mapping[str, Volume],
        truth: Truth,
        views: Views,
    ) -> Pair:
        """What all pairs of the case have in common."""
        case, dataset, image = job.content.case, self.dataset, channels.first(scans)
        noted = [one for scan in scans.values() for one in scan.findings]
        noted = [one for at, one in enumerate(noted) if one not in noted[:at]]
        pictures = reader.has_own_grey(case.first)
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
            canvas=views.canvas.values(),
            window=views.window,
            class_pixels=(),
            image_digest="",
            mask_digest="",
            licence=dataset.source.licence.name,
            fingerprint=job.fingerprint,
            official_split=case.split or "",
            strata=manifest.strata_text(case.strata),
            raters=truth.raters,
            agreement=truth.agreement,
            label_table=truth.table,
            label_evidence=truth.evidence,
            snapped_pixels=truth.snapped,
            findings=findings.to_json([*noted, *truth.findings]),
            profile=profile.of(image, views.window, pictures=pictures).to_json(),
            channels=",".join(one.name for one in views.channels),
            absent=",".join(views.absent),
            windows=views.bounds,
        )

    def _slices(
        self,
        case: Case,
        image: Volume,
        truth: Mapping[str, NDArray[np.uint8]],
        views: Views,
        template: Pair,
    ) -> tuple[list[Pair], list[set[int]]]:
        """The pairs of every slice, and of each channel the darkest and brightest values."""
        dataset, names = self._of_first(case), self.names
        windowed = reader.has_own_grey(case.first)
        suspicion = {
            rater: findings.to_json(plausibility.of_case(dataset, image, ids, windowed))
            for rater, ids in truth.items()
        }
        uids = image.slice_uids(dataset.plane)
        places = image.places
        pairs = []
        shades: list[set[int]] = [set() for _ in views.every]
        for index in range(len(views)):
            picture = views.picture(index)
            for its_own, channel in zip(
                shades, np.atleast_3d(picture).transpose(2, 0, 1), strict=True
            ):
                its_own |= {int(channel.min()), int(channel.max())}
            of_slice = replace(
                template,
                slice_index=index,
                source=names.of("source", source_places.relative(case.first, names.dataset, index)),
                sop_instance_uid=names.uid(uids[index]),
                likeness=likeness.perceptual_hash(png.one_channel(picture)),
            )
            if places:
                at, thickness = places[index]
                of_slice = replace(of_slice, place=at, thickness_mm=thickness)
            for raw_rater, ids in truth.items():
                rater = names.of("rater", raw_rater)
                mask = views.canvas.mask(volume.slices(ids, dataset.plane)[index])
                parts = [template.case, *([f"r{rater}"] if rater else []), f"{index:04d}"]
                pair = replace(
                    of_slice, id="_".join(parts), rater=rater, suspicion=suspicion[raw_rater]
                )
                pairs.append(put(self.folder, pair, picture, mask, dataset.label_map))
        return pairs, shades


def _unlabelled(dataset: Dataset, case: Case, truth: Truth) -> tuple[int, ...]:
    """The ids of the classes that nobody annotated in the case.

    Raises :class:`Problem` for one that is drawn.
    """
    ids = {label.name: label.id for label in dataset.label_map.foreground}
    for name in case.unlabelled:
        drawn = sum(int(np.count_nonzero(one == ids[name])) for one in truth.drawn.values())
        if drawn:
            raise Problem(
                f"expected no voxel of {name}, which nobody annotated, got {drawn}",
                where=f"Case.unlabelled of {case.id}",
                remedy="Correct the dataset's adapter: whatever is drawn was annotated.",
            )
    return tuple(sorted({ids[name] for name in case.unlabelled}))
