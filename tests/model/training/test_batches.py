"""Pairs reach the model whole, in an order of seed and epoch alone, a batch at a time."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from model.flexunet import flexunet
from model.network_input import labels_at, model_input, picture_at
from model.params import Network
from model.training.batches import (
    _RESERVE,
    Batches,
    Fresh,
    _Cache,
)
from model.training.devices import Share
from model.training.fit import fit_epoch
from pipeline.pairs import pictures as files_of_pairs
from pipeline.pairs import png
from pipeline.pairs.manifest import Pair
from pipeline.pairs.variants import Variants
from pipeline.params.augment import Augment
from tests.conftest import Refused
from tests.support import cohort

pytestmark = pytest.mark.slow

PX = 16
ALONE = Share()
Make = Callable[..., Batches]


def _network(px: int = PX, channels: int = 1) -> Network:
    return Network(px, channels, 2, 3, 2, 1, 0.0, "relu", "none")


@pytest.fixture
def make(workplace: Path, label_map: LabelMap) -> Make:
    """Batches of ``count`` pairs on disk; every pixel of the n-th image has the value n."""

    def batches(
        count: int,
        batch: int,
        seed: int | None = None,
        steps: int = 0,
        px: int = PX,
        kind: type[Batches] = Batches,
    ) -> Batches:
        pairs = [cohort.pair(f"sub-01_{number:04d}") for number in range(count)]
        for number, pair in enumerate(pairs):
            png.write_image(workplace / pair.image, np.full((px, px), number, np.uint8))
            ids = np.full((px, px), number % len(label_map), np.uint8)
            png.write_mask(workplace / pair.mask, ids, label_map)
        return kind(workplace, pairs, label_map, _network(px), batch, seed, steps)

    return batches


def _all(batches: Batches) -> list[Pair]:
    return list(batches._pairs)


def _like(
    batches: Batches,
    pairs: list[Pair],
    share: float,
    part: Share = ALONE,
    seed: int | None = 7,
) -> Batches:
    """The same folder in batches of four, seen otherwise."""
    return Batches(
        batches._folder, pairs, batches._label_map, _network(), 4, seed, 0, None, share, part
    )


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Path]]:
    """Lets the disk have so many bytes free; returns the folders it was asked about since."""

    def have(count: int) -> list[Path]:
        asked: list[Path] = []

        def usage(folder: Path) -> SimpleNamespace:
            asked.append(folder)
            return SimpleNamespace(free=count)

        monkeypatch.setattr("shutil.disk_usage", usage)
        return asked

    return have


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were read from disk, in the order of reading."""
    files: list[Path] = []
    read = files_of_pairs.image

    def noted(folder: Path, pair: Pair) -> NDArray[np.uint8]:
        files.append(folder / pair.image)
        return read(folder, pair)

    monkeypatch.setattr(files_of_pairs, "image", noted)
    return files


def _shrinking(batches: Batches, scratch: Path | None) -> Batches:
    """The same folder for a network that sees half the size."""
    network = _network(PX // 2)
    return Batches(
        batches._folder, _all(batches), batches._label_map, network, 4, 7, scratch=scratch
    )


def _order(batches: Batches) -> list[int]:
    """The numbers of the pairs, in the order in which one epoch shows them."""
    return [n for index in range(len(batches)) for n in batches[index][0][:, 0, 0, 0].tolist()]


def _rows(batches: Batches) -> NDArray[np.intp]:
    return batches._order.reshape(-1, batches._batch)


def _epochs(batches: Batches, count: int) -> list[list[int]]:
    orders = []
    for epoch in range(count):
        batches.show(epoch)
        orders.append(_order(batches))
    return orders


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("px", [8, 16, 48])
def test_batch_has_the_networks_shape(
    px: int, channels: int, make: Make, workplace: Path, label_map: LabelMap
) -> None:
    make(3, 2)
    pairs = [cohort.pair(f"sub-01_{number:04d}") for number in range(3)]
    pictures, ids = Batches(workplace, pairs, label_map, _network(px, channels), 2)[0]
    assert (pictures.shape, pictures.dtype) == ((2, px, px, channels), np.uint8)
    assert (ids.shape, ids.dtype) == ((2, px, px), np.uint8)


def test_image_and_mask_of_a_pair_stay_together(make: Make) -> None:
    for pictures, ids in (batches := make(11, 4, seed=1))[0], batches[2]:
        np.testing.assert_array_equal(pictures[:, 0, 0, 0] % 3, ids[:, 0, 0])


def test_without_seed_every_pair_comes_once_in_order(make: Make) -> None:
    assert _epochs(make(5, 2), 2) == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("batch", [1, 3, 4, 12])
def test_every_pair_is_seen_once_per_epoch(batch: int, make: Make) -> None:
    assert [sorted(order) for order in _epochs(make(12, batch, seed=7), 3)] == [list(range(12))] * 3


def test_same_seed_draws_the_same_orders(make: Make) -> None:
    assert _epochs(make(12, 4, seed=7), 3) == _epochs(make(12, 4, seed=7), 3)


def test_orders_do_not_come_from_global_state(make: Make) -> None:
    keras.utils.set_random_seed(1)
    one = _epochs(make(12, 4, seed=7), 2)
    keras.utils.set_random_seed(2)
    assert _epochs(make(12, 4, seed=7), 2) == one


def test_another_seed_draws_another_order(make: Make) -> None:
    assert _order(make(12, 4, seed=7)) != _order(make(12, 4, seed=8))


def test_another_epoch_draws_another_order(make: Make) -> None:
    orders = _epochs(make(12, 4, seed=7), 4)
    assert len({tuple(order) for order in orders}) == 4


def test_looking_does_not_change_the_order(make: Make) -> None:
    batches = make(12, 4, seed=7)
    assert _order(batches) == _order(batches)


@pytest.mark.parametrize(("count", "batch"), [(5, 4), (3, 8), (9, 2)])
def test_last_batch_is_filled_from_the_front(count: int, batch: int, make: Make) -> None:
    batches = make(count, batch, seed=3)
    order = _order(batches)
    assert len(order) == len(batches) * batch
    assert sorted(order[:count]) == list(range(count))
    assert order[count:] == (order[:count] * batch)[: len(order) - count]


@pytest.mark.parametrize(("steps", "wanted"), [(0, 5), (1, 1), (3, 3), (5, 5), (9, 9)])
def test_an_epoch_has_the_steps_that_are_wanted(steps: int, wanted: int, make: Make) -> None:
    batches = make(10, 2, seed=3, steps=steps)
    assert len(batches) == wanted
    assert len(_order(batches)) == 2 * wanted


@pytest.mark.parametrize(("count", "batch", "steps"), [(5, 2, 8), (3, 4, 3), (10, 2, 20)])
def test_more_steps_show_every_pair_as_often(
    count: int, batch: int, steps: int, make: Make
) -> None:
    """As often as any other, to within one, and in another order each time."""
    order = _order(make(count, batch, seed=3, steps=steps))
    assert len(order) == steps * batch
    often = [order.count(number) for number in range(count)]
    assert max(often) - min(often) <= 1
    once, twice = order[:count], order[count : 2 * count]
    assert sorted(once) == sorted(twice) == list(range(count))


def test_the_first_showing_is_that_of_an_epoch_without_more_steps(make: Make) -> None:
    plain, more = make(10, 2, seed=3), make(10, 2, seed=3, steps=15)
    assert _order(more)[:10] == _order(plain)


def test_what_is_shown_again_is_another_variant(make: Make, label_map: LabelMap) -> None:
    drawn: list[tuple[str, int]] = []

    def online(
        pair: Pair, epoch: int, image: NDArray[np.uint8], ids: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        drawn.append((pair.id, epoch))
        return image, ids

    made = make(6, 2)
    batches = Batches(
        made._folder, _all(made), label_map, _network(), 2, seed=3, steps=9, online=online
    )
    for epoch in range(3):
        batches.show(epoch)
        for index in range(len(batches)):
            batches[index]
    assert len(drawn) == len(set(drawn)) == 3 * 9 * 2
    assert {number for _, number in drawn} == set(range(9))


def test_capped_epochs_come_round_to_every_pair(make: Make) -> None:
    orders = _epochs(make(8, 2, seed=3, steps=2), 12)
    assert {n for order in orders for n in order} == set(range(8))


def test_fit_shows_every_pair_once_per_epoch_in_the_epochs_order(make: Make) -> None:
    """Keras reads ahead in threads, and would shuffle the batches once more."""
    shown: list[int] = []

    class Watched(Batches):
        def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            pictures, ids = super().__getitem__(index)
            return pictures, np.full_like(ids, 0) + pictures[0, 0, 0, 0]

    class Spy(keras.metrics.Metric):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="spy")
            self.seen = self.add_weight(shape=(), initializer="zeros", name="seen")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.seen.assign(keras.ops.cast(keras.ops.max(y_true), "float32"))

        def result(self) -> Any:
            return self.seen * 1

    class Note(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            shown.append(round(float(logs["spy"])))

    model = flexunet(_network(), 12)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[Spy()], jit_compile=False)
    batches = make(12, 2, seed=7, kind=Watched)
    for epoch in range(3):
        shown.clear()
        batches.show(epoch)
        fit_epoch(model, batches, epoch, [Note()])
        assert shown == _order(batches)[::2]


@pytest.mark.parametrize(("batch", "share"), [(2, 0.25), (4, 0.1), (3, 0.5), (5, 0.33)])
def test_a_share_that_no_batch_can_have_is_carried_to_later_ones(
    batch: int, share: float, make: Make
) -> None:
    plain = make(30, batch, seed=7)
    pairs = [replace(p, class_pixels=(200, 56, 0)) for p in _all(plain)]
    favouring = Batches(
        plain._folder, pairs, plain._label_map, _network(), batch, 7, foreground_oversampling=share
    )
    for epoch in range(2):
        moved = np.zeros(len(plain))
        for again in range(60):  # a drawn pair can by chance be the one that stood there
            favouring._seed = plain._seed = again
            for one in (plain, favouring):
                one.show(epoch)
            moved = np.maximum(moved, (_rows(plain) != _rows(favouring)).sum(axis=1))
        wanted = share * batch * np.arange(1, len(plain) + 1)
        assert np.abs(np.cumsum(moved) - wanted).max() <= 0.5
    assert _order(favouring) == _order(favouring)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_share_of_every_batch_shows_the_classes_in_turn(share: float, make: Make) -> None:
    plain, wanted = make(20, 4, seed=7), round(4 * share)
    # two of twenty show class 1, one of them class 2 as well
    pixels = {3: (200, 56, 0), 11: (200, 30, 26)}
    pairs = [replace(p, class_pixels=pixels.get(n, (256, 0, 0))) for n, p in enumerate(_all(plain))]
    favouring = _like(plain, pairs, share)
    for epoch in range(4):
        plain.show(epoch)
        favouring.show(epoch)
        rows = np.reshape(_order(favouring), (-1, 4))
        np.testing.assert_array_equal(
            rows[:, wanted:], np.reshape(_order(plain), (-1, 4))[:, wanted:]
        )
        turn = rows[:, :wanted].ravel()
        assert set(turn[::2]) <= {3, 11}
        assert set(turn[1::2]) <= {11}


def test_a_share_for_classes_that_nobody_shows_changes_nothing(make: Make) -> None:
    plain = make(12, 4, seed=7)
    pairs = [replace(pair, class_pixels=(256, 0, 0)) for pair in _all(plain)]
    assert _order(_like(plain, pairs, 0.5)) == _order(plain)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("seed", [7, None])
def test_processes_share_every_batch_out_and_read_no_more(
    seed: int | None, count: int, make: Make, decoded: list[Path]
) -> None:
    """The parts are the batch that one process has; what is left over at the end, each has."""
    whole = make(10, 4, seed)
    shared = [
        _like(whole, _all(whole), 0.0, Share(part, count, count), seed) for part in range(count)
    ]
    assert len(whole) == 3
    for index in range(len(whole)):
        alone = whole[index][0][:, 0, 0, 0].tolist()
        assert len(alone) == (4 if seed or index < 2 else 2)
        decoded.clear()
        seen = [part[index][0][:, 0, 0, 0].tolist() for part in shared]
        if len(alone) == 4:
            assert [len(one) for one in seen] == [4 // count] * count
            assert [*itertools.chain(*seen)] == alone
            assert len(decoded) == 4
        else:
            assert seen == [alone] * count


@pytest.mark.parametrize(("count", "batch", "lengths"), [(8, 4, [2]), (10, 4, [2, 1]), (3, 4, [1])])
def test_devices_judge_every_pair_once(
    count: int, batch: int, lengths: list[int], make: Make
) -> None:
    """In as many passes as there are ways to show a batch, the last of which has the rest."""
    distribution = SimpleNamespace(whole=False)
    whole = make(count, batch)
    shared = [
        Batches(
            whole._folder,
            _all(whole),
            whole._label_map,
            _network(),
            batch,
            share=Share(part, 2, 2, distribution=distribution),
        )
        for part in (0, 1)
    ]
    assert [len(some) for some, _ in shared[0].passes()] == lengths
    judged: list[int] = []
    for (one, shown), (other, _) in zip(*(part.passes() for part in shared), strict=True):
        with shown:
            for index in range(len(one)):
                halves = [some[index][0][:, 0, 0, 0].tolist() for some in (one, other)]
                judged += halves[0] if distribution.whole else [*itertools.chain(*halves)]
    assert judged == list(range(count))
    assert not distribution.whole
    assert [some for some, _ in whole.passes()] == [whole]


def test_memory_does_not_grow_with_the_number_of_pairs(make: Make) -> None:
    batches, picture = make(40, 2, seed=7, px=256), 256 * 256
    _ = batches[0]  # what libraries keep for good
    tracemalloc.start()
    for index in range(len(batches)):
        _ = batches[index]
    del _
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < picture  # not one picture is kept
    assert 4 * picture < peak < 20 * picture  # 80 pictures and masks passed by


def test_size_that_fits_is_passed_on_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (PX, PX)).astype(np.uint8)
    np.testing.assert_array_equal(picture_at(image, PX), image)
    np.testing.assert_array_equal(labels_at(image, PX), image)


def test_picture_shrinks_by_the_mean_of_its_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12)).astype(np.uint8)
    means = image.reshape(4, 3, 4, 3).mean(axis=(1, 3))
    assert np.abs(picture_at(image, 4) - means).max() <= 0.5


def test_labels_shrink_to_the_id_under_the_centre() -> None:
    ids = np.arange(81, dtype=np.uint8).reshape(9, 9)
    np.testing.assert_array_equal(labels_at(ids, 3), ids[1::3, 1::3])


def test_labels_grow_by_repetition() -> None:
    ids = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(labels_at(ids, 12), ids.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(("native", "px"), [(64, 32), (64, 16), (32, 64), (48, 16), (16, 80)])
def test_picture_and_labels_keep_the_same_centre(native: int, px: int) -> None:
    """A disc, drawn as picture and as labels, has one centre of mass at every size."""
    place = np.indices((native, native)) + 0.5
    centre = np.array([0.4, 0.55])[:, None, None] * native
    disc = (((place - centre) ** 2).sum(axis=0) < (0.25 * native) ** 2).astype(np.uint8)
    as_picture = picture_at(disc * np.uint8(255), px) / 255
    as_labels = labels_at(disc, px)
    assert _centre(as_picture) == pytest.approx(_centre(disc), abs=0.1 / px)
    # of an even number of pixels none is in the middle: half a native pixel
    assert _centre(as_labels) == pytest.approx(_centre(disc), abs=0.15 / px + 0.5 / native)


@pytest.mark.parametrize("channels", [1, 3])
def test_model_input_repeats_the_grey_value(channels: int) -> None:
    images = [np.full((8, 8), 9, np.uint8), np.full((PX, PX), 200, np.uint8)]
    batch = model_input(images, _network(channels=channels))
    wanted = np.array([9, 200], np.uint8)[:, None, None, None]
    np.testing.assert_array_equal(batch, np.broadcast_to(wanted, (2, PX, PX, channels)))


VARIED = Augment(
    7,
    False,
    {
        "deformed": [{"Elastic": {"sd_px": 2.0, "sigma_px": 8.0}}],
        "noisy": [{"Flip": {"axis": "horizontal"}}, {"GaussNoise": None}],
    },
)


@pytest.fixture
def drawn(workplace: Path, label_map: LabelMap) -> Callable[..., Batches]:
    """Batches of 48 px pairs with something to see; the last two are augmented and empty."""
    rng, pairs = np.random.default_rng(0), []
    for number in range(6):
        pair = cohort.pair(f"sub-01_{number:04d}")
        ids = np.zeros((48, 48), np.uint8)
        ids[number : 30 + number, 5:40], ids[20:30, 12:25] = 1, 2
        png.write_image(workplace / pair.image, rng.integers(1, 256, (48, 48)).astype(np.uint8))
        png.write_mask(workplace / pair.mask, ids, label_map)
        pairs.append(replace(pair, class_pixels=(9, 9, 9)))
    pairs[4] = replace(pairs[4], parent="sub-01_0000")
    pairs[5] = replace(pairs[5], class_pixels=(9, 0, 0))

    def batches(online: Fresh | None) -> Batches:
        return Batches(workplace, pairs, label_map, _network(48), 6, online=online)

    return batches


def _shown(batches: Batches, epochs: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pictures (6, 48, 48) and ids of each epoch."""
    shown = []
    for epoch in range(epochs):
        batches.show(epoch)
        pictures, ids = batches[0]
        shown.append((pictures[..., 0], ids))
    return shown


def test_online_shows_the_pixels_that_augment_would_write_for_the_key(
    drawn: Callable[..., Batches], workplace: Path
) -> None:
    variants = Variants("any", VARIED)
    [plain] = _shown(drawn(None), 1)
    seen = set()
    for epoch, (pictures, ids) in enumerate(_shown(drawn(variants.fresh), 8)):
        for number in range(4):
            name = variants.choice(f"sub-01_{number:04d}", epoch)
            seen.add(name)
            image, mask = plain[0][number].copy(), plain[1][number].copy()
            if name:
                key = variants.key(f"sub-01_{number:04d}", name, epoch)
                image, mask = Variants("any", VARIED).make(name, key, image, mask)
            np.testing.assert_array_equal(pictures[number], image)
            np.testing.assert_array_equal(ids[number], mask)
    assert seen == {"", "deformed", "noisy"}


def test_online_shows_augmented_pairs_and_empty_slices_as_they_are(
    drawn: Callable[..., Batches],
) -> None:
    [plain] = _shown(drawn(None), 1)
    for pictures, ids in _shown(drawn(Variants("any", VARIED).fresh), 8):
        np.testing.assert_array_equal(pictures[4:], plain[0][4:])
        np.testing.assert_array_equal(ids[4:], plain[1][4:])


@pytest.mark.parametrize("channels", [1, 3])
def test_online_draws_at_the_networks_size_what_was_decoded_once(
    channels: int, workplace: Path, label_map: LabelMap, tmp_path: Path, decoded: list[Path]
) -> None:
    names = "a,b,c" if channels > 1 else ""
    rng, pairs, plain = np.random.default_rng(0), [], []
    for number in range(4):
        pair = replace(cohort.pair(f"sub-01_{number:04d}"), class_pixels=(9, 9, 9), channels=names)
        image = rng.integers(1, 256, (48, 48, channels)[: 2 + bool(names)]).astype(np.uint8)
        ids = np.kron(rng.integers(0, 3, (6, 6)), np.ones((8, 8))).astype(np.uint8)
        png.write_image(workplace / pair.image, image)
        png.write_mask(workplace / pair.mask, ids, label_map)
        plain.append((picture_at(image, 12), labels_at(ids, 12)))
        pairs.append(pair)
    variants = Variants("any", VARIED, channels, image_px=48)
    network = _network(12, channels)
    batches = Batches(
        workplace, pairs, label_map, network, 4, online=variants.fresh, scratch=tmp_path
    )
    for epoch in range(6):
        batches.show(epoch)
        pictures, ids = batches[0]
        for number, pair in enumerate(pairs):
            image, mask = variants.fresh(pair, epoch, *plain[number])
            np.testing.assert_array_equal(pictures[number], image.reshape(12, 12, channels))
            np.testing.assert_array_equal(ids[number], mask)
    assert len(decoded) == 4


def test_a_network_that_sees_parts_has_them_of_whole_bent_pictures(
    make: Make, label_map: LabelMap
) -> None:
    bent: list[tuple[int, ...]] = []

    def online(
        pair: Pair, epoch: int, image: NDArray[np.uint8], ids: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        bent.append(image.shape)
        return np.full_like(image, 200), ids

    made = make(4, 4)
    network = replace(_network(8), picture_px=12)
    pairs = _all(made)
    batches = Batches(made._folder, pairs, label_map, network, 4, seed=1, online=online)
    pictures, ids = batches[0]
    assert bent == [(12, 12)] * 4
    assert pictures.shape[1:3] == ids.shape[1:] == (8, 8)
    assert (pictures == 200).all()


def test_every_epoch_draws_anew_and_every_run_the_same(drawn: Callable[..., Batches]) -> None:
    online = Variants("any", VARIED).fresh
    one, two = _shown(drawn(online), 8), _shown(drawn(online), 8)
    for (pictures, ids), (again, ids_again) in zip(one, two, strict=True):
        np.testing.assert_array_equal(pictures, again)
        np.testing.assert_array_equal(ids, ids_again)
    assert len({pictures[0].tobytes() for pictures, _ in one}) > 4


def test_fit_shows_fresh_pairs_once_per_epoch(drawn: Callable[..., Batches]) -> None:
    """Keras reads ahead in threads; no picture of one epoch may be drawn for another."""
    shown: set[tuple[str, int]] = set()
    variants = Variants("any", VARIED)

    def watched(
        pair: Pair, epoch: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        shown.add((pair.id, epoch))
        return variants.fresh(pair, epoch, image, mask)

    model = flexunet(_network(48), 3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    batches = drawn(watched)
    for epoch in range(3):
        batches.show(epoch)
        fit_epoch(model, batches, epoch, [])
    assert {epoch for _, epoch in shown} == {0, 1, 2}
    assert len(shown) == 6 * 3


def test_missing_picture_is_named(make: Make, workplace: Path, refused: Refused) -> None:
    batches = make(2, 2)
    (workplace / "images" / "sub-01_0001.png").unlink()
    assert "sub-01_0001.png" in str(refused(lambda: batches[0]))


def _centre(weight: NDArray[Any]) -> list[float]:
    """The centre of mass of a square picture, as shares of its side."""
    place = (np.arange(len(weight)) + 0.5) / len(weight)
    return [float((weight.sum(axis=1 - axis) * place).sum() / weight.sum()) for axis in (0, 1)]


def test_pictures_that_shrink_are_decoded_once_and_stay_the_same(
    make: Make, tmp_path: Path, decoded: list[Path], free: Callable[[int], list[Path]]
) -> None:
    asked = free(2 * _RESERVE)
    made = make(10, 4)
    rng = np.random.default_rng(0)
    for pair in _all(made):  # no even pictures: a wrong resampling would show
        png.write_image(made._folder / pair.image, rng.integers(0, 256, (PX, PX), np.uint8))
    plain, cached = _shrinking(made, None), _shrinking(made, tmp_path)
    for epoch in range(3):
        for batches in (plain, cached):
            batches.show(epoch)
        for index in range(len(plain)):
            for one, other in zip(plain[index], cached[index], strict=True):
                np.testing.assert_array_equal(one, other)
    assert len(decoded) == 3 * 12 + 10
    assert asked == [tmp_path]
    assert not list(tmp_path.glob("tmp*"))


def test_pictures_of_the_networks_size_are_not_copied(
    make: Make, tmp_path: Path, decoded: list[Path]
) -> None:
    made = make(4, 4)
    batches = Batches(made._folder, _all(made), made._label_map, _network(), 4, scratch=tmp_path)
    for _ in range(2):
        assert len(batches[0][0]) == 4
    assert len(decoded) == 8


def test_a_full_disk_only_ends_the_keeping(
    make: Make,
    tmp_path: Path,
    decoded: list[Path],
    free: Callable[[int], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was kept is given back at once: the checkpoint needs the room."""
    free(2 * _RESERVE)
    plain, cached = (_shrinking(make(8, 4), scratch) for scratch in (None, tmp_path))
    write, tried = os.pwrite, []

    def full(number: int, content: bytes, place: int) -> int:
        tried.append(number)
        if len(tried) > 3:
            raise OSError(28, "No space left on device")
        return write(number, content, place)

    monkeypatch.setattr("os.pwrite", full)
    for _ in range(2):
        for index in range(2):
            np.testing.assert_array_equal(plain[index][0], cached[index][0])
    assert len(decoded) == 32
    assert len(tried) == 4
    assert os.fstat(tried[0]).st_size == 0


def test_a_reader_meets_a_cache_that_was_given_back(
    tmp_path: Path, free: Callable[[int], list[Path]]
) -> None:
    """Another thread may have asked whether the pair is kept just before."""
    free(2 * _RESERVE)
    cache, grey = _Cache(tmp_path, 1, 2), np.ones((2, 2), np.uint8)
    cache.put(0, grey, grey)
    assert cache.get(0) is not None
    os.ftruncate(cache._number, 0)
    assert cache.get(0) is None


def test_the_disks_reserve_is_left_to_others(
    tmp_path: Path, free: Callable[[int], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.training.batches._STRIDE", 7)
    cache, grey = _Cache(tmp_path, 5, 2), np.ones((2, 2), np.uint8)
    kept = []
    for position, count in enumerate([0, 1, -1, 1, 0]):
        free(_RESERVE + 8 * count)
        cache.put(position, grey, grey)
        kept.append(cache.get(position) is not None)
    assert kept == [False, True, False, True, False]


@pytest.fixture
def partly(
    workplace: Path, label_map: LabelMap, free: Callable[[int], list[Path]]
) -> Callable[..., Batches]:
    """Batches of 48 px pairs for a network that sees 16 px of pictures of 32 px.

    Every third picture shows class 1 in its upper left corner, and no other shows anything.
    """
    free(2 * _RESERVE)
    rng, pairs = np.random.default_rng(0), []
    for number in range(6):
        pair = cohort.pair(f"sub-01_{number:04d}")
        ids = np.zeros((48, 48), np.uint8)
        ids[:3, :3] = number % 3 == 0
        png.write_image(workplace / pair.image, rng.integers(0, 256, (48, 48), np.uint8))
        png.write_mask(workplace / pair.mask, ids, label_map)
        counts = (48 * 48 - int(ids.sum()), int(ids.sum()), 0)
        pairs.append(replace(pair, class_pixels=counts))

    def batches(
        seed: int | None, share: float = 0.0, batch: int = 4, part: Share = ALONE, **more: Any
    ) -> Batches:
        network = replace(_network(), picture_px=32)
        return Batches(
            workplace, pairs, label_map, network, batch, seed, 0, None, share, part, **more
        )

    return batches


def _wholes(batches: Batches) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The pictures and ids that parts are cut from."""
    read = [
        (
            png.read_image(batches._folder / one.image),
            png.read_mask(batches._folder / one.mask, batches._label_map),
        )
        for one in batches._pairs
    ]
    return [(picture_at(image, 32), labels_at(ids, 32)) for image, ids in read]


def _where(part: NDArray[np.uint8], whole: NDArray[np.uint8]) -> list[tuple[int, int]]:
    views = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    return [(int(row), int(column)) for row, column in np.argwhere((views == part).all((2, 3)))]


def test_valid_shows_every_part_of_every_picture_once(partly: Callable[..., Batches]) -> None:
    batches = partly(None)
    assert len(batches) == 6  # of 6 pictures, 4 parts each
    shown = [batches[index] for index in range(len(batches))]
    pictures = np.concatenate([one[..., 0] for one, _ in shown])
    ids = np.concatenate([one for _, one in shown])
    for number, (image, mask) in enumerate(_wholes(batches)):
        for seen, whole in ((pictures, image), (ids, mask)):
            upper_left, upper_right, *lower = seen[4 * number : 4 * number + 4]
            put = np.block([[upper_left, upper_right], lower])
            np.testing.assert_array_equal(put, whole)


def test_a_whole_is_read_once_for_all_of_its_parts_in_a_batch(
    partly: Callable[..., Batches], decoded: list[Path], tmp_path: Path
) -> None:
    batches, kept = partly(None, batch=8), partly(None, batch=3, scratch=tmp_path)
    for one in (batches, kept):
        decoded.clear()
        for index in range(len(one)):
            assert len(one[index][0])
        assert len(decoded) == 6


def test_parts_of_an_epoch_follow_from_seed_and_epoch_alone(
    partly: Callable[..., Batches],
) -> None:
    """So a training that was stopped sees what it would have seen."""
    going, again = partly(7, 0.5), partly(7, 0.5)
    keras.utils.set_random_seed(1)
    for epoch in range(3):
        going.show(epoch)
        shown = [going[index] for index in range(len(going))]
    keras.utils.set_random_seed(2)
    again.show(2)
    for index in reversed(range(len(again))):
        for one, other in zip(shown[index], again[index], strict=True):
            np.testing.assert_array_equal(one, other)
    for other in (partly(8, 0.5), going):
        other.show(3)
        assert any((other[index][0] != shown[index][0]).any() for index in range(len(other)))


@pytest.mark.parametrize("cached", [False, True])
def test_a_part_is_cut_from_picture_and_labels_alike(
    cached: bool, partly: Callable[..., Batches], tmp_path: Path
) -> None:
    batches = partly(7, scratch=tmp_path if cached else None)
    wholes, corners = _wholes(batches), set()
    for epoch in range(4):
        batches.show(epoch)
        for index in range(len(batches)):
            pictures, ids = batches[index]
            positions = batches._order[4 * index : 4 * index + 4]
            for position, picture, mask in zip(positions, pictures[..., 0], ids, strict=True):
                image, labels = wholes[position]
                [(row, column)] = _where(picture, image)
                np.testing.assert_array_equal(mask, labels[row : row + 16, column : column + 16])
                corners.add((row, column))
    assert len(corners) > 20  # not a grid


def test_a_place_that_is_there_for_a_class_shows_it(partly: Callable[..., Batches]) -> None:
    plain, favouring = partly(7), partly(7, 0.5)
    empty = 0
    for epoch in range(12):
        for one in (plain, favouring):
            one.show(epoch)
        for index in range(len(plain)):
            favoured = favouring[index][1]
            assert (favoured[:2] == 1).any(axis=(1, 2)).all()
            np.testing.assert_array_equal(favoured[2:], plain[index][1][2:])
            empty += np.count_nonzero((plain[index][1][:2] == 0).all(axis=(1, 2)))
    assert empty > 12  # by chance few would


def test_processes_share_the_parts_of_a_batch(partly: Callable[..., Batches]) -> None:
    for seed in (7, None):
        alone = partly(seed, 0.5)
        halves = [partly(seed, 0.5, part=Share(number, 2, 2)) for number in (0, 1)]
        for index in range(len(alone)):
            one, other = (half[index][0] for half in halves)
            np.testing.assert_array_equal(np.concatenate([one, other]), alone[index][0])
