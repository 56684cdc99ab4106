"""python -m pipeline <verb> ...: parse the options, load the parameters, call the verb.

``VERBS`` states what each verb does, its options and the function that runs it. Only the standard
library is imported at once, so that Ctrl-C always meets :func:`guarded`; verbs import the rest.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pipeline.runtime import messages

if TYPE_CHECKING:
    from pipeline.params import reader as params
    from pipeline.runtime.executor import Cluster, Workers

    Verbs = argparse._SubParsersAction[ArgumentParser]
    _Options = argparse._ActionsContainer

_LOG = logging.getLogger("pipeline")  # its own name is __main__ when it is run
_SCHEDULER = "DASK_SCHEDULER_ADDRESS"
Stage = Callable[[str, "params.Params", "Workers"], None]
"""A verb that makes one dataset: of its name, its parameters and the workers."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: what it does, an example, its options, and what runs it."""

    help: str
    example: str
    options: tuple[Callable[[ArgumentParser], None], ...]
    run: Callable[[Namespace], None]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can correct."""
    return guarded(lambda: run(_parser().parse_args(arguments)), debug_wanted(arguments))


def guarded(action: Callable[[], None], debug: bool) -> int:
    """Call ``action``; an error that a user can correct becomes one line on stderr and status 2.

    Ctrl-C and SIGTERM give status 130, even if a library turns them into another exception; what
    is finished is kept. If the reader of the output closes it (``| head``), the run ends silently
    with status 141, which is what a shell reports for SIGPIPE.
    """
    with _stoppable() as stopped, messages.on_terminal():
        try:
            action()
            sys.stdout.flush()
        except SystemExit:  # argparse's, which has printed the reason
            raise
        except BaseException as error:
            if stopped or isinstance(error, KeyboardInterrupt):
                _LOG.error("error: stopped before the end; what was finished is kept")
                return 130
            if isinstance(error, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
                return 141
            line = _line(error)
            if line is None:
                raise
            if debug:
                traceback.print_exc()
            _LOG.error("error: %s", line)
            return 2
    return 0


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Within the block, SIGINT and SIGTERM raise KeyboardInterrupt and are added to the list."""
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    before = {
        one: signal.signal(one, stop)
        for one in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(one) not in (signal.SIG_IGN, None)  # ignored below nohup
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(status: int) -> NoReturn:
    """End the process; Ctrl-C is ignored from here on, while Python cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _line(error: BaseException) -> str | None:
    """The line that a user is shown; None for a bug, which needs its traceback."""
    from datasets_spec.contract import Problem
    from pipeline.runtime import extras, shortages

    if isinstance(error, Problem):
        return str(error)
    if (problem := extras.problem_of(error)) is not None:
        return str(problem)
    if (problem := shortages.problem_of(error)) is not None:
        return str(problem)
    if isinstance(error, OSError):  # a folder that may not be written to, a disk that fails
        what = f"expected files that can be read and written, got {error.strerror or error}"
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return str(Problem(what, where=" -> ".join(named)))
    return None


def debug_wanted(arguments: list[str] | None) -> bool:
    """Whether ``--debug`` is given; needed before the options are parsed."""
    return "--debug" in (sys.argv[1:] if arguments is None else arguments)


def wanted_datasets(options: Namespace) -> tuple[str, ...]:
    """The dataset of the command line, that of the DVC stage that runs this, or all enabled.

    dvc.yaml does not write the name into its commands, because a shell would interpret it: DVC
    passes the stage's name, such as "convert@aisd", in DVC_STAGE.
    """
    from pipeline.params import reader as params

    if options.dataset:
        return (options.dataset,)
    named = named_by_stage(options.verb)
    return (named,) if named else params.enabled(options.params)


def named_by_stage(stage: str) -> str:
    """What the DVC stage that runs this is for, if it is ``stage``; else ""."""
    running, _, name = os.environ.get("DVC_STAGE", "").partition("@")
    return name if running.rpartition(":")[2] == stage else ""


def params_option(parser: ArgumentParser) -> None:
    """``--params``, of every verb that reads parameters."""
    from pipeline import paths

    parser.add_argument("--params", type=Path, default=paths.PARAMS, help="default: %(default)s")


def debug_option(parser: ArgumentParser) -> None:
    """``--debug``, of every verb of the project."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def dataset_option(parser: ArgumentParser, more: str = "") -> None:
    """The option of every verb that works on one dataset, or on all that are enabled."""
    import datasets_spec

    names = ", ".join(datasets_spec.names())
    parser.add_argument("dataset", nargs="?", help=f"default: all enabled; known: {names}{more}")


def _folder_option(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)


def _subset_option(parser: ArgumentParser) -> None:
    text = "fewer cases than published are here on purpose; remembered for later runs"
    parser.add_argument("--subset", action="store_true", help=text)


def _from_option(parser: ArgumentParser) -> None:
    text = "the folder of the raw data behind a URL, such as s3://bucket/aisd: it stays there, and"
    text += " is listed in data/raw/<dataset>; remembered for later runs"
    parser.add_argument("--from", dest="url", default="", metavar="URL", help=text)


def _patient_option(parser: ArgumentParser) -> None:
    text = "the patient in a file's name, for folders without a manifest: '^[0-9]{3}'"
    parser.add_argument("--patient", default="", metavar="REGEX", help=text)


def _all_option(parser: ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="name every example, not only three")


def _suggest_option(parser: ArgumentParser) -> None:
    text = "write all pairs of near-duplicates there, as CSV, grouped into patients"
    parser.add_argument("--suggest", type=Path, default=None, metavar="FILE", help=text)


def _workers_options(parser: ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    text = "processes of this machine; default: one for every processor"
    either.add_argument("--workers", type=positive, default=None, help=text)
    cluster_option(either)


def cluster_option(parser: _Options) -> None:
    """``--cluster``, of every verb whose work a cluster can do."""
    text = f"tcp://scheduler:8786, the workers of a Dask cluster; default: ${_SCHEDULER}, or"
    text += " 'cluster' in the parameter file"
    parser.add_argument("--cluster", default="", metavar="ADDRESS", help=text)


def cluster_of(options: Namespace) -> Cluster | None:
    """The cluster that does the work: of the option, the environment, or the parameter file."""
    from pipeline.params import reader as params
    from pipeline.runtime.executor import Cluster

    address = options.cluster or os.environ.get(_SCHEDULER, "") or params.cluster(options.params)
    return Cluster(address) if address else None


def _workers(options: Namespace) -> Workers:
    from pipeline.runtime import executor

    return options.workers or cluster_of(options) or executor.default_workers()


def _of_each_dataset(options: Namespace, act: Callable[[str], None]) -> None:
    from pipeline.runtime import shortages

    for dataset in wanted_datasets(options):
        with shortages.named(f"{options.verb} {dataset}"):
            act(dataset)


def _run_stage(options: Namespace, stage: Stage) -> None:
    from pipeline.params import reader as params

    workers = _workers(options)
    _of_each_dataset(
        options, lambda dataset: stage(dataset, params.load(dataset, options.params), workers)
    )


def _fetch(options: Namespace) -> None:
    from datasets_spec.contract import Problem
    from pipeline.fetch import fetch
    from pipeline.params import reader as params

    if options.url and not options.dataset:
        raise Problem("expected the dataset that lies there", where="--from", remedy="Name it.")
    workers = _workers(options)
    _of_each_dataset(
        options,
        lambda dataset: fetch(
            dataset,
            workers,
            params.limits(options.params),
            options.subset,
            params.tolerances(options.params, dataset),
            options.url,
        ),
    )


def _convert(options: Namespace) -> None:
    from pipeline.convert import convert

    _run_stage(options, convert)


def _augment(options: Namespace) -> None:
    from pipeline.augment import augment

    _run_stage(options, augment)


def _split(options: Namespace) -> None:
    from pipeline.split import split

    _run_stage(options, split)


def _check(options: Namespace) -> None:
    from pipeline.check import check
    from pipeline.params import reader as params

    limits = params.limits(options.params)
    check(options.folder, _workers(options), limits, options.patient, options.all, options.suggest)


def _doctor(options: Namespace) -> None:
    from pipeline.doctor import doctor
    from pipeline.params import reader as params

    tolerances = params.tolerances(options.params)
    doctor(options.folder, limits=params.limits(options.params), tolerances=tolerances)


def _one_dataset_option(parser: ArgumentParser) -> None:
    parser.add_argument("dataset", help="its name, as in params.yaml")


def _audit(options: Namespace) -> None:
    from pipeline.audit import audit

    audit(options.dataset)


def _drift(options: Namespace) -> None:
    from pipeline.drift import drift
    from pipeline.params import reader as params

    drift(options.dataset, _workers(options), params.limits(options.params))


def _report(options: Namespace) -> None:
    from pipeline.params import reader as params
    from pipeline.report import report
    from pipeline.runtime import shortages

    with shortages.named("report"):
        report(params.enabled(options.params), options.params)


_OF_A_STAGE = (dataset_option, params_option, _workers_options)
VERBS = {
    "fetch": Verb(
        "fill data/raw/<dataset>, or show where to get it; verify what is there",
        "virtual_mni152",
        (dataset_option, _from_option, _subset_option, params_option, _workers_options),
        _fetch,
    ),
    "convert": Verb(
        "raw volumes -> square 8-bit images and indexed masks",
        "virtual_mni152",
        _OF_A_STAGE,
        _convert,
    ),
    "augment": Verb("warped variants of every pair", "virtual_mni152", _OF_A_STAGE, _augment),
    "split": Verb(
        "patients -> train, valid, test, mini_test; checks for leaks",
        "virtual_mni152",
        _OF_A_STAGE,
        _split,
    ),
    "check": Verb(
        "judge any folder of the layout {train,valid,test}/{images,masks}",
        "data/dataset/virtual_mni152",
        (
            *(_folder_option, _patient_option, _all_option, _suggest_option),
            *(params_option, _workers_options),
        ),
        _check,
    ),
    "doctor": Verb(
        "examine any folder of DICOM files; list the series that would be read",
        "scans",
        (_folder_option, params_option),
        _doctor,
    ),
    "audit": Verb(
        "rank labels by how far a network speaks against them that had not seen the patient",
        "virtual_mni152",
        (_one_dataset_option,),
        _audit,
    ),
    "drift": Verb(
        "whether a classifier tells train from valid and test, or one site from the others",
        "virtual_mni152",
        (_one_dataset_option, params_option, _workers_options),
        _drift,
    ),
    "report": Verb(
        "one self-contained page of everything that was made", "", (params_option,), _report
    ),
}


def run(options: Namespace) -> None:
    """Run the verb that the options of :func:`add_verbs` name."""
    VERBS[options.verb].run(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m pipeline",
        description="From brain scans to leak-free image/mask pairs.",
        epilog="Example: python -m pipeline fetch virtual_mni152",
    )
    add_verbs(parser.add_subparsers(dest="verb", required=True, metavar="verb"), parser.prog)
    return parser


def add_verbs(verbs: Verbs, prog: str) -> None:
    """Add the pipeline's verbs with their options to a parser that is called by ``prog``."""
    add_table(VERBS, verbs, prog)


def add_table(table: Mapping[str, Verb], verbs: Verbs, prog: str) -> None:
    """Add the verbs of a floor with their options, and ``--debug``, to a parser."""
    for name, verb in table.items():
        example = f"Example: {prog} {name} {verb.example}".rstrip()
        parser = verbs.add_parser(name, help=verb.help, description=verb.help, epilog=example)
        for add_option in (*verb.options, debug_option):
            add_option(parser)


def positive(text: str) -> int:
    """A whole number of 1 or more, of an option."""
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text[:9])


if __name__ == "__main__":
    end(main())
