"""What is drawn over a scan has colours that are seen on it."""

from __future__ import annotations

import datasets_spec
from datasets_spec.contract import Label, LabelMap
from pipeline.labels import colours
from tests.support.every import every

FOREGROUND = ((213, 94, 0), (128, 128, 128), (255, 255, 255), (86, 180, 233))


def _map(*of: tuple[int, int, int]) -> LabelMap:
    labels = [Label(0, "background", (0, 0, 0), "all else")]
    labels += [Label(at, f"class_{at}", one, "one") for at, one in enumerate(of, start=1)]
    return LabelMap(tuple(labels))


def test_grey_classes_get_colours_of_their_own_and_others_keep_theirs() -> None:
    seen = [one.colour for one in colours.visible(_map(*FOREGROUND)).foreground]
    assert (seen[0], seen[3]) == (FOREGROUND[0], FOREGROUND[3])
    assert len(set(seen)) == 4
    assert all(max(one) - min(one) > 100 for one in seen)


def test_more_grey_classes_than_colours_keep_theirs() -> None:
    many = _map(*((level, level, level) for level in range(100, 120)))
    seen = [one.colour for one in colours.visible(many)]
    assert len(set(seen)) == len(many)


@every("name", datasets_spec.names())
def test_every_dataset_is_drawn_in_colours_that_are_seen(name: str) -> None:
    label_map = datasets_spec.load(name).dataset.label_map
    for one in colours.visible(label_map).foreground:
        assert max(one.colour) - min(one.colour) >= 40, one.name
