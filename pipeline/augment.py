"""augment: make every variant of every pair; each depends on one pair only, not on the split.

An augmented pair inherits its parent's patient, and ``split`` puts it in train only,
so a new split or fold costs no new warp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.pairs import augmented, channels, manifest, packing, store
from pipeline.pairs.augmented import VariantMaker
from pipeline.pairs.manifest import Pair
from pipeline.pairs.store import Job
from pipeline.pairs.variants import Variants
from pipeline.params import reader as params
from pipeline.params.augment import Augment
from pipeline.runtime import fingerprints
from pipeline.runtime.executor import Workers


def augment(dataset: str, settings: params.Params, workers: Workers) -> None:
    """Fill ``data/augmented/<dataset>`` from ``data/converted/<dataset>``.

    If ``augment.mode`` is online, no pair is made: training draws its own variants. Raises
    :class:`Problem`, before any work, for transforms with invalid arguments and for names that
    two pairs would share.
    """
    facts = datasets_spec.load(dataset).dataset
    several = channels.of(facts, settings.convert.in_hu)
    variants = Variants(dataset, settings.augment, len(several) or 1)
    label_map = facts.label_map
    recipe = fingerprints.fingerprint(
        _recipe(settings.augment), repr(label_map), fingerprints.code(augmented.__name__)
    )
    converted = manifest.read(paths.converted(dataset))
    offline = settings.augment.mode != "online"
    parents = [pair for pair in converted if offline and variants.wanted(pair)]
    _require_own_names(variants.names, converted, parents, f"augment {dataset}")
    jobs: list[Job[Sequence[Pair]]] = []
    for pairs in manifest.grouped(parents, "case"):
        digests = [(pair.id, *(digest for _, digest in pair.files)) for pair in pairs]
        jobs.append(Job(pairs[0].case, fingerprints.fingerprint(recipe, digests), pairs))
    task = VariantMaker(
        dataset, settings.augment, label_map, paths.converted(dataset), paths.augmented(dataset)
    )
    title, parent_of = f"augment {dataset}", {pair.id: pair for pair in parents}

    def present(_: Job[Sequence[Pair]], pair: Pair) -> Pair:
        return manifest.inherited(pair, parent_of[pair.parent])

    layout = packing.of_augment(dataset, settings.convert, converted)
    store.fill(
        paths.augmented(dataset), jobs, task, workers, title, {}, present=present, layout=layout
    )


def _recipe(settings: Augment) -> dict[str, Any]:
    """The parameters that determine the pictures of variants; ``mode`` does not."""
    return {key: value for key, value in asdict(settings).items() if key != "mode"}


def _require_own_names(
    variants: Sequence[str], converted: Sequence[Pair], parents: Sequence[Pair], where: str
) -> None:
    """Raises :class:`Problem` if an augmented pair would have the name of another pair."""
    taken = {pair.id: "the original" for pair in converted}
    for name in variants:
        for parent in parents:
            own, owner = augmented.id_of(name, parent), f"variant {name!r} of {parent.id!r}"
            other = taken.setdefault(own, owner)
            if other != owner:
                raise Problem(
                    f"expected pairs with different names, got {own!r} for {owner} and for {other}",
                    where=where,
                    remedy="Rename the variant in the parameter file.",
                )
