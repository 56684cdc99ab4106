"""The section ``split``: patients to train, valid and test."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.params.values import expect, one_of


@dataclass(frozen=True)
class Shares:
    """Shares of patients (or of their slices, see ``Split.share_of``); they add up to 1."""

    train: float
    valid: float
    test: float

    def __post_init__(self) -> None:
        shares = [self.train, self.valid, self.test]
        expect(
            all(share > 0 for share in shares) and abs(sum(shares) - 1) < 1e-6,
            "shares",
            "three positive shares that add up to 1",
            shares,
        )


@dataclass(frozen=True)
class EmptySlices:
    """Share of the slices without foreground that each split keeps."""

    train: float
    valid: float
    test: float

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            expect(0 <= getattr(self, name) <= 1, name, "0 to 1", getattr(self, name))


@dataclass(frozen=True)
class Split:
    """Patients to train, valid and test."""

    seed: int
    """Seeds the placement of patients."""
    shares: Shares
    """Share of the patients (or slices) that the split gets."""
    share_of: str
    """What the shares count: `slices` where patients differ much in size."""
    folds: int
    """0 splits by the shares. 3 or more divide the patients into that many folds, one of which is
    the test split; valid gets its share of the others."""
    fold: int
    """The fold that is the test split, counted from 0. Where the test split is official, the fold
    is the valid split instead."""
    empty_slices: EmptySlices
    """Share of the slices without foreground that the split keeps."""
    mini_test: int
    """The number of test pictures that are also put into `mini_test`, to look at."""
    strata: list[str]
    """Strata of the patients, such as `site` or `age`, that the splits share alike, as near as a
    placement patient by patient comes; the dataset's patients table names them."""

    def __post_init__(self) -> None:
        one_of("share_of", self.share_of, ("patients", "slices"))
        expect(self.folds == 0 or self.folds >= 3, "folds", "0, or 3 and more", self.folds)
        expect(0 <= self.fold < max(1, self.folds), "fold", "0 to below split.folds", self.fold)
        expect(1 <= self.mini_test <= 1000, "mini_test", "1 to 1000", self.mini_test)
        distinct = len(set(self.strata)) == len(self.strata)
        expect(distinct, "strata", "different names", self.strata)
