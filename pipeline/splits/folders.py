"""Judge any folder of the layout ``{train,valid,test}/{images,masks}``.

A folder of this project is judged by its manifest, any other by its files and their names.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from datasets_spec.contract import IGNORED_COLOUR, SPLITS, Problem
from pipeline import paths
from pipeline.labels import colours
from pipeline.pairs import identities, manifest, pictures
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.runtime import shards
from pipeline.runtime.executor import Workers
from pipeline.splits import contents, grouping, leaks
from pipeline.splits.contents import Content, Files, Key, Known
from pipeline.splits.leaks import SHOWN, Violation

_LOG = logging.getLogger(__name__)
_MOST_COLOURS = 32
"""More colours than this over all masks of a folder without a label map are blends, not classes."""
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def check(
    folder: Path,
    workers: Workers = 1,
    patient: str = "",
    limits: Limits = Limits(),
    suggest: Path | None = None,
) -> list[Violation]:
    """The violations in a folder on disk: leaks, and unpaired, changed and unreadable files.

    Image and mask are paired by their names without suffix, so a JPEG image may have a PNG mask.
    ``patient`` is a regular expression for folders without a manifest: its match in a file's name
    (or its first group, if it has one) is the patient. In such folders, a picture counts as
    augmented if its name ends in "_" and another picture's name, whose patient it then has.
    Pictures larger than ``limits`` allow count as unreadable. ``suggest`` is a CSV file to which
    all pairs of near-duplicates are written, grouped into patients; where no patient is known, also
    pictures that look like slices of one scan (:mod:`pipeline.splits.grouping`).

    Raises :class:`Problem` if the folder does not have the layout, a split has no pictures, no
    name matches ``patient``, or a folder with a manifest is given that pattern.
    """
    known = {}
    if (folder / paths.MANIFEST).is_file():
        known = {(pair.split, pair.id): pair for pair in manifest.read(folder)}
    images, masks = (_listing(folder, part, known) for part in (paths.IMAGES, paths.MASKS))
    _require_pictures(folder, images)
    patients = _patients(folder, images, patient, bool(known))
    state = _read(folder, images, masks, known, patients, workers, limits)
    state.changed += ["/".join(key) for key in known.keys() - images.keys()]
    if suggest is not None:
        _suggest(suggest, folder, state.pairs, unknown=not known and not patient)
    found = leaks.judge(folder, state.pairs, state.blank)
    found += leaks.violations(
        {
            leaks.PAIRED: _unpaired(images, masks),
            leaks.READABLE: state.faults,
            leaks.UNCHANGED: sorted(state.changed),
            leaks.COLOURS: _stray_colours(folder, state.colours),
        }
    )
    for dataset in sorted({pair.dataset for pair in known.values()}):
        found = [_explained(dataset, one) for one in found]
    return sorted(found, key=lambda one: leaks.PROMISES.index(one.promise))


def _suggest(file: Path, folder: Path, pairs: Sequence[Pair], unknown: bool) -> None:
    """Write which pictures are near-duplicates, and the patients that they suggest."""
    groups = grouping.groups(
        [pair for pair in pairs if pair.likeness],  # the others show nothing, or cannot be read
        partial(leaks.shown, folder),
        {pair.case: pair.case for pair in pairs} if unknown else None,
    )
    groups.write(file, lambda pair: f"{pair.split}/{pair.id}")
    _LOG.info(
        "check %s: %d pairs of like pictures in %d groups: %s",
        folder,
        len(groups.links),
        len(groups.sizes()),
        file,
    )


@dataclass
class _State:
    """What is known of a folder once its pictures are read; names are "<split>/<stem>"."""

    pairs: list[Pair] = field(default_factory=list)
    blank: set[str] = field(default_factory=set)  # digests of pictures with one single value
    faults: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    colours: dict[Key, frozenset[int]] = field(default_factory=dict)


def _read(
    folder: Path,
    images: Files,
    masks: Files,
    known: Mapping[Key, Pair],
    patients: Mapping[str, str],
    workers: Workers,
    limits: Limits,
) -> _State:
    """Read every picture; a pair whose files are as in the manifest is not decoded."""
    state, parents = _State(), _parents(images)
    kinds: dict[frozenset[int], frozenset[int]] = {}  # masks share few sets of colours
    stated = {key: Known.of(pair) for key, pair in known.items()}
    for key, content in contents.read(folder, images, masks, stated, workers, limits):
        pair = known.get(key)
        if content.unchanged and pair is not None:
            state.pairs.append(pair)
            state.changed += _changed(folder, pair)
            continue
        if pair is None:
            split, stem = key
            parent = parents.get(stem, "")
            patient = patients.get(parent or stem) or f"{split}/{stem}"
            state.pairs.append(_foreign(key, images[key][0], content, patient, parent))
        else:
            own = replace(pair, image_digest=content.digest, likeness=content.likeness)
            state.pairs.append(own)
        if content.blank:
            state.blank.add(content.digest)
        if content.fault:
            state.faults.append(f"{'/'.join(key)}: {content.fault}")
        if known:
            state.changed.append("/".join(key))
        state.colours[key] = kinds.setdefault(content.colours, content.colours)
    return state


def _changed(folder: Path, pair: Pair) -> list[str]:
    """The files with the channels after the third that are not as in the manifest."""
    more = zip(pair.files[1:-1], pictures.files(folder, pair)[1:-1], strict=True)
    return [
        f"{pair.split}/{name}" for (name, digest), file in more if not shards.holds(file, digest)
    ]


def _listing(folder: Path, part: str, known: Mapping[Key, Pair]) -> Files:
    """(split, name without suffix) -> the suffixes of the pictures of that name in ``part``.

    ``part`` is images or masks. Only names are kept, so that memory suffices for many files. Those
    of ``known`` pairs in shards are in no folder.
    """
    found: dict[Key, tuple[str, ...]] = {
        key: (".png",) for key, pair in sorted(known.items()) if pair.shard
    }
    for split in SPLITS if not found else ():
        place = folder / split / part
        if not place.is_dir():
            if part == paths.MASKS:
                continue
            raise Problem(
                f"expected {', '.join(f'{s}/{part}' for s in SPLITS)}, found no {split}/{part}",
                where=folder,
                remedy="Name a folder of the layout {train,valid,test}/{images,masks}/.",
            )
        for name in sorted(file.name for file in place.iterdir()):
            stem, suffix = Path(name).stem, sys.intern(Path(name).suffix)
            if suffix.lower() in _PICTURES and not name.startswith("."):
                found[split, stem] = (*found.get((split, stem), ()), suffix)
    return found


def _require_pictures(folder: Path, images: Iterable[Key]) -> None:
    """Raises :class:`Problem` for a split without pictures: nothing would be judged there."""
    filled = {split for split, _ in images}
    for split in SPLITS:
        if split not in filled:
            others = len(list((folder / split / paths.IMAGES).iterdir()))
            raise Problem(
                f"expected pictures ({', '.join(_PICTURES)}), found none among {others} files",
                where=folder / split / paths.IMAGES,
                remedy="Put the split's pictures there.",
            )


def _unpaired(images: Files, masks: Files) -> list[str]:
    """Images without mask, masks without image, and names that two files share."""
    lonely = sorted("/".join(key) for key in images.keys() ^ masks.keys())
    twice = [
        [f"{split}/{part}/{stem}{suffix}" for suffix in suffixes]
        for part, files in ((paths.IMAGES, images), (paths.MASKS, masks))
        for (split, stem), suffixes in files.items()
        if len(suffixes) > 1
    ]
    return lonely + [" and ".join(names) for names in twice]


def _stray_colours(folder: Path, shown: Mapping[Key, frozenset[int]]) -> list[str]:
    """Masks with colours of no class: by the card's label map, else by their great number."""
    declared = _declared(folder)
    if declared is None:
        counts = Counter(colour for colours in shown.values() for colour in colours)
        if len(counts) <= _MOST_COLOURS:
            return []
        declared = {colour for colour, _ in counts.most_common(_MOST_COLOURS)}
    bad = {key: stray for key, colours in shown.items() if (stray := colours - declared)}
    examples = []
    for (split, stem), stray in sorted(bad.items(), key=lambda entry: -len(entry[1])):
        red, green, blue = (min(stray) >> shift & 255 for shift in (16, 8, 0))
        examples.append(
            f"{split}/{stem} with {len(stray)} others, such as ({red}, {green}, {blue})"
        )
    return examples


def _declared(folder: Path) -> set[int] | None:
    """The colours that masks may have by the card's label map, with that of what is ignored.

    None where there is no card, or another program's.
    """
    try:
        labels = json.loads((folder / paths.CARD).read_text("utf-8"))["labels"]
        known = [*(label["colour"] for label in labels), IGNORED_COLOUR]
        return {int(colours.pack(np.array(colour))) for colour in known}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _explained(dataset: str, violation: Violation) -> Violation:
    """The violation with the meaning of pseudonyms, in the examples that are shown."""
    shown = [identities.explained(dataset, one) for one in violation.examples[:SHOWN]]
    return replace(violation, examples=(*shown, *violation.examples[SHOWN:]))


def _parents(listing: Iterable[Key]) -> dict[str, str]:
    """Stem -> the picture that it is named after: "barrdistorted_017" comes from "017"."""
    stems = {stem for _, stem in listing}
    found = {}
    for stem in stems:
        parts = stem.split("_")
        ends = ("_".join(parts[start:]) for start in range(1, len(parts)))
        parent = next((end for end in ends if end in stems), "")
        if parent:
            found[stem] = parent
    return found


def _patients(
    folder: Path, images: Iterable[Key], pattern: str, has_manifest: bool
) -> dict[str, str]:
    """Stem -> the patient that ``pattern`` matches in it."""
    if not pattern:
        return {}
    if has_manifest:
        raise Problem(
            f"expected no pattern for patients, which the manifest names, got {pattern!r}",
            where=folder,
            remedy="Leave out --patient, or remove the manifest to judge the files by their names.",
        )
    try:
        matches = {stem: re.search(pattern, stem) for _, stem in images}
    except re.error as error:
        raise Problem(
            f"expected a regular expression, got {pattern!r}: {error}", where="--patient"
        ) from None
    found = {stem: match[bool(match.groups())] for stem, match in matches.items() if match}
    if not any(found.values()):
        raise Problem(
            f"expected names that match {pattern!r}, got none, such as {next(iter(matches))!r}",
            where=folder,
            remedy="Correct --patient: its match, or its first group, is the patient.",
        )
    return found


def _foreign(key: Key, suffix: str, content: Content, patient: str, parent: str) -> Pair:
    """A pair of a folder without a manifest, of which only the files are known."""
    split, stem = key
    return manifest.blank(
        stem,
        case=stem,
        patient=patient,
        parent=parent,
        split=split,
        image=f"{paths.IMAGES}/{stem}{suffix}",
        image_digest=content.digest,
        likeness=content.likeness,
    )
