"""The cases in ``data/raw/<dataset>``, and whether their files exist."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, Case, LabelMap, Picture, Problem, slugs, unchecked
from pipeline import paths
from pipeline.params.convert import FUSIONS
from pipeline.params.split import Split
from pipeline.runtime.files import require_regular
from pipeline.sources import listed, patients_table, places
from pipeline.sources.listed import ListedPath
from pipeline.volumes import nifti

_LOG = logging.getLogger(__name__)
_MOST_NAMES = 8  # in one message


@dataclass(frozen=True)
class Listing:
    """The cases that an adapter lists in the raw data.

    ``cases`` are valid, sorted, and have unique ids; ``faults`` maps the names of the others to
    the reason; ``renamed`` maps names that are not valid as ids to the ids that replace them.
    """

    cases: tuple[Case, ...]
    faults: Mapping[str, Problem]
    renamed: Mapping[str, str]


def cases(adapter: Adapter) -> tuple[Case, ...]:
    """All cases of the raw data, in order.

    Raises :class:`Problem` if there are none, for the first invalid case, and for any other error
    of the adapter.
    """
    found = listing(adapter)
    for fault in found.faults.values():
        raise fault
    return found.cases


def listing(adapter: Adapter) -> Listing:
    """The cases of the raw data; an invalid case is named and does not cost the others.

    Raises :class:`Problem` if no case is valid, and for any other error of the adapter.
    """
    folder = paths.raw(adapter.name)
    if not filled(folder):
        raise Problem(
            f"expected the raw data, found {'no files' if folder.is_dir() else 'no such folder'}",
            where=folder,
            remedy=f"Run: python -m pipeline fetch {adapter.name}",
        )
    raw = listed.tree(folder)
    with listed.naming(raw):
        found = _listed(adapter, raw)
    for fault in found.faults.values():
        listed.rename(fault, raw)
    return found


def _listed(adapter: Adapter, raw: Path) -> Listing:
    """The cases of ``raw``, as :func:`listing` returns them."""
    stated, faults = _stated(adapter, raw)
    dataset = adapter.dataset
    if dataset.patients is not None:
        stated, without = patients_table.applied(dataset.patients, raw, stated, dataset.anonymous)
        faults |= without
    ids, patients = (_slugs(getattr(case, name) for case in stated) for name in ("id", "patient"))
    labelled = [case for case in stated if isinstance(case.labels, Mapping)]
    raters = _slugs(rater for case in labelled for rater in case.labels if rater)
    module = f"datasets_spec/{adapter.name}.py"
    layout = f"Compare the folder with the layout in {module}."
    found: list[Case] = []
    for case in stated:
        name = str(case.id)
        try:
            name = ids.get(case.id, case.id)
            labels = {raters.get(rater, rater): label for rater, label in case.labels.items()}
            patient = patients.get(case.patient, case.patient)
            image = _in_order(case, adapter.dataset.channels)
            _require_classes(case, adapter.dataset.label_map)
            found.append(replace(case, id=name, patient=patient, image=image, labels=labels))
        except (AttributeError, TypeError, ValueError) as error:
            reason = str(error) if str(case.id) in str(error) else f"case {case.id}: {error}"
            remedy = (
                f"Correct what {module} states of it, or compare the folder with the layout there."
            )
            faults[str(name)] = Problem(reason, where=raw, remedy=remedy)
    for name, times in Counter(case.id for case in found).items():
        if times > 1:
            faults[name] = Problem(
                f"expected cases with different ids, got {name!r} twice",
                where=raw,
                remedy=layout,
            )
    sound = sorted((case for case in found if case.id not in faults), key=lambda case: case.id)
    if not sound:
        for fault in faults.values():
            raise fault
        raise Problem("expected cases, found none", where=raw, remedy=layout)
    renamed = {old: new for names in (ids, patients, raters) for old, new in names.items()}
    return Listing(
        tuple(sound), faults, {old: new for old, new in sorted(renamed.items()) if old != new}
    )


def _stated(adapter: Adapter, raw: Path) -> tuple[list[Case], dict[str, Problem]]:
    """The cases as the adapter yields them, unchecked, and the Problems that it yields."""
    stated: list[Case] = []
    faults: dict[str, Problem] = {}
    try:
        with unchecked():
            for one in adapter.cases(raw):
                if isinstance(one, Problem):
                    faults[Path(one.where).name or str(one)] = one
                elif isinstance(one, Case):
                    stated.append(one)
                else:
                    raise TypeError(f"cases yields Case values, not {one!r}")
    except Problem:
        raise
    except Exception as error:  # the author of a new adapter needs to know where
        after = f" after the case {stated[-1].id!r}" if stated else ""
        raise Problem(
            f"expected cases, got {type(error).__name__}{after}: {error}",
            where=f"datasets_spec/{adapter.name}.py",
            remedy="Correct the module; --debug shows the traceback.",
        ) from error
    return stated, faults


def _require_classes(case: Case, label_map: LabelMap) -> None:
    """Raises ValueError for a class of ``Case.unlabelled`` that the label map lacks."""
    names = [label.name for label in label_map.foreground]
    unknown = [one for one in case.unlabelled if one not in names]
    if unknown and not isinstance(case.unlabelled, str):  # which the case itself refuses
        raise ValueError(
            f"Case.unlabelled of {case.id}: expected names of the classes {', '.join(names)}, got"
            f" {unknown[0]!r}"
        )


def _in_order(case: Case, channels: Sequence[str]) -> Picture | Mapping[str, Picture]:
    """The image of a case, its channels in the order of the dataset's.

    Raises ValueError unless the dataset states that channels, and the case has one of them.
    """
    if not isinstance(case.image, Mapping):
        if channels:
            raise ValueError(
                f"expected an image that maps channels ({', '.join(channels)}) to pictures, got"
                f" {case.image}"
            )
        return case.image
    strange = [str(name) for name in case.image if name not in channels]
    if strange or not case.image:
        raise ValueError(
            f"expected channels among {', '.join(channels) or 'none'}, which Dataset.channels"
            f" states, got {', '.join(strange) or 'no picture'}"
        )
    return {name: case.image[name] for name in channels if name in case.image}


def _slugs(names: Iterable[object]) -> dict[str, str]:
    """Name -> slug; names that give no slug stay, and the check of Case refuses them."""
    made = slugs(name for name in names if isinstance(name, str))
    return {name: made[name] or name for name in made}


def log_renamed(listed: Listing, title: str) -> None:
    """Log which names of the raw data are not valid as ids, and the ids that replace them."""
    if not listed.renamed:
        return
    names = [f"{old!r} -> {new}" for old, new in listed.renamed.items()]
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    _LOG.info("%s: renamed for use in files: %s%s", title, ", ".join(names[:_MOST_NAMES]), more)


def labelled_by(raters: str, cases: Sequence[Case], dataset: str) -> Sequence[Case]:
    """The cases that ``convert.raters`` selects: all, or those that the named rater labelled.

    Raises :class:`Problem` if no case has a rater of that name.
    """
    if raters in FUSIONS:
        return cases
    theirs = [case for case in cases if raters in case.labels]
    if not theirs:
        known = sorted({rater for case in cases for rater in case.labels if rater})
        raise Problem(
            f"expected {', '.join(FUSIONS)} or the name of a rater"
            f" ({', '.join(known) or 'this dataset names none'}), got {raters!r}",
            where=f"convert.raters of {dataset}",
            remedy="Correct it in the parameter file.",
        )
    return theirs


def kept_raters(raters: str, case: Case) -> tuple[str, ...]:
    """The raters whose labels become pairs of ``case`` ("": the fused label of all raters)."""
    if raters == "each":
        return tuple(case.labels)
    return ("",) if raters in FUSIONS else (raters,)


def require_patients(dataset: str, cases: Iterable[Case], settings: Split) -> None:
    """Raises the :class:`Problem` with which ``split`` would later refuse these cases.

    That is: fewer patients than splits or folds, a patient in two official splits, or official
    splits that leave no patient for the others.
    """
    official: dict[str, set[str]] = {}
    for case in cases:
        official.setdefault(case.patient, set()).add(case.split or "")
    listed = {split for splits in official.values() for split in splits} & {"valid", "test"}
    free = [name for name, splits in official.items() if not splits & listed]
    twice = sorted(name for name, splits in official.items() if len(splits) > 1)
    least = max(len(SPLITS) - len(listed), settings.folds)
    if twice:
        what = f"expected one official split per patient, got two for {twice[0]}"
        remedy = f"Correct Case.split in datasets_spec/{dataset}.py, or the patients table."
    elif settings.folds and "valid" in listed:
        what = f"expected no folds where the valid list is official, got {settings.folds}"
        remedy = "Set split.folds to 0 for this dataset."
    elif len(free) < least:
        what = f"expected at least {least} patients" + (
            f" beside those of the official {' and '.join(sorted(listed))} list" if listed else ""
        )
        what += f" for {'as many folds' if settings.folds else 'train, valid and test'}"
        what += f", got {len(free)}"
        remedy = "Add patients" + (", or ask for fewer folds." if settings.folds else ".")
    else:
        return
    raise Problem(what, where=paths.raw(dataset), remedy=remedy)


def filled(folder: Path) -> bool:
    """Whether ``folder`` holds files that are not hidden, and none is still being moved there."""
    if not folder.is_dir() or (folder / paths.MOVING).exists():
        return False
    return any(not file.name.startswith(".") for file in folder.iterdir())


def files(case: Case) -> list[Path]:
    """Every file of a case, image first. Raises what :func:`files_by_role` raises."""
    return [file for _, files in files_by_role(case) for file in files]


def files_by_role(case: Case) -> list[tuple[str | None, list[Path]]]:
    """The files of the image (role None) and of each rater's label, in the case's order.

    Of several channels, each is an image with a role of its own, which no rater's name can be.

    Raises :class:`Problem` that names a missing file and its existing partner.
    """
    with listed.naming(next(iter(places.parts(case.first)), paths.DATA)):
        return _files_by_role(case)


def _files_by_role(case: Case) -> list[tuple[str | None, list[Path]]]:
    roles: list[tuple[str | None, Sequence[Path]]] = []
    for channel, picture in case.pictures.items():
        roles.append((f"channel {channel}" if channel else None, places.parts(picture)))
        _require_image(case, channel if roles[1:] else "", roles[-1][1])
    _, image = roles[0]
    for rater, label in case.labels.items():
        for number, file in enumerate(places.parts(label)):
            partner = image[number] if len(image) > 1 else image[0]
            if not partner.exists():
                raise Problem(
                    f"expected the image of {file}, found none",
                    where=partner,
                    remedy="Add the missing image file, or remove its label.",
                )
            if not file.exists():
                by = f" of rater {rater}" if rater else ""
                raise Problem(
                    f"expected the label{by} of {partner}, found none",
                    where=file,
                    remedy="Add the missing label file, or remove its image.",
                )
        roles.append((rater, places.parts(label)))
    for path in (path for _, part in roles for path in part):
        if not path.is_dir():
            require_regular(path)
    return [(role, [file for path in part for file in _below(path)]) for role, part in roles]


def _require_image(case: Case, channel: str, files: Sequence[Path]) -> None:
    """Raises :class:`Problem` for a picture without files, or a further channel that is missing.

    The first picture is missed beside its label.
    """
    if not files:
        raise Problem(
            "expected slices, found none",
            where=f"case {case.id}",
            remedy="Unpack the case again, or remove its empty folder.",
        )
    missing = [file for file in files if channel and not file.exists()]
    if missing:
        raise Problem(
            f"expected the picture of the channel {channel} of {case.id}, found none",
            where=missing[0],
            remedy="Add the file. Where the sequence was not taken, the adapter leaves its name"
            " out of the case's image.",
        )


def _below(path: Path) -> list[Path]:
    """The file itself (both files of a NIfTI pair), or every file of a DICOM folder."""
    if path.is_dir():
        return path.files_below() if isinstance(path, ListedPath) else paths.files_below(path)
    return list(nifti.files(path))


def unused(adapter: Adapter, found: Iterable[Case]) -> dict[str, int]:
    """Folder -> the number of files that belong to no case, without hidden files."""
    raw = listed.standing_for(paths.raw(adapter.name))
    used = {file for case in found for file in files(case)}
    if adapter.dataset.patients is not None:
        used.add(raw / adapter.dataset.patients.file)
    left = (file.relative_to(raw) for file in _below(raw) if file not in used)
    shown = (file for file in left if not any(part.startswith(".") for part in file.parts))
    return dict(sorted(Counter(file.parent.as_posix() for file in shown).items()))
