"""augment: make every variant of every pair; each depends on one pair only, not on the split.

An augmented pair inherits its parent's patient, and ``split`` puts it in train only,
so a new split or fold costs no new warp.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import datasets_spec
from datasets_spec.contract import LabelMap, Problem
from pipeline import paths
from pipeline.pairs import manifest, png, put, store
from pipeline.pairs.manifest import Pair
from pipeline.pairs.store import Job
from pipeline.params import reader as params
from pipeline.params.augment import Augment
from pipeline.runtime import fingerprints
from pipeline.warps.variants import Variants


def augment(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/augmented/<dataset>`` from ``data/converted/<dataset>``.

    If ``augment.mode`` is online, no pair is made: training draws its own variants. Raises
    :class:`Problem`, before any work, for transforms with invalid arguments and for names that
    two pairs would share.
    """
    variants = Variants(dataset, settings.augment)
    label_map = datasets_spec.load(dataset).dataset.label_map
    recipe = fingerprints.fingerprint(
        _recipe(settings.augment), repr(label_map), fingerprints.code(__name__)
    )
    converted = manifest.read(paths.converted(dataset))
    offline = settings.augment.mode != "online"
    parents = [pair for pair in converted if offline and variants.wanted(pair)]
    _require_own_names(variants.names, converted, parents, f"augment {dataset}")
    jobs: list[Job[Sequence[Pair]]] = []
    for pairs in manifest.grouped(parents, "case"):
        digests = [(pair.id, pair.image_digest, pair.mask_digest) for pair in pairs]
        jobs.append(Job(pairs[0].case, fingerprints.fingerprint(recipe, digests), pairs))
    task = partial(_augment_case, dataset, settings.augment, label_map)
    title, parent_of = f"augment {dataset}", {pair.id: pair for pair in parents}

    def present(_: Job[Sequence[Pair]], pair: Pair) -> Pair:
        return manifest.inherited(pair, parent_of[pair.parent])

    store.fill(paths.augmented(dataset), jobs, task, workers, title, {}, present=present)


def _recipe(settings: Augment) -> dict[str, Any]:
    """The parameters that determine the pictures of variants; ``mode`` does not."""
    return {key: value for key, value in asdict(settings).items() if key != "mode"}


def _augment_case(
    dataset: str, settings: Augment, label_map: LabelMap, job: Job[Sequence[Pair]]
) -> list[Pair]:
    variants = Variants(dataset, settings)
    source, folder = paths.converted(dataset), paths.augmented(dataset)
    made = []
    for parent in job.content:
        image = png.read_image(source / parent.image)
        mask = png.read_mask(source / parent.mask, label_map)
        for name in variants.names:
            key = variants.key(parent.id, name)
            bent_image, bent_mask = variants.make(name, key, image, mask)
            warp = {"variant": name, "steps": settings.variants[name], "key": key}
            pair = replace(
                parent,
                id=_id(name, parent),
                parent=parent.id,
                warp=json.dumps(warp),
                fingerprint=job.fingerprint,
                likeness="",
            )
            made.append(put.put(folder, pair, bent_image, bent_mask, label_map))
    return made


def _id(variant: str, parent: Pair) -> str:
    """``<variant>_<parent>``, as in the reference projects."""
    return f"{variant}_{parent.id}"


def _require_own_names(
    variants: Sequence[str], converted: Sequence[Pair], parents: Sequence[Pair], where: str
) -> None:
    """Raises :class:`Problem` if an augmented pair would have the name of another pair."""
    taken = {pair.id: "the original" for pair in converted}
    for name in variants:
        for parent in parents:
            owner = f"variant {name!r} of {parent.id!r}"
            other = taken.setdefault(_id(name, parent), owner)
            if other != owner:
                raise Problem(
                    f"expected pairs with different names, got {_id(name, parent)!r} for {owner}"
                    f" and for {other}",
                    where=where,
                    remedy="Rename the variant in the parameter file.",
                )
