"""Move patients between splits so that each split shows the classes that it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from pipeline.splits.patients import Patient

_NEEDED = {"train": 1, "test": 2, "valid": 3}
"""A split gets a patient that shows a class if at least this many patients show it."""


class Coverage:
    """A placement (patient -> split), which :meth:`improve` changes in place.

    Only patients of the ``movable`` splits that are not ``fixed`` are moved; among equally good
    ones the lowest ``rank`` decides.
    """

    def __init__(
        self,
        place: dict[str, str],
        known: Mapping[str, Patient],
        movable: Sequence[str],
        fixed: Collection[str],
        rank: Callable[[str], int],
    ) -> None:
        self._place, self._known, self._rank = place, known, rank
        self._movable, self._fixed = movable, fixed
        self._members = Counter(place.values())
        self._holders = Counter(
            (place[one.name], class_id) for one in known.values() for class_id in one.classes
        )

    def improve(self) -> None:
        """Let train show every class, and test and valid the frequent ones.

        Each move is compensated by a patient of similar weight, so that the shares hold; only
        train may keep one more, if each of its patients is the only one to show some class.
        """
        shown = Counter(class_id for one in self._known.values() for class_id in one.classes)
        for split, needed in _NEEDED.items():
            for class_id, count in sorted(shown.items(), key=lambda entry: (entry[1], entry[0])):
                if (
                    split in self._movable
                    and count >= needed
                    and not self._holders[split, class_id]
                ):
                    self._bring(class_id, split)

    def _bring(self, class_id: int, split: str) -> None:
        """Move a patient that shows ``class_id`` to ``split``, if there is one to spare."""
        givers = [
            name
            for other in self._movable
            if other != split
            for name in self._free(other)
            if class_id in self._known[name].classes and (split == "train" or not self._alone(name))
        ]
        if not givers:
            return
        moved = min(givers, key=lambda name: (self._alone(name), self._rank(name)))
        source = self._place[moved]
        self._move(moved, split)
        back = self._to_return(moved, source)
        if back:
            lack = self._known[moved].pairs
            nearest = min(
                back, key=lambda name: (abs(self._known[name].pairs - lack), self._rank(name))
            )
            self._move(nearest, source)
        elif split != "train" or not self._members[source]:
            self._move(moved, source)  # shares matter more than a class in valid or test

    def _to_return(self, moved: str, source: str) -> list[str]:
        """Patients that could take the place of ``moved`` in its former split, ``source``."""
        split = self._place[moved]
        back = [name for name in self._free(split) if name != moved and not self._alone(name)]
        if not back and not self._members[source]:
            back = [
                name
                for other in self._movable
                if other != split and self._members[other] > 1
                for name in self._free(other)
            ]
        return back

    def _move(self, name: str, split: str) -> None:
        for where, step in ((self._place[name], -1), (split, 1)):
            self._members[where] += step
            self._holders.update({(where, class_id): step for class_id in self._classes(name)})
        self._place[name] = split

    def _free(self, split: str) -> list[str]:
        return [
            name
            for name, where in self._place.items()
            if where == split and name not in self._fixed
        ]

    def _alone(self, name: str) -> int:
        """The number of classes that no other patient of the same split shows."""
        split = self._place[name]
        return sum(self._holders[split, class_id] == 1 for class_id in self._classes(name))

    def _classes(self, name: str) -> Collection[int]:
        return self._known[name].classes
