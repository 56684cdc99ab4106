"""params.yaml as frozen dataclasses. This module is the only reader of that file.

The sections ``convert``, ``augment``, ``split``, ``train``, ``evaluate`` and ``limits`` hold
for every dataset. ``datasets`` lists the enabled ones; an entry may override
leaves of any section but ``evaluate`` and ``limits`` for its dataset::

    datasets:
      virtual_mni152:                      # the sections' values
      msd_hippocampus:
        train: {epochs: 30}                # every other value as in the sections

``presets`` holds entries for datasets that are not enabled, to be referred to by
YAML anchors; ``members`` and ``ensembles`` are those of :mod:`pipeline.params.members`.
``cluster`` is the address of a Dask scheduler, and ``processes`` how many train one network: who
does the work, on which no output depends.
An unknown key, a missing key and a wrong type are errors that name the place; a value is
never evaluated as a Python expression. A file that is larger, deeper or, with its aliases
expanded, longer than anyone would write is refused before it is processed.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.params import members as of_members
from pipeline.params.augment import Augment
from pipeline.params.convert import Convert
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.params.split import Split
from pipeline.params.values import OutOfRange, shown
from pipeline.runtime import files

_NO_GAIN = "Leave it out: it gained nothing where it was measured (docs/decisions/training.md)."
_MOVED = {
    "train.augment": "It is 'mode' in the section 'augment' now.",
    "evaluate.postprocess": "It is 'postprocess' in the section 'train' now.",
    "evaluate.batch_slices": "Leave it out: it follows from the network.",
    "train.class_share": "It is 'foreground_oversampling' now.",
    "train.ema_momentum": _NO_GAIN,
    "train.warm_up_steps": _NO_GAIN,
    "train.overlap_over": _NO_GAIN,
    "train.label_smoothing": _NO_GAIN,
    "train.boundary_weight": _NO_GAIN,
    "train.boundary_px": _NO_GAIN,
    "network.block": _NO_GAIN,
    "network.deep_supervision": _NO_GAIN,
    "network.input_normalization": _NO_GAIN,
    "id_salt": "The salt is a secret and no parameter: take it out here, and set FLEXUNET_ID_SALT"
    " or write it into data/id_salt. If this file was ever passed on, choose another salt.",
}
"""Parameters of earlier versions, and what replaces them."""

_MOST_BYTES = 1_000_000

_REMEDY = "Correct the parameter file; docs/reference/parameters.md lists the parameters."


@dataclass(frozen=True)
class Params:
    """The sections of params.yaml that make a dataset; :class:`model.params.Params` has all."""

    convert: Convert
    augment: Augment
    split: Split
    limits: Limits


P = TypeVar("P", bound=Params)
E = TypeVar("E")
ABOVE = ("train", "evaluate")
"""Sections of the floor above, whose values :mod:`model.params` declares and checks."""
_ROOT = Path(__file__).resolve().parents[2]
_OVERRIDABLE = ("convert", "augment", "split", "train")
_BESIDE: Mapping[str, Callable[[str, Any], str]] = {
    "members": lambda _, entry: str((entry or {}).get("dataset")),
    "ensembles": lambda name, _: name,
}
"""Sections of entries beside ``datasets``, and how each states its dataset."""
_LEAVES = {"variants", "windows"}  # replaced whole by an override, not merged
_SECTIONS = {*(field.name for field in dataclasses.fields(Params)), *ABOVE}
RUNNING = ("cluster", "processes")
"""Keys that state who does the work, on which no output depends."""
_TOP = {*RUNNING, "datasets", "presets", "members", "ensembles", *_SECTIONS}


def enabled(file: Path = paths.PARAMS) -> tuple[str, ...]:
    """The names under ``datasets``, in the file's order; each has an adapter."""
    entries, where = _read(file).get("datasets"), f"{file}: datasets"
    if isinstance(entries, list | str):  # "- aisd", or "aisd" without its colon
        names = entries.split() if isinstance(entries, str) else entries
        raise Problem(
            f"expected a line '  name:' for each dataset, got {shown(entries)}",
            where=where,
            remedy=f"Write '  {names[0] if names else 'aisd'}:', indented, with the colon and"
            " without a dash.",
        )
    if not entries:
        raise Problem("expected at least one dataset, found none", where=where)
    _mapping(entries, where)
    for name in entries:
        if name in _TOP:
            raise Problem(
                f"expected a dataset's name, got the section {name!r}",
                where=where,
                remedy=f"Indent '{name}:' below the dataset that it is for; to hold for all,"
                " it stands at the margin.",
            )
        if not isinstance(name, str):
            raise Problem(
                f"expected a dataset's name, got {shown(name)}, which is not text", where=where
            )
        try:
            datasets_spec.load(name)
        except Problem as problem:
            if name in datasets_spec.names():
                raise
            raise Problem(problem.what, where=where, remedy=problem.remedy) from None
    return tuple(entries)


def load(dataset: str, file: Path = paths.PARAMS) -> Params:
    """The parameters of ``dataset``: the sections with its entry's overrides.

    Raises :class:`Problem` for a dataset that is not enabled and for any key or
    value that does not fit.
    """
    return load_as(Params, dataset, file)


def load_as(whole: type[P], dataset: str, file: Path = paths.PARAMS) -> P:
    """Like :func:`load`, with all sections that ``whole`` has."""
    content, entry = _entry(dataset, file, whole)
    return _with(content, entry, f"{file}: datasets.{dataset}", file, whole)


def members(file: Path = paths.PARAMS) -> dict[str, str]:
    """The dataset of every member by the member's name, in the file's order; see
    :func:`pipeline.params.members.checked`, which also says what is refused.
    """
    content = _read(file)
    further, together = (_section(content, name, file) for name in ("members", "ensembles"))
    return of_members.checked(further, together, enabled(file), file)


def load_member_as(whole: type[P], member: str, file: Path = paths.PARAMS) -> tuple[str, P]:
    """The dataset of a member, and its parameters: the dataset's with the member's overrides.

    Raises :class:`Problem` for a member that the file does not name and for any key or value that
    does not fit.
    """
    known = members(file)
    if member not in known:
        raise Problem(
            f"expected a member of {file} ({', '.join(known) or 'which has none'}), got {member!r}",
            where=f"{file}: members",
        )
    content, entry = _entry(known[member], file, whole)
    own = {key: value for key, value in content["members"][member].items() if value is not None}
    own.pop(of_members.DATASET)
    where = f"{file}: members.{member}"
    for name, override in own.items():
        _mapping(override, f"{where}: {name}")
    return known[member], _with(content, _merged(entry or {}, own), where, file, whole)


def ensemble_as(kind: type[E], dataset: str, file: Path = paths.PARAMS) -> E | None:
    """The entry of ``dataset`` below ``ensembles`` as ``kind``; None where it has none."""
    members(file)
    entries = _section(_read(file), "ensembles", file)
    if dataset not in entries:
        return None
    entry = {} if entries[dataset] is None else entries[dataset]
    built: E = _build(kind, entry, f"{file}: ensembles.{dataset}", Params)
    return built


def stated(dataset: str, file: Path = paths.PARAMS) -> dict[str, Any]:
    """Every section for ``dataset`` as written, with its entry's overrides, unchecked.

    Tolerances that are left out have their usual values.
    """
    content, entry = _entry(dataset, file)
    sections = {
        name: _merged(content.get(name) or {}, (entry or {}).get(name) or {})
        for name in sorted(_SECTIONS)
    }
    sections["convert"]["dicom"] = asdict(USUAL) | (sections["convert"].get("dicom") or {})
    return sections


def narrowed(
    dataset: str, overrides: Mapping[str, Any], file: Path = paths.PARAMS
) -> dict[str, Any]:
    """A parameter file's content for ``dataset`` alone, whose entry has ``overrides`` on top.

    Of the entries beside ``datasets``, only those of this dataset are left.
    """
    content, entry = _entry(dataset, file)
    content.pop("presets", None)
    content["datasets"] = {dataset: _merged(entry or {}, dict(overrides))}
    for section, own in _BESIDE.items():
        if content.get(section):
            kept = {key: one for key, one in content[section].items() if own(key, one) == dataset}
            content[section] = kept
    return content


def _entry(dataset: str, file: Path, whole: type[Params] = Params) -> tuple[dict[str, Any], Any]:
    """The whole file, and its entry of an enabled dataset."""
    content = _read(file, whole)
    if dataset not in enabled(file):
        datasets_spec.load(dataset)
        raise Problem(
            f"expected one of the enabled datasets ({', '.join(enabled(file))}), got {dataset!r}",
            where=f"{file}: datasets",
            remedy=f"Add a line '  {dataset}:' below 'datasets:'.",
        )
    return content, content["datasets"][dataset]


def limits(file: Path = paths.PARAMS) -> Limits:
    """The limits of the parameter file; the defaults where there is none.

    ``fetch``, ``check`` and ``doctor`` work in any folder, with or without such a file.
    """
    if file == paths.PARAMS and not file.exists():
        return Limits()
    return _limits(_read(file), file)


def cluster(file: Path | None = paths.PARAMS) -> str:
    """The address of the Dask scheduler whose workers do the work; "" for this machine's own.

    Like :func:`limits`, also where there is no parameter file.
    """
    if file is None or (file == paths.PARAMS and not file.exists()):
        return ""
    address = _read(file).get("cluster")
    return str(_build(str, "" if address is None else address, f"{file}: cluster", Params))


def processes(file: Path = paths.PARAMS) -> int:
    """How many processes of this machine train one network; 1 where nothing is stated."""
    stated = _read(file).get("processes")
    where = f"{file}: processes"
    count = int(_build(int, 1 if stated is None else stated, where, Params))
    if count < 1:
        raise Problem(f"expected a whole number of 1 or more, got {count}", where=where)
    return count


def tolerances(file: Path = paths.PARAMS, dataset: str = "") -> Tolerances:
    """The part ``dicom`` of the section ``convert``; the usual values where there is none.

    With what the entry of ``dataset`` overrides, if it is enabled.
    """
    if file == paths.PARAMS and not file.exists():
        return Tolerances()
    content = _read(file)
    entry = (content.get("datasets") or {}).get(dataset) if dataset else None
    sections = (content.get("convert"), (entry or {}).get("convert"))
    where = f"{file}: convert: dicom"
    stated = [{} if (own := (one or {}).get("dicom")) is None else own for one in sections]
    for one in stated:
        _mapping(one, where)
    built: Tolerances = _build(Tolerances, _merged(*stated), where, Params)
    return built


def _limits(content: Mapping[str, Any], file: Path) -> Limits:
    """The one section that may be left out: no output depends on its values."""
    section = _section(content, "limits", file)
    limits: Limits = _build(Limits, section or asdict(Limits()), f"{file}: limits", Params)
    return limits


def presets_as(whole: type[P], file: Path = paths.PARAMS) -> dict[str, P]:
    """The parameters that each entry of ``presets`` gives."""
    content = _read(file, whole)
    return {
        str(name): _with(content, entry, f"{file}: presets.{name}", file, whole)
        for name, entry in _section(content, "presets", file).items()
    }


def _with(content: dict[str, Any], entry: Any, where: str, file: Path, whole: type[P]) -> P:
    entry = {} if entry is None else entry
    _mapping(entry, where)
    _no_unknown(entry, _OVERRIDABLE, where, whole)
    sections: dict[str, Any] = {"limits": _limits(content, file)}
    for field in dataclasses.fields(whole):
        if field.name in sections:
            continue
        section = _section(content, field.name, file)
        kind = typing.get_type_hints(whole)[field.name]
        sections[field.name] = _build(kind, section, f"{file}: {field.name}", whole)
        override = entry.get(field.name)
        if override is not None:
            place = f"{where}: {field.name}"
            _mapping(override, place)
            sections[field.name] = _build(kind, _merged(section, override), place, whole)
    return whole(**sections)


def _read(file: Path, whole: type[Params] = Params) -> dict[str, Any]:
    import yaml  # here: a model states its parameters itself, where no YAML is installed

    from pipeline.params.strict_yaml import StrictLoader

    try:
        length = files.require_regular(file).stat().st_size
        if length > _MOST_BYTES:
            raise Problem(
                f"expected a parameter file of at most {_MOST_BYTES:,} bytes, got {length:,}",
                where=file,
                remedy=_REMEDY,
            )
        content = yaml.load(file.read_text("utf-8"), StrictLoader)  # noqa: S506  # a SafeLoader
    except FileNotFoundError:
        home = f"the project's root, {_ROOT}" if _in_checkout() else f"a folder with {paths.PARAMS}"
        raise Problem(
            "expected the parameter file, found none",
            where=file.resolve(),
            remedy=f"Run from {home}, or name the file with --params.",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise Problem(f"expected YAML, got {_fault(error)}", where=file, remedy=_REMEDY) from None
    _mapping(content, str(file))
    try:
        _no_unknown(content, _TOP, str(file), whole)
    except Problem as problem:
        if Path.cwd() == _ROOT or not _in_checkout():
            raise
        other = f" (Or is it another project's? This one's is {_ROOT / paths.PARAMS}.)"
        raise Problem(problem.what, where=problem.where, remedy=problem.remedy + other) from None
    return dict(content)


def _in_checkout() -> bool:
    """Whether this code lies beside the project's own parameters; installed, it does not."""
    return (_ROOT / paths.PARAMS).is_file()


def _fault(error: Exception) -> str:
    """What is wrong with a file that is no YAML, and in which line."""
    import yaml

    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        shape = isinstance(error, yaml.parser.ParserError | yaml.scanner.ScannerError)
        hint = " (is it indented like its neighbours?)" if shape else ""
        return f"{error.problem} in line {error.problem_mark.line + 1}{hint}"
    return str(error)


def _section(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    section = content.get(name)
    section = {} if section is None else section
    _mapping(section, f"{file}: {name}")
    return dict(section)


def _merged(base: Any, override: Any) -> Any:
    """``base`` with the leaves of ``override``; mappings are merged, all else is replaced."""
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    merged = dict(base)
    for key, value in override.items():
        merged[key] = _merged(base[key], value) if key in base and key not in _LEAVES else value
    return merged


def _build(kind: Any, value: Any, where: str, whole: type[Params]) -> Any:
    """``value`` from YAML as ``kind``, a dataclass or a simple type; errors name ``where``.

    ``whole``: all sections there are, for the hint where an unknown key belongs.
    """
    if dataclasses.is_dataclass(kind):
        return _built_section(kind, value, where, whole)
    _finite(value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(
            _build(part, item, where, whole) for part, item in zip(arguments, value, strict=True)
        )
    if origin is list and isinstance(value, list):
        return [_build(arguments[0], item, where, whole) for item in value]
    if origin is dict and isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {
            key: _build(arguments[1], item, f"{where}.{key}", whole) for key, item in value.items()
        }
    if kind is Any or (origin is types.UnionType and type(value) in arguments):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    hint = " (YAML reads 1e-3 as text; write 1.0e-3)" if _is_number(value) else ""
    raise Problem(
        f"expected {wanted}, got {shown(value)} of type {type(value).__name__}{hint}",
        where=where,
        remedy=_REMEDY,
    )


def _built_section(kind: Any, value: Any, where: str, whole: type[Params]) -> Any:
    """A mapping from YAML as the dataclass ``kind``, with exactly its keys."""
    _mapping(value, where)
    hints = _fields(kind)
    _no_unknown(value, hints, where, whole)
    missing = [name for name in hints if name not in value and not _may_be_left_out(kind, name)]
    if missing:
        raise Problem(f"expected the key {missing[0]!r}, found none", where=where, remedy=_REMEDY)
    built = {
        name: _build(hints[name], value[name], f"{where}: {name}", whole)
        for name in hints
        if name in value
    }
    try:
        return kind(**built)
    except OutOfRange as error:
        key, reason = error.args
        place = where if where.endswith(f" {key}") else f"{where}: {key}"
        raise Problem(reason, where=place, remedy=_REMEDY) from None


def _fields(kind: Any) -> dict[str, Any]:
    """The parameters of a section with their types."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _may_be_left_out(kind: Any, name: str) -> bool:
    """Whether a parameter, or all of a section, has a usual value."""
    return any(getattr(one, "PARTIAL", False) for one in (kind, _fields(kind)[name]))


def _finite(value: Any, where: str) -> None:
    """Raise :class:`Problem` for .inf and .nan, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Problem(f"expected a finite number, got {value}", where=where, remedy=_REMEDY)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _finite(part, where)


def _is_number(text: object) -> bool:
    """Whether it is text that Python, unlike YAML, reads as a number."""
    try:
        return isinstance(text, str) and float(text) is not None
    except ValueError:
        return False


def _mapping(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise Problem(
            f"expected a mapping of keys to values, got {shown(value)}",
            where=where,
            remedy=_REMEDY,
        )


def _no_unknown(
    value: Mapping[str, Any], known: typing.Iterable[str], where: str, whole: type[Params]
) -> None:
    known = sorted(known)
    for key in value:
        if key in known:
            continue
        section = where.rpartition(" ")[2]
        if remedy := _MOVED.get(f"{section}.{key}") or _MOVED.get(str(key)):
            raise Problem(f"the parameter {key!r} no longer exists", where=where, remedy=remedy)
        raise Problem(
            f"expected keys among {', '.join(known)}, got {shown(key)}",
            where=where,
            remedy=_place_of(str(key), known, whole),
        )


def _place_of(key: str, known: typing.Sequence[str], whole: type[Params]) -> str:
    """The remedy for an unknown key: it is at the wrong level, or misspelt."""
    homes = [home for home in _homes(whole) if home.rpartition(".")[2] == key]
    above = " or ".join(home.rpartition(".")[0] for home in homes if "." in home)
    if key in _TOP:
        inside = ", or indented below a dataset's name" if key in _OVERRIDABLE else ""
        return f"Write '{key}:' at the margin{inside}."
    if above:
        return f"{key!r} belongs to {above}: indent it below that."
    if key in datasets_spec.names():
        return f"A dataset stands below 'datasets:', indented by two: '  {key}:'."
    near = difflib.get_close_matches(key, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else _REMEDY


def _homes(kind: type, above: str = "") -> typing.Iterator[str]:
    """The dotted path of every key of a dataclass: train, train.network, train.network.channels."""
    for name, hint in typing.get_type_hints(kind).items():
        yield above + name
        if dataclasses.is_dataclass(hint):
            yield from _homes(typing.cast(type, hint), f"{above}{name}.")
