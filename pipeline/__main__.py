"""python -m pipeline <verb> [dataset]: parse, load parameters, call.

Only what Python itself brings is imported at once, so that Ctrl-C finds :func:`guarded` in charge.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pipeline.params import reader as params

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_HELP = {
    "fetch": "fill data/raw/<dataset>, or say where to get it; verify what is there",
    "convert": "raw volumes -> square 8-bit images and indexed masks",
    "augment": "warped variants of every pair",
    "split": "patients -> train, valid, test, mini_test; checks for leaks",
    "check": "judge any folder of the layout {train,valid,test}/{images,masks}",
    "doctor": "examine any folder of DICOM files; say which series would be read",
    "report": "one self-contained page of everything that was made",
}
_PARALLEL = ("fetch", "convert", "augment", "check")
"""Verbs that use several processes."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can mend."""
    return guarded(lambda: run(_parser().parse_args(arguments)), debug_wanted(arguments))


def guarded(action: Callable[[], None], debug: bool) -> int:
    """Call ``action``; an error that a user can mend becomes one line on stderr and status 2.

    Ctrl-C and being asked to end (SIGTERM) give status 130, whatever a library makes of them
    on their way up; what is finished is kept. A reader of the output that leaves (``| head``)
    ends the run in silence, with 141, as a shell tells it.
    """
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    before = {
        one: signal.signal(one, stop)
        for one in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(one) not in (signal.SIG_IGN, None)  # as nohup leaves it
    }
    try:
        from pipeline.runtime import messages

        with messages.on_terminal():
            action()
        sys.stdout.flush()
    except SystemExit:  # argparse's, which has said why
        raise
    except BaseException as error:
        if stopped or isinstance(error, KeyboardInterrupt):
            print("error: stopped before the end; what was finished is kept", file=sys.stderr)
            return 130
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
            return 141
        line = _line(error)
        if line is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {line}", file=sys.stderr)
        return 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def end(status: int) -> NoReturn:
    """End the process; what Ctrl-C would stop now is Python's own tidying."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _line(error: BaseException) -> str | None:
    """What a user is shown; None for a mistake of ours, whose traceback is wanted."""
    from datasets_spec.contract import Problem
    from pipeline.runtime import shortages

    if isinstance(error, Problem):
        return str(error)
    if (problem := shortages.problem_of(error)) is not None:
        return str(problem)
    if isinstance(error, OSError):  # a folder that may not be written to, a disk that fails
        told = f"expected files that can be read and written, got {error.strerror or error}"
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return str(Problem(told, where=" -> ".join(named)))
    return None


def debug_wanted(arguments: list[str] | None) -> bool:
    """Whether ``--debug`` is there, asked before the options are parsed."""
    return "--debug" in (sys.argv[1:] if arguments is None else arguments)


def wanted_datasets(options: argparse.Namespace) -> tuple[str, ...]:
    """The dataset of the command line, that of the DVC stage that runs this, or all enabled.

    dvc.yaml does not write the name into its commands, since a shell would read it: DVC hands
    it over as "convert@aisd" in DVC_STAGE.
    """
    from pipeline.params import reader as params

    stage, _, dataset = os.environ.get("DVC_STAGE", "").partition("@")
    if options.dataset:
        return (options.dataset,)
    if dataset and stage.rpartition(":")[2] == options.verb:
        return (dataset,)
    return params.enabled(options.params)


def params_option(parser: argparse.ArgumentParser) -> None:
    """The option of every verb that obeys parameters."""
    from pipeline import paths

    parser.add_argument("--params", type=Path, default=paths.PARAMS, help="default: %(default)s")


def debug_option(parser: argparse.ArgumentParser) -> None:
    """The option of every verb of the project."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(options: argparse.Namespace) -> None:
    """Run the verb that the options of :func:`add_verbs` name."""
    from pipeline.params import reader as params
    from pipeline.runtime import executor, shortages

    if options.verb == "check":
        from pipeline.check import check

        workers = options.workers or executor.default_workers()
        limits = params.limits(options.params)
        check(options.folder, workers, limits, options.patient, options.all)
        return
    if options.verb == "doctor":
        from pipeline.doctor import doctor

        doctor(options.folder, limits=params.limits(options.params))
        return
    if options.verb == "report":
        from pipeline.report import report

        with shortages.named("report"):
            report(params.enabled(options.params), options.params)
        return
    for dataset in wanted_datasets(options):
        with shortages.named(f"{options.verb} {dataset}"):
            if options.verb == "split":  # linking is bound by the disk
                from pipeline.split import split

                split(dataset, params.load(dataset, options.params))
                continue
            workers = options.workers or executor.default_workers()
            if options.verb == "fetch":
                from pipeline.fetch import fetch

                fetch(dataset, workers, params.limits(options.params), options.subset)
            else:
                _stage(options.verb)(dataset, params.load(dataset, options.params), workers)


def _stage(verb: str) -> Callable[[str, params.Params, int], None]:
    """The stage's function; imported late, so that ``--help`` answers at once."""
    if verb == "convert":
        from pipeline.convert import convert

        return convert
    from pipeline.augment import augment

    return augment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="From brain scans to leak-free image/mask pairs.",
        epilog="Example: python -m pipeline fetch virtual_mni152",
    )
    add_verbs(parser.add_subparsers(dest="verb", required=True, metavar="verb"), parser.prog)
    return parser


def add_verbs(verbs: Verbs, prog: str) -> None:
    """Add the pipeline's verbs with their options to a parser that is called by ``prog``."""
    import datasets_spec

    for verb, told in _HELP.items():
        example = "" if verb == "report" else " virtual_mni152"
        example = {"check": " data/dataset/virtual_mni152", "doctor": " scans"}.get(verb, example)
        one = verbs.add_parser(
            verb, help=told, description=told, epilog=f"Example: {prog} {verb}{example}"
        )
        if verb in ("check", "doctor"):
            one.add_argument("folder", type=Path)
        elif verb != "report":
            names = ", ".join(datasets_spec.names())
            one.add_argument("dataset", nargs="?", help=f"default: all enabled; known: {names}")
        if verb == "fetch":
            told = "fewer cases than published are here on purpose; remembered for later runs"
            one.add_argument("--subset", action="store_true", help=told)
        if verb == "check":
            told = "the patient in a file's name, for folders without a manifest: '^[0-9]{3}'"
            one.add_argument("--patient", default="", metavar="REGEX", help=told)
            one.add_argument(
                "--all", action="store_true", help="name every example, not only three"
            )
        params_option(one)
        if verb in _PARALLEL:
            words = "default: every processor"
            one.add_argument("--workers", type=_positive, default=None, help=words)
        debug_option(one)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text[:9])


if __name__ == "__main__":
    end(main())
