"""predict: trained models and scans -> masks in each scan's own grid, a table, a page.

Needs no label, no adapter and no params.yaml: all that a prediction takes is in the model's file.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from datasets_spec.contract import Problem, printable
from model.delivery import measures, picture, records
from model.delivery import names as naming
from model.delivery import scan as delivery
from model.delivery.seg import About
from model.delivery.wish import Wish
from model.inference import familiarity, sequences
from model.inference.facts import Facts
from model.inference.member import viewed
from model.inference.predictor import Predictor
from model.inference.sequences import Group
from pipeline.pages import viewer
from pipeline.pairs import channels
from pipeline.pairs.channels import Images
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.params.dicom import USUAL
from pipeline.params.limits import Limits
from pipeline.runtime import executor, files, fingerprints, imports, locks
from pipeline.runtime.executor import Cluster, Workers
from pipeline.volumes import nifti, profile, search, slices, volume
from pipeline.volumes.findings import DOUBT
from pipeline.volumes.profile import Profile
from pipeline.volumes.search import Scan

_LOG = logging.getLogger(__name__)
_MASKS = Wish()
VOLUMES = "volumes.csv"
_FOLDERS = ("films", "overlays", "records", "view")  # of all scans: no scan's own has such a name
_ITSELF = "model.predict"
_MANY = 3  # oddities, and more


@dataclass(frozen=True)
class _Work:
    """What all scans of a run share."""

    predictor: Predictor
    models: tuple[Path, ...]
    mirrors: str
    output: Path
    wish: Wish
    limits: Limits
    code: str
    names: Pseudonyms

    def __reduce__(self) -> tuple[Any, ...]:
        """For a worker of a cluster, which opens the models itself."""
        digests = tuple(files.sha256(one) for one in self.models)
        others = self.output, self.wish, self.limits, self.code, self.names
        return _sent, (self.models, digests, self.mirrors, *others)


def _sent(models: tuple[Path, ...], digests: tuple[str, ...], mirrors: str, *others: Any) -> _Work:
    return _Work(_opened(models, digests, mirrors), models, mirrors, *others)


@lru_cache(maxsize=1)
def _opened(models: tuple[Path, ...], _digests: tuple[str, ...], mirrors: str) -> Predictor:
    """Once for all scans that a worker predicts, until a file has changed."""
    return Predictor.of(models, mirrors)


def predict(
    models: Sequence[Path],
    inputs: Sequence[Path],
    output: Path,
    wish: Wish = _MASKS,
    mirrors: str = "auto",
    limits: Limits = Limits(),
    patterns: Mapping[str, str] = MappingProxyType({}),
    key: str = "",
    cluster: Cluster | None = None,
) -> None:
    """Masks of every scan and picture that ``inputs`` are or hold, below ``output``.

    ``models``: their files; several are an ensemble, whose probabilities become one. ``mirrors``:
    see :data:`model.inference.mirrors.MIRRORS`. ``patterns``: which names are of which sequence,
    for models of several, see :mod:`model.inference.sequences`. ``key``: which volume, of files and
    series that hold several, such as "echo 2". What was made before of the same scan, by the same
    models and wishes, is not made again. This process does it all, or the workers of ``cluster``.

    Raises :class:`Problem` if a model cannot be used or there is nothing to predict, and at the
    end, with all others done, if a scan could not be read or predicted.
    """
    _require_writable(output)
    predictor = Predictor.of(models, mirrors)
    _describe(predictor, mirrors)
    found = search.search(inputs, skip=output, limits=limits, reserved=_FOLDERS, key=key)
    for one in found.unread:
        (_LOG.warning if one.missed else _LOG.info)("  not read: %s", one)
    if key and found.scans and not any(one.volume for one in found.scans):
        _LOG.warning("  --volume %r has no effect: no scan here holds several volumes", key)
    if not found.scans:
        raise Problem(
            "expected scans (NIfTI, MGZ, DICOM series) or pictures (PNG, JPEG), found none",
            where=", ".join(map(str, inputs)),
            remedy="What lies there is listed above, with what to do." if found.unread else "",
        )
    groups = _groups(predictor, found.scans, inputs, patterns)
    with locks.alone(output / records.RECORDS):
        _require_alike(output, wish)
        names = naming.names(output, wish.anonymous)
        work = _Work(predictor, tuple(models), mirrors, output, wish, limits, _code(), names)
        failed = _all(groups, work, cluster or 1)
        _tables(work)
    missed = [one for one in found.unread if one.missed]
    _conclude(len(groups), failed, sum(one.count for one in missed), output)


def _groups(
    predictor: Predictor,
    scans: Sequence[Scan],
    inputs: Sequence[Path],
    patterns: Mapping[str, str],
) -> list[Group]:
    """What is predicted together: the sequences of a case, or every scan by itself.

    Raises :class:`Problem` where names do not tell which sequence a scan is.
    """
    wanted = predictor.facts.sequences
    if not wanted:
        if patterns:
            raise Problem(
                f"expected no --channel for a model of one scan, got {', '.join(patterns)}",
                where=predictor.members[0].file,
            )
        return sequences.alone(scans)
    groups, left = sequences.grouped(scans, wanted, patterns, inputs, _FOLDERS)
    for one in left:
        _LOG.info("  not read: %s: it is none of %s", printable(str(one.path)), ", ".join(wanted))
    return groups


def _require_writable(output: Path) -> None:
    """Make the folder of results; raises :class:`Problem` where nothing can be written to it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise Problem(
            f"expected a folder that results can be written to, got {error.strerror or error}",
            where=output,
            remedy="Name another one with --output.",
        ) from None


def _require_alike(output: Path, wish: Wish) -> None:
    """Raises :class:`Problem` for anonymous results beside others, which would give them away."""
    for one in records.every(output):
        if bool(one.get("anonymous")) != wish.anonymous:
            theirs, ours = ("with", "without")[:: 1 if one.get("anonymous") else -1]
            raise Problem(
                f"expected results that were made {ours} --anonymous, as these would be, got"
                f" {one['name']}, which was made {theirs} it",
                where=output,
                remedy="Name another folder with --output.",
            )


def _describe(predictor: Predictor, mirrors: str) -> None:
    """What is at work, and what its test-time augmentation gained on valid and costs."""
    for number, member in enumerate(predictor.members):
        facts = member.facts
        _LOG.info("model %s: %s, %s, %s", member.file, facts.dataset, facts.modality, facts.plane)
        if predictor.weights is not None:
            weights = ", ".join(f"{one:.2f}" for one in predictor.weights[number])
            _LOG.info("  weight of each class, as valid chose: %s", weights)
        if not predictor.digest:  # of a bundle, the answer of all is what valid chose for
            if facts.rules is None:
                _LOG.info("  its training has not ended: valid has chosen no post-processing yet")
            _describe_calibration(facts)
        if facts.mirrors.axes:
            use = "used" if member.axes else "not used"
            _LOG.info("  %s; %s (--mirrors %s)", facts.mirrors.sentence, use, mirrors)
        if facts.network.picture_px:
            use = "used" if member.overlap else "not used"
            _LOG.info("  %s; %s", facts.tiles.sentence, use)
    if predictor.digest:
        _describe_calibration(predictor)
    for rule in predictor.label_rules:
        _LOG.info("  made to obey: %s", rule.in_words([one.name for one in predictor.label_map]))


def _describe_calibration(chosen: Facts | Predictor) -> None:
    """The temperatures that valid chose, if any."""
    if chosen.temperatures.of_class:
        _LOG.info("  %s", chosen.temperatures.sentence)


def _all(groups: Sequence[Group], work: _Work, workers: Workers) -> dict[Path, Problem]:
    """Predict scan by scan; returns why some could not be."""
    failed: dict[Path, Problem] = {}
    for outcome in executor.run(partial(_predict_one, work), groups, workers, "predict", "scan"):
        if isinstance(outcome.error, Problem):
            failed[outcome.job.first.path] = outcome.error
            _LOG.error("  %s: %s", outcome.job.name, outcome.error)
        elif outcome.error is not None:
            raise outcome.error
        else:
            _LOG.info("  %s", outcome.result)
    return failed


def _predict_one(work: _Work, group: Group) -> str:
    """Predict one scan; returns what there is to say of it."""
    name = work.names.of("scan", group.name)
    made_from = _fingerprint(group, work)
    if records.current(work.output, name, made_from) is not None:
        return f"{name}: done before"
    start = time.monotonic()
    make = _picture if group.first.kind == search.PICTURE else _scan
    outputs, content = make(group, name, work)
    seconds = time.monotonic() - start
    content |= {"seconds": round(seconds, 2), "anonymous": work.wish.anonymous}
    records.write(work.output, name, made_from, outputs, content)
    said = [*content["warnings"], *content["notes"]]
    return f"{name}: {seconds:.1f} s" + "".join(f"\n    {one}" for one in said)


def _scan(group: Group, name: str, work: _Work) -> tuple[list[Path], dict[str, Any]]:
    """A volume, NIfTI, MGZ or a DICOM series, or the sequences of a case, all on one grid."""
    scan, facts = group.first, work.predictor.facts
    read = {channel: search.read(one, work.limits) for channel, one in group.scans.items()}
    channels.require_one_grid(read, {channel: one.path for channel, one in group.scans.items()})
    image, images = channels.first(read), read if facts.sequences else channels.first(read)
    findings = dict.fromkeys(
        (one.severity, str(one)) for each in read.values() for one in each.findings
    )
    doubts = [words for severity, words in findings if severity == DOUBT]
    handled = [words for severity, words in findings if severity != DOUBT]
    absent = [one for one in facts.sequences if one not in read]
    lacking = [f"without {', '.join(absent)}: {', '.join(read)} alone"] if absent else []
    warnings = [*lacking, *doubts, *_oddities(images, scan.path, work.predictor)]
    source = delivery.Source(name, scan.path, scan.series, work.names.uid)
    networks = len(work.predictor.members)
    about = About(
        facts.dataset,
        work.predictor.digest or work.predictor.members[0].digest,
        imports.project_version(),
        "FlexUNet" + (f", {networks} networks as one" if networks > 1 else ""),
    )
    deliver = delivery.Delivery(work.output, source, images, work.predictor, work.wish, about)
    members = work.predictor.members
    total = sum(len(volume.slices(image.array, one.facts.plane)) for one in members)
    with tqdm(total=total, desc=name, unit="slice", disable=None, leave=False) as bar:
        outputs, content = deliver(warnings, bar.update)
    for row in content["measures"]:
        row["absent"] = ",".join(absent)
    return outputs, {**content, "warnings": warnings, "notes": [*handled, *content["notes"]]}


def _oddities(
    images: Images, where: Path, predictor: Predictor, pictures: bool = False
) -> list[str]:
    """What is unlike the models' training scans; of much, first that it is much.

    Of several sequences the first is compared; where it is missing, the contrast is not.
    ``pictures``: the scan was read from one, which may well be an empty slice. Raises
    :class:`Problem` for other scans that cannot be right.
    """
    sentences: dict[str, None] = {}
    profiles: dict[tuple[float, float], Profile] = {}
    image = channels.first(images)
    for member in predictor.members:
        facts = member.facts
        seen = viewed(images, facts, pictures)
        window = seen.window
        if window not in profiles:
            profiles[window] = profile.of(image, window, pictures=pictures)
        another = seen.every[0] is None
        for oddity in familiarity.oddities(profiles[window], facts.scans, facts.modality):
            if another and oddity.code in familiarity.OF_CONTRAST:
                continue
            if oddity.severity == familiarity.REFUSE and not pictures:
                raise Problem(
                    f"expected a scan like those of {facts.dataset}, got one that cannot be:"
                    f" {oddity.sentence}",
                    where=where,
                    remedy="Take the original export, or a model for scans of this kind.",
                )
            sentences[oddity.sentence] = None
    much = (
        f"unlike the model's training scans in {len(sentences)} respects, so its mask may mean"
        " nothing:"
    )
    return [*([much] if len(sentences) >= _MANY else []), *sentences]


def _picture(group: Group, name: str, work: _Work) -> tuple[list[Path], dict[str, Any]]:
    """A picture, as convert would have made it. Raises :class:`Problem` for several channels."""
    scan = group.first
    if several := [one.name for one in work.predictor.facts.channels]:
        raise Problem(
            f"expected a scan, of which the model sees {', '.join(several)}, got a picture",
            where=scan.path,
            remedy="Give the scan itself: NIfTI, MGZ or DICOM.",
        )
    grey = picture.read(scan.path, work.limits)
    warnings = ["it is in colour: its brightness was taken"] * grey.coloured
    if grey.dark:
        warnings.append("it looks almost black: 12-bit values in a 16-bit file? Rescale it")
    warnings += _without_mm(work.predictor)
    warnings += _oddities(slices.volume_of(grey.picture[None]), scan.path, work.predictor, True)
    outputs, content = picture.deliver(
        work.output, name, grey.picture, work.predictor, work.wish, scan.path, warnings
    )
    return outputs, {**content, "warnings": warnings, "notes": []}


def _without_mm(predictor: Predictor) -> list[str]:
    """What a picture, a slice without mm and neighbours, cannot show the models."""
    networks = [one.facts.network for one in predictor.members]
    field = max(one.field_mm for one in networks)
    return [
        *[f"it states no mm: the model's field of view, {field:g} mm, is not kept"] * (field > 0),
        *["the model sees neighbouring slices too: the picture stands for them"]
        * any(one.neighbours for one in networks),
    ]


def _sources(scan: Scan) -> list[Path]:
    """The files of a scan."""
    if scan.series is not None:
        return sorted({one.file for one in scan.series.slices})
    return list(nifti.files(scan.path)) if scan.kind == search.NIFTI else [scan.path]


def _fingerprint(group: Group, work: _Work) -> str:
    """What the outputs of a scan follow from."""
    digests = [
        (channel, fingerprints.digests(*_sources(scan))[0], scan.volume)
        for channel, scan in group.scans.items()
    ]
    models = [(member.digest, member.axes) for member in work.predictor.members]
    together = models, work.predictor.digest
    return fingerprints.fingerprint(
        digests, together, asdict(work.wish), asdict(work.limits), asdict(USUAL), work.code
    )


def _code() -> str:
    """The fingerprint of the code that decides what is written."""
    deciding = imports.closure(_ITSELF, without=fingerprints.RUNNERS)
    return fingerprints.fingerprint(fingerprints.substances(deciding))


def _tables(work: _Work) -> None:
    """The table of volumes and the page, of all scans that were ever predicted into the folder."""
    every = records.every(work.output)
    measures.write_csv(work.output / VOLUMES, [row for one in every for row in one["measures"]])
    if work.wish.view:
        facts = work.predictor.facts
        shown = [one["view"] for one in every if one["view"]]
        viewer.write_index(work.output, shown, {"model": facts.dataset})


def _conclude(scans: int, failed: dict[Path, Problem], missed: int, output: Path) -> None:
    """Say what was done; raises :class:`Problem` if something was not."""
    _LOG.info("predict: %d of %d scans, in %s", scans - len(failed), scans, output)
    lacking = [f"{len(failed)} that could not be predicted"] if failed else []
    lacking += [f"{missed} files that may be scans and were not read"] if missed else []
    if lacking:
        raise Problem(
            f"expected scans that can be read, got {' and '.join(lacking)}, each named above",
            remedy="The others are done; correct or remove these and run again.",
        )
