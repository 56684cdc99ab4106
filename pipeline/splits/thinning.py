"""Which slices without foreground a split keeps."""

from __future__ import annotations

from pipeline.pairs.manifest import Pair
from pipeline.params.split import Split
from pipeline.runtime import keys


def kept(dataset: str, pair: Pair, split: str, settings: Split) -> bool:
    """Whether the split keeps the pair: all with foreground, and a share of those without.

    It is drawn from the pair's id, so what else there is does not matter.
    """
    if not pair.empty:
        return True
    share: float = getattr(settings.empty_slices, split)
    return keys.key(settings.seed, dataset, pair.id, "empty") < share * 2**63
