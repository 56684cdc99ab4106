"""What lies in ``data/raw/<dataset>``: its cases, and whether their files are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from datasets_spec import Adapter
from datasets_spec.contract import Case, Picture, Problem
from pipeline import paths, volume
from pipeline.files import require_regular


def cases(adapter: Adapter) -> list[Case]:
    """All cases of the raw data, in order.

    Raises :class:`Problem` if there are none, and for whatever else the adapter does wrong.
    """
    raw = paths.raw(adapter.name)
    if not filled(raw):
        raise Problem(
            f"expected the raw data, found {'no files' if raw.is_dir() else 'no such folder'}",
            where=raw,
            remedy=f"Run: python -m pipeline fetch {adapter.name}",
        )
    module = f"datasets_spec/{adapter.name}.py"
    try:
        found = list(adapter.cases(raw))
        strange = next((case for case in found if not isinstance(case, Case)), None)
        if strange is not None:
            raise TypeError(f"cases yields Case values, not {strange!r}")
    except Problem:
        raise
    except Exception as error:  # the author of a new adapter must hear where it went wrong
        raise Problem(
            f"expected cases, got {type(error).__name__}: {error}",
            where=module,
            remedy="Correct the module; --debug shows the traceback.",
        ) from error
    twice = [name for name, times in Counter(case.id for case in found).items() if times > 1]
    if twice or not found:
        raise Problem(
            f"expected cases with ids of their own, got {twice[0]!r} twice"
            if twice
            else "expected cases, found none",
            where=raw,
            remedy=f"Compare the folder with the layout in {module}.",
        )
    return sorted(found, key=lambda case: case.id)


def filled(folder: Path) -> bool:
    """Whether there is anything in it but hidden files, and nothing still on its way into it."""
    if not folder.is_dir() or (folder / paths.MOVING).exists():
        return False
    return any(not file.name.startswith(".") for file in folder.iterdir())


def files(case: Case) -> list[Path]:
    """Every file of a case, image first.

    Raises :class:`Problem` that names a missing file and the partner that is there.
    """
    image = parts(case.image)
    if not image:
        raise Problem(
            "expected slices, found none",
            where=f"case {case.id}",
            remedy="Unpack the case again, or remove its empty folder.",
        )
    found = list(image)
    for rater, label in case.labels.items():
        for number, file in enumerate(parts(label)):
            picture = image[number] if len(image) > 1 else image[0]
            if not picture.exists():
                raise Problem(
                    f"expected the image of {file}, found none",
                    where=picture,
                    remedy="Add the missing image file, or remove its label.",
                )
            if not file.exists():
                by = f" of rater {rater}" if rater else ""
                raise Problem(
                    f"expected the label{by} of {picture}, found none",
                    where=file,
                    remedy="Add the missing label file, or remove its image.",
                )
        found += parts(label)
    for path in found:
        if not path.is_dir():
            require_regular(path)
    return [file for path in found for file in _below(path)]


def _below(path: Path) -> list[Path]:
    """A file itself (both halves of a NIfTI pair), or every file of a DICOM folder."""
    if path.is_dir():
        return paths.files_below(path)
    return list(volume.files(path))


def parts(picture: Picture) -> tuple[Path, ...]:
    """The paths that a picture consists of."""
    return (picture,) if isinstance(picture, Path) else picture


def unused(adapter: Adapter, found: Iterable[Case]) -> dict[str, int]:
    """Files of the raw data that belong to no case: folder -> how many, hidden ones left out."""
    raw = paths.raw(adapter.name)
    used = {file for case in found for file in files(case)}
    left = (file.relative_to(raw) for file in _below(raw) if file not in used)
    shown = (file for file in left if not any(part.startswith(".") for part in file.parts))
    return dict(sorted(Counter(file.parent.as_posix() for file in shown).items()))


def relative(picture: Picture, dataset: str, index: int) -> str:
    """The path below ``data/raw/<dataset>`` of a picture; of slices, the one at ``index``."""
    files = parts(picture)
    file = files[index] if len(files) > 1 else files[0]
    return file.relative_to(paths.raw(dataset)).as_posix()
