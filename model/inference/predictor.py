"""One model, or several as an ensemble, and a scan -> class ids in the scan's own grid."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap, Problem
from model.inference import bundle, facts, rules, scans
from model.inference.facts import Facts
from model.inference.fusing import Weights
from model.inference.member import Member
from model.inference.rules import Rule
from model.inference.sampling import class_ids
from model.inference.scans import Done, Slab
from model.inference.temperature import NONE, Temperatures
from pipeline.pairs import channels
from pipeline.pairs.channels import Images
from pipeline.structure.label_rules import LabelRule
from pipeline.volumes import volume
from pipeline.volumes.volume import Volume

_LOG = logging.getLogger(__name__)
Look = Callable[[Slab], object]
"""Called with every slab in order, for what is kept of probabilities."""


@dataclass(frozen=True)
class Predictor:
    """Models of the same classes and modality, whose probabilities become one (:mod:`fusing`).

    ``rules``: the post-processing of each class id, and ``label_rules``: those that predictions
    are made to obey: what all members chose on valid, or what valid chose for a bundle.
    ``weights``: see :mod:`model.inference.fusing`; None are equal ones. ``digest``: of the bundle
    that the models come from, "" of models from files of their own. ``temperatures``: what
    calibrates what a bundle's members say together; their own are for members alone.
    """

    members: tuple[Member, ...]
    rules: dict[int, Rule]
    weights: Weights | None = None
    digest: str = ""
    label_rules: tuple[LabelRule, ...] = ()
    temperatures: Temperatures = NONE

    @classmethod
    def of(cls, files: Sequence[Path], mirror_images: str = "auto") -> Predictor:
        """The models in ``files`` (see :meth:`Member.of`), or those of the bundle that it is.

        Raises :class:`Problem` if one cannot be used, or two do not belong together.
        """
        if bundles := [file for file in files if bundle.is_one(file)]:
            if len(files) > 1:
                raise Problem(
                    f"expected models of one network each, got a bundle among {len(files)} files",
                    where=bundles[0],
                    remedy="Give the bundle alone: it is an ensemble itself.",
                )
            return _bundled(bundle.read(bundles[0]), mirror_images)
        members = tuple(Member.of(file, mirror_images) for file in files)
        for other in members[1:]:
            _require_alike(members[0], other)
        facts = [member.facts for member in members]
        return cls(members, _common(facts), label_rules=shared_label_rules(facts))

    @property
    def facts(self) -> Facts:
        """Those of the first member; classes and modality are those of all."""
        return self.members[0].facts

    @property
    def label_map(self) -> LabelMap:
        """The classes that are predicted, background first."""
        return self.facts.label_map

    def slabs(
        self,
        images: Images,
        scratch: Path,
        own_grey: bool = False,
        uncertain: bool = False,
        done: Done = lambda _: None,
    ) -> Iterator[Slab]:
        """Mean probabilities, slab by slab: see :func:`model.inference.scans.slabs`."""
        together = self.weights, self.temperatures
        return scans.slabs(self.members, images, scratch, own_grey, uncertain, done, *together)

    def postprocessed(
        self, ids: NDArray[np.uint8], image: Volume | None = None
    ) -> NDArray[np.uint8]:
        """Class ids (N, rows, columns) by :attr:`label_rules` and :attr:`rules`.

        ``image``: the scan that they are of, in the plane of the first member; None for a picture,
        whose pixels are cubes of 1 mm.
        """
        if not self.rules and not self.label_rules:
            return ids
        if image is None:
            return rules.apply(ids, self.rules, 0.001, planar=True)
        world = None if image.uneven else image.grid.world(self.facts.plane)
        return rules.apply(ids, self.rules, image.voxel_ml, False, self.label_rules, world)

    def __call__(
        self, images: Images, look: Look = lambda _: None, *, own_grey: bool = False
    ) -> NDArray[np.uint8]:
        """A scan -> class ids (X, Y, Z) in RAS+ order; its ``grid.from_ras`` turns them back.

        Models of several sequences take the scans of a case by the names of their channels, all
        on one grid; some may be missing.

        >>> from pipeline.api import read_scan
        >>> predictor = Predictor.of([Path("runs/virtual_mni152/model.keras")])  # doctest: +SKIP
        >>> predictor(read_scan("scan.nii.gz")).shape  # doctest: +SKIP
        (197, 233, 189)
        """
        image, plane = channels.first(images), self.facts.plane
        stack = np.empty(volume.slices(image.array, plane).shape, np.uint8)
        with tempfile.TemporaryDirectory() as scratch:
            for slab in self.slabs(images, Path(scratch), own_grey):
                stack[slab.at] = class_ids(slab.probability)
                look(slab)
                del slab  # before the next is computed
        final = self.postprocessed(stack, image)
        return volume.unslice(final, plane)


def _bundled(stated: bundle.Bundle, mirror_images: str) -> Predictor:
    """The models of a bundle; :class:`Problem` names those that cannot be used in it."""
    members = []
    with bundle.unpacked(stated) as files:
        for file in files:
            with bundle.naming(stated, file):
                one = Member.of(file, mirror_images)
            members.append(replace(one, file=stated.file / file.name, temperatures=NONE))
    for other in members[1:]:
        _require_alike(members[0], other)
    classes = len(members[0].facts.label_map)
    if stated.weights is not None and stated.weights.shape[1] != classes:
        what = f"expected weights of {classes} classes, got {stated.weights.shape[1]}"
        raise bundle.unfit(stated.file, what)
    try:
        chosen = facts.rules_of(stated.chosen, classes) or {}
        obeyed = facts.label_rules_of(stated.chosen, classes)
        temperatures = Temperatures.of(stated.chosen.get("temperature") or {}, classes)
    except facts.NONSENSE as error:
        what = f"expected rules and temperatures in its {bundle.STATED}, got {str(error)[:200]}"
        raise bundle.unfit(stated.file, what) from None
    digest = bundle.digest(stated)
    return Predictor(tuple(members), chosen, stated.weights, digest, obeyed, temperatures)


def _require_alike(first: Member, other: Member) -> None:
    """Raises :class:`Problem` for members of other classes or another modality."""
    ours, theirs = ([(one.id, one.name) for one in each.facts.label_map] for each in (first, other))
    for what, own, strange in (
        ("classes", ours, theirs),
        ("modality", first.facts.modality, other.facts.modality),
        ("sequences", sorted(first.facts.sequences), sorted(other.facts.sequences)),
    ):
        if own != strange:
            raise Problem(
                f"expected the {what} of {first.file}, {own}, got {strange}",
                where=other.file,
                remedy="An ensemble's models predict the same classes of the same kind of scan.",
            )


def shared_label_rules(every: Sequence[Facts]) -> tuple[LabelRule, ...]:
    """The label rules that predictions of all members are made to obey, in the first's order."""
    first, *others = (one.label_rules for one in every)
    return tuple(rule for rule in first if all(rule in other for other in others))


def _common(every: Sequence[Facts]) -> dict[int, Rule]:
    """The rules that all members chose alike; a class on which they differ has none."""
    chosen = [one.rules or {} for one in every]
    common = {
        label: rule
        for label, rule in chosen[0].items()
        if all(other.get(label) == rule for other in chosen)
    }
    names = {one.id: one.name for one in every[0].label_map}
    left = sorted({label for each in chosen for label in each} - set(common))
    if left:
        _LOG.info(
            "  no post-processing of %s: the models chose different ones on valid",
            ", ".join(names[label] for label in left),
        )
    return common
