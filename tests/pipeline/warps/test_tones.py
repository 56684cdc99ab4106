"""Random tonal steps are their formulas, to the same bytes everywhere, and of every channel."""

import hashlib

import numpy as np
import pytest

from pipeline.runtime import keys
from pipeline.warps import chains, tones
from tests.support.every import every

# what changes these changes pixels of augmented pairs: say so in the changelog
TONED = {
    "gamma": "b5259bbdf6ae007538428d72c684869e97d576b88c2c973835a97478e1860475",
    "contrast": "ec74d0f25b766182b5718ffce8176a0691f3126459c4fa508eb11f7184ad5c32",
    "noise": "cd578e078acb905e4f2c2ec729e29da1da0e83104d3afa63a554eff54173d03b",
    "soften": "8b621519a77c295bdca623c52699f2f3236600fcbffcccbcfcd7fc93ddd4da6c",
    "coarsen": "10e149e6ada0fb521bc80e439b23945109b410cc8cb0956b2a6d1316b99939af",
}
MAKE = {
    "gamma": lambda image: tones.gamma(image, 1.3),
    "contrast": lambda image: tones.contrast(image, 1.4, -12.5),
    "noise": lambda image: tones.noise(image, rng(1), 9.0),
    "soften": lambda image: tones.soften(image, 1.7),
    "coarsen": lambda image: tones.coarsen(image, 2.3),
}
STEPS = {
    "gamma": {"Gamma": {"gamma": [0.5, 2]}},
    "contrast": {"Contrast": {"factor": [0.5, 1.5], "brightness": [-40, 40]}},
    "noise": {"Noise": {"sd": [4, 12]}},
    "soften": {"Soften": {"sigma_px": [0.5, 2]}},
    "coarsen": {"Coarsen": {"cell_px": [1.5, 3]}},
}
any_tone = pytest.mark.parametrize("name", MAKE)


def rng(*parts):
    return np.random.default_rng(keys.key(*parts))


def noisy(shape=(37, 50), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_every_tone_has_its_example():
    assert MAKE.keys() == TONED.keys() == STEPS.keys()


@any_tone
def test_a_toned_picture_is_the_same_on_every_machine(name):
    digest = hashlib.sha256(
        MAKE[name](noisy()).tobytes() + MAKE[name](noisy((64, 64, 5))).tobytes()
    )
    assert digest.hexdigest() == TONED[name]


@any_tone
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8])
def test_channels_are_toned_each_as_alone(name, channels):
    image = noisy((37, 50, channels))
    toned = MAKE[name](image)
    assert toned.shape == image.shape
    assert toned.dtype == np.uint8
    if name != "noise":  # drawn for each channel
        alone = [MAKE[name](image[..., one].copy()) for one in range(channels)]
        np.testing.assert_array_equal(toned, np.stack(alone, axis=-1))


@any_tone
def test_a_key_decides_what_is_drawn(name):
    image = noisy((64, 64, 2))
    chain = chains.chain([STEPS[name]], "here")
    made = {
        number: chains.apply(chain, (number,), image, image[..., 0])[0].tobytes()
        for number in range(6)
    }
    assert len(set(made.values())) > 3
    again = chains.apply(chains.chain([STEPS[name]], "here"), (2,), image, image[..., 0])
    assert again[0].tobytes() == made[2]
    np.testing.assert_array_equal(again[1], image[..., 0])


@any_tone
def test_a_picture_that_may_not_be_written_to_is_toned(name):
    image = noisy()
    image.flags.writeable = False
    chains.apply(chains.chain([STEPS[name]], "here"), (), image, image)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_every_number_of_a_range_is_as_likely(steps, monkeypatch):
    [(name, arguments)] = steps.items()
    given = []
    for formula in ("gamma", "contrast", "noise", "soften", "coarsen"):
        monkeypatch.setattr(tones, formula, lambda image, *numbers: given.append(numbers) or image)
    chain = chains.chain([{name: arguments}], "here")
    for number in range(400):
        chains.apply(chain, (number,), noisy(), noisy())
    for (least, most), drawn in zip(
        arguments.values(), np.transpose(given)[-len(arguments) :], strict=True
    ):  # noise: rng, sd
        shares = (drawn - least) / (most - least)
        assert 0 <= shares.min() < 0.05 < 0.95 < shares.max() <= 1
        assert shares.mean() == pytest.approx(0.5, abs=0.05)


# --- formulas --------------------------------------------------------------------------------


@every("exponent", [0.4, 1.0, 1.7])
def test_gamma_is_the_formula(exponent):
    image = np.arange(256, dtype=np.uint8)[None]
    wanted = np.rint(255 * (image / 255) ** exponent)
    np.testing.assert_array_equal(tones.gamma(image, exponent), wanted)


@every(("factor", "brightness"), [(0.5, 0.0), (1.5, 0.0), (1.0, 30.0), (0.7, -40.0), (0.0, 0.0)])
def test_contrast_is_about_the_mean_of_each_channel(factor, brightness):
    image = noisy((40, 30, 3)) // np.array([1, 2, 4], np.uint8)
    means = image.mean(axis=(0, 1))
    wanted = np.clip(np.rint((image - means) * factor + means + brightness), 0, 255)
    np.testing.assert_array_equal(tones.contrast(image, factor, brightness), wanted)


def test_contrast_counts_pixels_of_large_pictures():
    image = np.full((4096, 2100), 255, np.uint8)  # whose sum is above 2**31
    assert (tones.contrast(image, 0.0, 0.0) == 255).all()


@pytest.mark.parametrize("sd", [1.0, 6.0, 20.0])
def test_noise_has_its_sd_and_is_like_a_gaussian(sd):
    grey = np.full((256, 256, 2), 128, np.uint8)
    drawn = tones.noise(grey, rng("noise"), sd).astype(float) - 128
    assert drawn.mean() == pytest.approx(0, abs=0.02 * sd)
    assert drawn.std() == pytest.approx(np.hypot(sd, 12**-0.5), rel=0.02)
    assert np.mean((drawn / drawn.std()) ** 4) == pytest.approx(3, abs=0.25)
    assert abs(np.mean(drawn[..., 0] * drawn[..., 1])) < 0.02 * sd**2
    assert abs(np.mean(drawn[1:] * drawn[:-1])) < 0.02 * sd**2


def test_noise_saturates():
    black, white = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    assert 0 < tones.noise(black, rng(1), 50.0).mean() < 50
    assert 205 < tones.noise(white, rng(1), 50.0).mean() < 255


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5, 6.0, 16.0])
def test_soften_is_as_wide_as_its_sigma(sigma):
    edge = np.zeros((9, 201), np.uint8)
    edge[:, 100:] = 255
    slope = np.diff(tones.soften(edge, sigma)[4].astype(float)) / 255
    at = np.arange(200) + 0.5
    assert slope.sum() == 1
    assert (slope * at).sum() == pytest.approx(99.5, abs=0.05)
    # the pixel's own width adds 1/12
    spread = np.sqrt((slope * (at - 99.5) ** 2).sum())
    assert spread == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.05)


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0, 32.0])
def test_every_sum_of_a_blur_is_exact_in_float32(sigma, monkeypatch):
    given = []
    filtered = tones.cv2.sepFilter2D
    monkeypatch.setattr(
        tones.cv2,
        "sepFilter2D",
        lambda *all_, **more: given.append(all_) or filtered(*all_, **more),
    )
    white = np.full((80, 90), 255, np.uint8)
    np.testing.assert_array_equal(tones.soften(white, sigma), white)
    [(_, _, weights, same)] = given
    assert weights is same
    np.testing.assert_array_equal(weights * 256, np.rint(weights * 256))
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights.sum() == 1
    assert weights.min() >= 0


def test_coarsen_leaves_as_many_cells_as_fit():
    image = noisy((64, 64))
    coarse = tones.coarsen(image, 4.0).astype(int)
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.4 * np.abs(np.diff(image.astype(int))).mean()
    flat = np.full((64, 64), 77, np.uint8)
    np.testing.assert_array_equal(tones.coarsen(flat, 7.3), flat)
    assert len(np.unique(tones.coarsen(image, 64.0))) == 1
    assert tones.coarsen(image, 0.5) is image
