"""The pairs of one case -> their variants; what decides the bytes of augmented pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_spec.contract import LabelMap
from pipeline.pairs import pictures
from pipeline.pairs.manifest import Pair
from pipeline.pairs.put import put
from pipeline.pairs.store import Job
from pipeline.pairs.variants import Variants
from pipeline.params.augment import Augment


@dataclass(frozen=True)
class VariantMaker:
    """Makes every variant of the pairs of a case: from ``source``, in ``folder``."""

    dataset: str
    settings: Augment
    label_map: LabelMap
    source: Path
    folder: Path

    def __call__(self, job: Job[Sequence[Pair]]) -> list[Pair]:
        """The augmented pairs, with their pictures on disk."""
        variants = Variants(self.dataset, self.settings)
        made = []
        for parent in job.content:
            image = pictures.image(self.source, parent)
            mask = pictures.mask(self.source, parent, self.label_map)
            for name in variants.names:
                key = variants.key(parent.id, name)
                bent_image, bent_mask = variants.make(name, key, image, mask)
                warp = {"variant": name, "steps": self.settings.variants[name], "key": key}
                pair = replace(
                    parent,
                    id=id_of(name, parent),
                    parent=parent.id,
                    warp=json.dumps(warp),
                    fingerprint=job.fingerprint,
                    likeness="",
                    truth="",
                    truth_digest="",
                    scan="",
                    scan_digest="",
                    shard="",
                    shard_at=(),
                    case_shard="",
                    case_at=(),
                )
                made.append(put(self.folder, pair, bent_image, bent_mask, self.label_map))
        return made


def id_of(variant: str, parent: Pair) -> str:
    """``<variant>_<parent>``, as the reference projects name their files."""
    return f"{variant}_{parent.id}"
