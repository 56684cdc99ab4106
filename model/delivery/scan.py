"""One scan -> its files: label map, DICOM SEG, maps, pictures, and what the page shows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.delivery import film, instances, measures, niftis, overlays, seg
from model.delivery.niftis import MapWriter
from model.delivery.wish import Wish
from model.inference.expected import Expected
from model.inference.member import viewed
from model.inference.predictor import Predictor
from model.inference.sampling import class_ids
from model.inference.scans import Slab
from pipeline.pages import viewer
from pipeline.pairs import channels
from pipeline.pairs.channels import Images, Views
from pipeline.volumes import volume
from pipeline.volumes.dicom.series import Series
from pipeline.volumes.volume import Volume


@dataclass(frozen=True)
class Source:
    """Where a scan comes from: its output's name, its file (NIfTI, MGZ) or folder and series.

    ``instance_names``: what the masks of its instances are called, by SOPInstanceUID.
    """

    name: str
    path: Path
    series: Series | None
    instance_names: Callable[[str], str]

    @property
    def file(self) -> Path | None:
        """The file whose header is kept; None for DICOM."""
        return self.path if self.series is None else None


@dataclass(frozen=True)
class Delivery:
    """Writes the files of one scan below ``folder``.

    Of a DICOM series without one spacing there are the masks of its instances, and no NIfTI.
    """

    folder: Path
    source: Source
    images: Images
    predictor: Predictor
    wish: Wish
    about: seg.About

    @property
    def image(self) -> Volume:
        """The scan, of several channels the first: all that is written has its geometry."""
        return channels.first(self.images)

    def __call__(
        self, warnings: Sequence[str], done: Callable[[int], object]
    ) -> tuple[list[Path], dict[str, Any]]:
        """Predict and write; returns the files, and what the record of the scan holds.

        ``warnings``: what is odd about the scan, for the page. ``done``: see
        :func:`model.inference.scans.slabs`.
        """
        plane, grid, uneven = self.predictor.facts.plane, self.image.grid, self.image.uneven
        notes = self._unwritten()
        expected = Expected.none(len(self.predictor.label_map))
        stack, made = self._predicted(expected, done)
        ids = volume.unslice(stack, plane)
        if not uneven:
            made.append(self._path(".nii.gz"))
            niftis.write_ids(made[-1], ids, grid, self.source.file)
        if self.source.series is not None:
            made += self._dicom(ids, self.source.series, notes)
        rows = measures.measured(
            self.source.name, stack, self.predictor.label_map, grid, plane, uneven
        )
        measures.with_expected(rows, self.predictor.label_map, expected.dice)
        shown = self._pictures(stack, rows, [*warnings, *notes], made)
        return made, {"measures": rows, "notes": notes, "view": shown}

    def _unwritten(self) -> list[str]:
        """What is not written of slices without one spacing: a NIfTI would displace them.

        Raises :class:`Problem` where no instance could have a mask either.
        """
        if not self.image.uneven:
            return []
        if not self.image.uids:
            raise Problem(
                "expected distinct SOPInstanceUIDs, under which slices of uneven spacing get their"
                " masks, got missing or repeated ones",
                where=self.source.path,
                remedy="Export the series again, or resample it to one spacing.",
            )
        maps = self.wish.probabilities or self.wish.uncertainty
        return [
            f"no NIfTI of the mask{' and no maps' * maps}: a NIfTI has one spacing, these slices"
            " have several; the masks of the single instances are there"
        ]

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self.source.name}{ending}"

    def _predicted(
        self, expected: Expected, done: Callable[[int], object]
    ) -> tuple[NDArray[np.uint8], list[Path]]:
        """Class ids (N, rows, columns) after post-processing, and the maps that were written.

        ``expected`` is filled with what precedes post-processing.
        """
        plane = self.predictor.facts.plane
        stack = np.empty(volume.slices(self.image.array, plane).shape, np.uint8)
        uncertain = self.wish.uncertainty and not self.image.uneven
        with ExitStack() as open_files:
            maps = {
                name: open_files.enter_context(
                    MapWriter(file, self.image.grid, self.source.file, volume.slice_axis(plane))
                )
                for name, file in self._maps().items()
            }
            for slab in self.predictor.slabs(
                self.images, self.folder, uncertain=uncertain, done=done
            ):
                stack[slab.at] = class_ids(slab.probability)
                expected.add(slab.probability, stack[slab.at])
                self._put(slab, maps)
                del slab  # before the next is computed
        final = self.predictor.postprocessed(stack, self.image)
        return final, list(self._maps().values())

    def _put(self, slab: Slab, maps: Mapping[str, MapWriter]) -> None:
        values = self._values(slab)
        for name, one in maps.items():
            one.put(slab.at.start, volume.unslice(values[name], self.predictor.facts.plane))

    def _maps(self) -> dict[str, Path]:
        """The maps that are wanted, by the names of :meth:`_values`."""
        if self.image.uneven:
            return {}
        names = []
        if self.wish.probabilities:
            names += [f"probability_{label.name}" for label in self.predictor.label_map.foreground]
        if self.wish.uncertainty:
            several = len(self.predictor.members) > 1
            names += ["entropy", *(["disagreement"] if several else [])]
        return {name: self._path(f"_{name}.nii.gz") for name in names}

    def _values(self, slab: Slab) -> dict[str, NDArray[np.float32]]:
        """What the wanted maps hold of a slab, each (n, rows, columns)."""
        values = {}
        if self.wish.probabilities:
            for label in self.predictor.label_map.foreground:
                values[f"probability_{label.name}"] = slab.probability[label.id]
        if slab.entropy is not None:
            values["entropy"] = slab.entropy
        if slab.disagreement is not None:
            values["disagreement"] = slab.disagreement
        return values

    def _dicom(self, ids: NDArray[np.uint8], series: Series, notes: list[str]) -> list[Path]:
        """The masks of a DICOM series: a picture per instance, and a SEG."""
        name = self.source.name
        names = [self.source.instance_names(uid) for uid in self.image.uids]
        instances.write(self.folder / name, ids, self.image.grid, names, self.predictor.label_map)
        made = [self.folder / name / f"{one}.png" for one in names]
        if not names:
            notes.append("no masks per instance: SOPInstanceUIDs are missing or not distinct")
        if self.wish.seg == "none" or self.wish.anonymous:
            return made
        by_slice = self.image.grid.from_ras(ids).transpose(2, 1, 0)
        kind: seg.Kind = "labelmap" if self.wish.seg == "labelmap" else "binary"
        try:
            seg.write(
                self._path(".seg.dcm"),
                series.slices,
                by_slice,
                self.predictor.label_map,
                self.about,
                kind,
            )
        except Problem as problem:
            if self.wish.seg != "auto":
                raise
            notes.append(f"no DICOM SEG: {problem}")
            return made
        return [*made, self._path(".seg.dcm")]

    def _pictures(
        self,
        stack: NDArray[np.uint8],
        rows: Sequence[Mapping[str, Any]],
        warnings: Sequence[str],
        made: list[Path],
    ) -> dict[str, Any] | None:
        """What people look at; adds the files to ``made`` and returns what the page needs."""
        facts = self.predictor.facts
        seen = viewed(self.images, facts)
        pixel_mm = volume.slice_spacing(self.image.grid, facts.plane)
        name, label_map = self.source.name, self.predictor.label_map
        if self.wish.overlays:
            target = self.folder / "overlays" / name
            overlays.write(target, _shown(seen, stack), pixel_mm, label_map)
            made += sorted(target.iterdir())
        if self.wish.film:
            made.append(self.folder / "films" / f"{name}.webp")
            film.write(made[-1], _shown(seen, stack), len(stack), pixel_mm, label_map)
        if not self.wish.view:
            return None
        stated: viewer.Facts = {
            "source": "" if self.wish.anonymous else str(self.source.path),
            "modality": self.image.modality or facts.modality,
            "plane": facts.plane,
            "step_mm": float(np.linalg.norm(self.image.grid.steps(facts.plane)[:, 0])),
            "window": seen.window,
            "unit": "HU" if facts.window else "",
            "world": self.image.grid.world(facts.plane).tolist(),
            "warnings": list(warnings),
            "measures": list(rows),
            "files": {
                file.name: file.relative_to(self.folder).as_posix()
                for file in made
                if file.parent == self.folder
            },
        }
        if self.image.uneven:
            del stated["step_mm"], stated["world"]
        record: dict[str, Any] = viewer.write_scan(
            self.folder, name, _shown(seen, stack), pixel_mm, label_map, stated
        )
        made += sorted((self.folder / viewer.VIEW / name).iterdir())
        return record


def _shown(
    seen: Views, stack: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Grey and class ids of each slice, (rows, columns) uint8."""
    for native, ids in zip(seen.stack, stack, strict=True):
        grey = volume.to_8_bit(native, seen.window)
        yield np.rint(grey).astype(np.uint8), ids
