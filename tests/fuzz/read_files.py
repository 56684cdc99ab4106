"""Readers of folders of pairs, manifests, parameters, archives, scores and models."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import datasets_spec
from model import params
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.params import reader
from pipeline.splits import folders, leaks
from tests.conftest import FIXTURES, PROJECT
from tests.fuzz import archives, tables, texts, workplace
from tests.fuzz.reader import Reader, Trial, limited, lines_fault, printed_fault
from tests.fuzz.trees import Input, of_folder
from tests.support import cohort


def _check(files: tuple[Path, ...], made: Input) -> list[leaks.Violation]:
    return list(limited(folders.check, files[0], 1))


def _check_fault(trial: Trial) -> str:
    if len(leaks.table(trial.result).splitlines()) != len(leaks.PROMISES):
        return "a table with another number of lines than promises"
    promises = {finding.promise for finding in trial.result}
    changed = trial.made.origin == "ours" and any(
        trial.made.tree.get(name) != entry
        for name, entry in trial.seed.tree.items()
        if name.endswith(".png")
    )
    if changed and trial.made.tree.get(paths.MANIFEST) == trial.seed.tree[paths.MANIFEST]:
        broken = promises & {leaks.UNCHANGED, leaks.PAIRED, leaks.READABLE}
        return "" if broken else "a changed picture of ours passes"
    return lines_fault(leaks.table(trial.result).splitlines())


def _read_manifest(files: tuple[Path, ...], made: Input) -> list[manifest.Pair]:
    return list(manifest.read(files[0]))


def _params_seeds() -> list[Input]:
    """The project's own file, and a short one without presets and anchors."""
    content = (PROJECT / paths.PARAMS).read_bytes()
    short = {key: value for key, value in yaml.safe_load(content).items() if key != "presets"}
    short["datasets"] = {cohort.DATASET: {"split": {"mini_test": 3}}, "aisd": None}
    files = {"params.yaml": content, "short": yaml.safe_dump(short).encode()}
    name = paths.PARAMS.as_posix()
    return [Input(origin, {name: one}, (name,)) for origin, one in files.items()]


def _load(files: tuple[Path, ...], made: Input) -> list[object]:
    file = files[0]
    names = reader.enabled(file)
    return [reader.limits(file), params.presets(file), params.load(names[0], file)]


def _params_fault(trial: Trial) -> str:
    return next((fault for one in trial.result for fault in _odd_values(one)), "")


def _odd_values(value: Any, name: str = "it") -> Iterator[str]:
    """Numbers that are not finite, and fields whose values are of another type than they say."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            kind = {"int": int, "float": float, "str": str, "bool": bool}.get(str(field.type))
            part = getattr(value, field.name)
            if kind is not None and type(part) is not kind:
                yield f"{field.name} of the type {type(part).__name__}"
            yield from _odd_values(part, field.name)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _odd_values(part, str(key))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _odd_values(part, name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name} that is not finite"


def _load_model(files: tuple[Path, ...], made: Input) -> Any:
    from model.inference.member import Member
    from pipeline.runtime import modelfile

    return modelfile.read(files[0]), Member.of(files[0])


def _small_settings() -> params.Params:
    return cohort.write_params()


def _model_fault(trial: Trial) -> str:
    record, member = trial.result
    if not isinstance(record, dict):
        return "a provenance that is no mapping"
    px = _small_settings().train.network
    found = member.of_pictures([np.full((px.image_px, px.image_px), 100, np.uint8)])
    whole = member.facts.network.picture_px or px.image_px
    classes = len(datasets_spec.load(cohort.DATASET).dataset.label_map)
    if found.shape != (1, whole, whole, classes):
        return "a network of another shape"
    if not np.isfinite(found).all() or abs(found.sum(axis=-1) - 1).max() > 1e-3:
        return "a network that gives no probabilities"
    return ""


def _compare(files: tuple[Path, ...], made: Input) -> None:
    from model.compare import compare

    compare(files[0], files[1])


def _compare_fault(trial: Trial) -> str:
    odd = re.search(r"\b(?:nan|inf)\b", trial.printed)
    return printed_fault(trial) or ("numbers that are not finite" if odd else "")


def _report(files: tuple[Path, ...], made: Input) -> str:
    from pipeline.report import report

    report(reader.enabled(), paths.PARAMS)
    return (paths.REPORT / "index.html").read_text("utf-8")


def _report_fault(trial: Trial) -> str:
    if "<script>alert(1)" in trial.result:
        return "a script of the input stands in the page"
    return ""


def _archive_seeds() -> list[Input]:
    return archives.seeds(of_folder(FIXTURES / "msd_hippocampus" / "raw", "**/*_001.nii.gz"))


def _unpack(files: tuple[Path, ...], made: Input) -> Path:
    from pipeline.sources.unpack import unpack

    target = Path("unpacked").resolve()
    target.mkdir()
    unpack(files[0], target)
    return target


def _unpack_fault(trial: Trial) -> str:
    """Links, devices, odd modes, or sound members with other bytes than they had."""
    for here, inner, names in os.walk(trial.result):
        for path in (Path(here, name) for name in (*inner, *names)):
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return f"unpacked something that is no file ({stat.filemode(mode)[0]})"
            if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
                return "unpacked a setuid file"
            if not os.access(path, os.R_OK) or not mode & stat.S_IRUSR:
                return "unpacked a file that its owner may not read"
    name = next(iter(trial.made.tree))
    if trial.made.tree[name] != trial.seed.tree.get(name):
        return ""
    for member, content in trial.seed.packed.items():
        if (trial.result / member).read_bytes() != content:
            return "another file than was packed"
    return ""


READERS = (
    Reader("check", tables.layout_seeds, tables.LAYOUT_MUTATIONS, _check, _check_fault),
    Reader(
        "manifest",
        tables.manifest_seeds,
        tables.MANIFEST_MUTATIONS,
        _read_manifest,
        lambda trial: tables.fault(trial.result),
    ),
    Reader("params", _params_seeds, texts.MUTATIONS, _load, _params_fault),
    Reader("unpack", _archive_seeds, archives.MUTATIONS, _unpack, _unpack_fault),
    Reader("compare", tables.runs_seed, texts.MUTATIONS, _compare, _compare_fault, 0.7),
    Reader(
        "report",
        workplace.report_seed,
        (*texts.MUTATIONS, *tables.LAYOUT_MUTATIONS),
        _report,
        _report_fault,
        heavy=True,
    ),
    Reader(
        "model",
        workplace.model_seed,
        archives.MODEL_MUTATIONS,
        _load_model,
        _model_fault,
        2.0,
        heavy=True,
    ),
)
