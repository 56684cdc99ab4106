"""How fast augmentation is, beside other libraries: python -m tests.benchmarks.augmentation.

Writes augmentation.md beside this. Everything runs on one thread in one process, round after
round, each peer some pairs per round, so that a busy machine slows all alike; times are the
process's own processor time. A peer that is not installed (requirements.txt beside this) is
left out by name. Not a part of the tests.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets_spec.contract import Label, LabelMap
from pipeline.pairs import png as colors
from pipeline.pairs import put
from pipeline.pairs.manifest import Pair
from pipeline.runtime import executor
from pipeline.warps import chains
from tests.benchmarks.peers import PEERS, PX, SD_PX, SIGMA_PX, STRENGTH, Bend, Picture
from tests.support.cohort import pair

TABLE = Path(__file__).with_suffix(".md")
ROUNDS = 41
ROUND_S = 0.06  # of each peer: short, so that a busy second meets all of them
LABELS = LabelMap(
    tuple(
        Label(number, name, colour, name)
        for number, (name, colour) in enumerate(
            [("background", (0, 0, 0)), ("fluid", (0, 0, 255)), ("grey", (0, 255, 0))]
        )
    )
)
ELASTIC = {"Elastic": {"sd_px": SD_PX, "sigma_px": SIGMA_PX}}
BARREL = {"Barrel": {"radius": 0.3, "amount": 0.3, "centre": [0.5, 0.5]}}
OURS = {
    "Elastic, sigma 8 px": [ELASTIC],
    "Elastic, sigma 16 px": [{"Elastic": {"sd_px": 4.0, "sigma_px": 16.0}}],
    "Distorted, sigma 40 px": [{"Distorted": {"ratio": 0.03, "sigma_px": 40.0}}],
    "Barrel (constant: its maps are cached)": [BARREL],
    "Rotate and Barrel, composed (constant)": [{"Rotate": {"degrees": 15}}, BARREL],
    "Rotate and Elastic, composed": [{"Rotate": {"degrees": 15}}, ELASTIC],
    "Brighten": [{"Brighten": {"factor": 1.2}}],
    "Sharpen": [{"Sharpen": {"amount": 1.0}}],
}
WHOLE = list(OURS)[:4]  # of which a whole pair is timed
Times = dict[str, list[float]]


def main() -> None:
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    image, mask = head()
    parts = [_heading(), *peers(image, mask), *operations(image, mask), *codec(image, mask)]
    parts += [*workers(image, mask), *memory(image, mask), *feeding(image, mask)]
    TABLE.write_text("\n".join(parts) + "\n", "utf-8")
    print(TABLE.read_text("utf-8"))


def head() -> tuple[Picture, Picture]:
    """A picture like a slice of a head, with noise as scans have, and its mask of two classes."""
    y, x = np.mgrid[:PX, :PX] / PX - 0.5
    rho = np.hypot(x / 0.36, y / 0.45)
    rng = np.random.default_rng(0)
    folds = cv2.GaussianBlur(rng.standard_normal((PX, PX)), (0, 0), 6)
    folds /= folds.std()
    ids = np.where(rho > 1, 0, np.where(folds + 1.5 * rho > 1.2, 1, 2)).astype(np.uint8)
    signal = np.array([0, 90, 160])[ids] + rng.normal(0, 4, (PX, PX)) * (rho < 1)
    return np.clip(signal, 0, 255).astype(np.uint8), ids


def peers(image: Picture, mask: Picture) -> Iterator[str]:
    bends, notes = {}, []
    for name, make in PEERS.items():
        try:
            bends[name] = _calibrated(make, STRENGTH[name])
        except ImportError as error:
            notes.append(f"Left out, not installed: {name} ({error}).")
    times = interleaved({name: _once(bend, image, mask) for name, bend in bends.items()})
    yield f"## A fresh elastic field per pair (sd {SD_PX} px, sigma {SIGMA_PX} px)\n"
    yield (
        "Draw, bend the image linearly and the mask by the nearest pixel. The sd is measured on a"
        " bent ramp. The ratio is ours to theirs in the same round. Medians, with quartiles.\n"
    )
    yield "| library | pairs/s | quartiles | sd, px | ours is faster by |"
    yield "|---|---|---|---|---|"
    for name, taken in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        low, _, high = statistics.quantiles([1 / seconds for seconds in taken], n=4)
        yield (
            f"| {name} | {_rate(taken)} | {low:.4g} - {high:.4g} |"
            f" {measured_sd(bends[name], 20):.2f} | {_ratio(taken, times['ours'])} |"
        )
    yield from ["", *notes, ""]


def operations(image: Picture, mask: Picture) -> Iterator[str]:
    calls = {}
    for name, steps in OURS.items():
        chain = chains.chain(steps, name)
        count = iter(range(1 << 30))
        calls[name] = lambda chain=chain, count=count: chains.apply(
            chain, (next(count),), image, mask
        )
    yield "## Our operations\n"
    yield "| operation | pairs/s |"
    yield "|---|---|"
    for name, taken in interleaved(calls).items():
        yield f"| {name} | {_rate(taken)} |"
    yield ""


def codec(image: Picture, mask: Picture) -> Iterator[str]:
    """Plain reading and writing of the PNGs, against whole augmented pairs from file to file."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parent = parent_in(folder, image, mask)
        with Image.open(folder / parent.mask) as opened:
            palette = opened.getpalette("RGB")
        bent = chains.apply(chains.chain([ELASTIC], "codec"), ("codec",), image, mask)

        def png() -> None:
            cv2.imread(str(folder / parent.image), cv2.IMREAD_GRAYSCALE)
            with Image.open(folder / parent.mask) as opened:
                opened.load()
            cv2.imwrite(str(folder / "image.png"), bent[0], colors._IMAGE_SETTINGS)
            picture = Image.frombytes("P", (PX, PX), bent[1].tobytes())
            picture.putpalette(palette)
            picture.save(folder / "mask.png", bits=2, compress_level=1, compress_type=3)

        calls: dict[str, Callable[[], object]] = {"the PNG codec alone": png}
        for name in WHOLE:
            chain, count = chains.chain(OURS[name], name), iter(range(1 << 30))
            calls[name] = lambda chain=chain, count=count: whole_pair(
                folder, parent, chain, next(count)
            )
        times = interleaved(calls)
    alone = times["the PNG codec alone"]
    yield "## Whole augmented pairs, PNG read and write included\n"
    yield (
        "A whole pair also hashes the files, counts the classes and puts files in place at once or"
        " not at all; every pair reads its parent anew, which `augment` does once a pair.\n"
    )
    yield "| pair | pairs/s | times the codec |"
    yield "|---|---|---|"
    for name, taken in times.items():
        yield f"| {name} | {_rate(taken)} | {_ratio(taken, alone)} |"
    yield ""


def parent_in(folder: Path, image: Picture, mask: Picture) -> Pair:
    """A pair on disk."""
    return put.put(folder, pair("parent"), image, mask, LABELS)


def whole_pair(folder: Path, parent: Pair, chain: Sequence[chains.Part], number: int) -> None:
    """What ``augment`` does for one variant of one pair."""
    image = colors.read_image(folder / parent.image)
    mask = colors.read_mask(folder / parent.mask, LABELS)
    bent = chains.apply(chain, ("whole", number), image, mask)
    put.put(folder, replace(parent, id=f"variant_{number % 64}"), *bent, LABELS)


class _Many:
    """A job of the executor: so many whole pairs; returns the process's peak memory in KiB."""

    def __init__(self, folder: Path, parent: Pair, pairs: int) -> None:
        self.folder, self.parent, self.pairs = folder, parent, pairs

    def __call__(self, job: int) -> int:
        chain = chains.chain([ELASTIC], "benchmark")
        for number in range(self.pairs):
            whole_pair(self.folder, self.parent, chain, job * self.pairs + number)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def workers(image: Picture, mask: Picture) -> Iterator[str]:
    jobs, each = 40, 16
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        task = _Many(Path(place), parent_in(Path(place), image, mask), each)
        for count in (1, 2) * 3:
            outcomes = executor.run(task, range(jobs), count, "scale")
            for _ in range(4):  # by then every worker has started
                next(outcomes)
            begin = time.perf_counter()
            assert not [outcome for outcome in outcomes if outcome.error]
            rates[count].append((jobs - 4) * each / (time.perf_counter() - begin))
    one, two = (statistics.median(rates[count]) for count in (1, 2))
    yield "## Workers\n"
    yield (
        f"{one:.4g} whole pairs/s of wall time with one worker, {two:.4g} with two:"
        f" {two / one:.2f} times, on two processors that others used too.\n"
    )


def memory(image: Picture, mask: Picture) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as place:
        parent = parent_in(Path(place), image, mask)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks = {
                total: pool.apply(_Many(Path(place), parent, more), (total,)) / 1024
                for total, more in ((50, 50), (500, 450), (2000, 1500))
            }
    yield "## Memory\n"
    figures = ", ".join(f"{peak:.0f} MiB after {pairs} pairs" for pairs, peak in peaks.items())
    yield f"Peak of one process, libraries included: {figures}.\n"


def feeding(image: Picture, mask: Picture) -> Iterator[str]:
    yield "## Fed to the model\n"
    try:
        from model.training.batches import Batches
    except ImportError as error:
        yield f"Left out, not installed ({error}).\n"
        return
    from model import params
    from model import params as params_reader
    from pipeline.pairs.variants import Variants
    from pipeline.params.augment import Augment

    settings = params_reader.load("virtual_mni152")
    network = params.Network(PX, 1, 2, 3, 2, 1, 0.0, "relu", "none")
    varied = Augment(0, True, {"a": [ELASTIC], "b": [BARREL]})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pairs = [put.put(folder, pair(f"p{n}"), image, mask, LABELS) for n in range(16)]
        sources = {
            mode: Batches(folder, pairs, LABELS, network, 4, settings.train.seed, 0, fresh)
            for mode, fresh in (("offline", None), ("online", Variants("any", varied).fresh))
        }

        def epoch(batches: Batches) -> None:
            for index in range(len(batches)):
                _ = batches[index]
            batches.on_epoch_end()

        times = interleaved({mode: lambda b=b: epoch(b) for mode, b in sources.items()})
    for mode, taken in times.items():
        yield f"- {mode}: {len(pairs) / statistics.median(taken):.4g} pairs/s of one thread"
    yield "\nOnline shows one pair in three as it is, bends one by Elastic and one by Barrel.\n"


def measured_sd(bend: Bend, often: int = 6) -> float:
    """The standard deviation in px of the displacement along x, seen on a ramp of 2 per px."""
    first = PX // 2 - 64
    ramp = np.clip((np.arange(PX) - first) * 2, 0, 255).astype(np.uint8)
    picture = np.tile(ramp, (PX, 1))
    columns = slice(first + 24, first + 104)
    moved = [
        (np.asarray(bend(picture, picture)[0], np.float64) - picture)[24:-24, columns] / 2
        for _ in range(often)
    ]
    return float(np.std(moved))


def _calibrated(make: Callable[[float], Bend], strength: float) -> Bend:
    """The peer at the strength that gives SD_PX; strengths are proportional to it."""
    return make(strength * SD_PX / measured_sd(make(strength), 30))


def _once(bend: Bend, image: Picture, mask: Picture) -> Callable[[], object]:
    return lambda: bend(image, mask)


def interleaved(calls: dict[str, Callable[[], object]]) -> Times:
    """Seconds of processor time per call, one figure a round."""
    often = {}
    for name, call in calls.items():
        call()
        begin = time.process_time()
        call()
        often[name] = max(1, round(ROUND_S / max(1e-6, time.process_time() - begin)))
    times: Times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(often[name]):
                call()
            times[name].append((time.process_time() - begin) / often[name])
    return times


def _rate(taken: list[float]) -> str:
    return f"{1 / statistics.median(taken):.4g}"


def _ratio(taken: list[float], reference: list[float]) -> str:
    ratios = [a / b for a, b in zip(taken, reference, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3g} ({low:.3g} - {high:.3g})"


def _heading() -> str:
    names = "albumentations batchgenerators batchgeneratorsv2 monai numpy opencv-python-headless"
    found = []
    for name in (*names.split(), "pillow", "scipy", "torch", "torchio"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return (
        f"# Augmentation, measured\n\n{datetime.now(UTC):%Y-%m-%d}, Python"
        f" {platform.python_version()}, {', '.join(found)}. {PX}x{PX} pictures, one thread,"
        f" {ROUNDS} interleaved rounds, medians of processor time. The machine was shared with"
        f" other work (load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors at the"
        " beginning): ratios count.\n"
        "`python -m tests.benchmarks.augmentation` writes this page anew.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
