"""preflight: report every error that can be known before any work begins.

It is DVC's first stage, on whose output all stages of a dataset depend: without it, a typo below
``train`` would come to light after an hour of ``convert``.
"""

from __future__ import annotations

import logging
from pathlib import Path

import datasets_spec
from datasets_spec.contract import Problem
from model import params
from pipeline import paths
from pipeline.pairs import channels
from pipeline.pairs.variants import Variants
from pipeline.params import reader
from pipeline.runtime import files

_LOG = logging.getLogger(__name__)
_EXPERIMENTS = (".dvc", "tmp", "exps")


def preflight(params_file: Path) -> None:
    """Check every name and parameter of all datasets and members, and write that they fit.

    What is written never changes, so that another dataset makes nothing of the others again.
    Raises :class:`Problem` for the first name, parameter or transform that does not fit.
    """
    names, members = reader.enabled(params_file), reader.members(params_file)
    networks = [(name, params.load(name, params_file)) for name in names]
    networks += [params.load_member(name, params_file) for name in members]
    for name, settings in networks:
        params.ensemble(name, params_file)
        try:
            several = channels.of(datasets_spec.load(name).dataset, settings.convert.in_hu)
            slices = 2 * settings.train.network.neighbours + 1
            Variants(name, settings.augment, (len(several) or 1) * slices)
        except Problem as problem:
            where = f"{params_file}: {problem.where} of {name}"
            raise Problem(problem.what, where=where, remedy=problem.remedy) from None
    _reach_raw_data(names)
    with files.replacing(paths.PREFLIGHT) as unfinished:
        unfinished.write_text("Every parameter of every enabled dataset fits.\n", "utf-8")
    _LOG.info("preflight: the parameters fit, of %s", ", ".join((*names, *members)))


def _reach_raw_data(names: tuple[str, ...]) -> None:
    """Link the project's raw data into the copy of the project that an experiment runs in.

    ``dvc exp run --temp`` and ``--queue`` copy what git tracks, and the raw data is not.
    """
    target = paths.raw(names[0]).parent
    here = Path.cwd()
    for folder in here.parents:
        source = folder.parent.parent.parent / target
        if folder.parts[-3:] == _EXPERIMENTS and source.is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(source.resolve(), target_is_directory=True)
            except OSError as error:  # Windows, for one, lets few people link
                raise Problem(
                    f"expected to link the raw data into the experiment's folder, got {error}",
                    where=here,
                    remedy=f"Let DVC copy it: dvc exp run --copy-paths {target.as_posix()} ...",
                ) from None
