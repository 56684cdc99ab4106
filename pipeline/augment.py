"""augment: every variant of every pair; a pure function of one pair, whatever the split.

An augmented pair inherits its parent's patient, and ``split`` puts it in train only,
so a new split or fold costs no new warp.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import datasets_spec
from datasets_spec.contract import LabelMap
from pipeline import colors, manifest, params, paths, store, transforms
from pipeline.manifest import Pair
from pipeline.store import Job


def augment(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/augmented/<dataset>`` from ``data/converted/<dataset>``.

    Raises :class:`Problem` for transforms that do not fit, before any work.
    """
    for name, steps in settings.augment.variants.items():
        transforms.chain(steps, f"augment.variants.{name}")
    label_map = datasets_spec.load(dataset).dataset.label_map
    recipe = store.fingerprint(asdict(settings.augment), repr(label_map), store.code(__name__))
    parents = [
        pair
        for pair in manifest.read(paths.converted(dataset))
        if settings.augment.empty_slices or not pair.empty
    ]
    jobs = []
    for pairs in manifest.grouped(parents, "case"):
        digests = [(pair.id, pair.image_digest, pair.mask_digest) for pair in pairs]
        jobs.append(Job(pairs[0].case, store.fingerprint(recipe, digests), pairs))
    task = partial(_augment_case, dataset, settings.augment, label_map)
    store.fill(paths.augmented(dataset), jobs, task, workers, f"augment {dataset}", {})


def _augment_case(
    dataset: str, settings: params.Augment, label_map: LabelMap, job: Job[Sequence[Pair]]
) -> list[Pair]:
    chains = {
        name: transforms.chain(steps, f"augment.variants.{name}")
        for name, steps in settings.variants.items()
    }
    source, folder = paths.converted(dataset), paths.augmented(dataset)
    made = []
    for parent in job.content:
        image = colors.read_image(source / parent.image)
        mask = colors.read_mask(source / parent.mask, label_map)
        for name, steps in settings.variants.items():
            seed_parts = (settings.seed, dataset, parent.id, name)
            bent_image, bent_mask = transforms.apply(chains[name], seed_parts, image, mask)
            pair = replace(
                parent,
                id=f"{name}_{parent.id}",
                parent=parent.id,
                warp=json.dumps({"variant": name, "steps": steps, "key": seed_parts}),
                fingerprint=job.fingerprint,
                likeness="",
            )
            made.append(store.put(folder, pair, bent_image, bent_mask, label_map))
    return made
