"""python -m pipeline <verb> [dataset]: parse, load parameters, call."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import executor, params, paths

_HELP = {
    "fetch": "fill data/raw/<dataset>, or say where to get it; verify what is there",
    "convert": "raw volumes -> square 8-bit images and indexed masks",
    "augment": "warped variants of every pair",
    "split": "patients -> train, valid, test, mini_test; checks for leaks",
    "check": "judge any folder of the layout {train,valid,test}/{images,masks}",
    "doctor": "examine any folder of DICOM files; say which series would be read",
    "report": "one self-contained page of everything that was made",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can mend."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _run(options), options.debug)


def guarded(action: Callable[[], None], debug: bool) -> int:
    """Call ``action``; a :class:`Problem` becomes one line on stderr and exit status 2.

    Being asked to end (SIGTERM) is like Ctrl-C: what is finished is kept, exit status 130.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        action()
    except Problem as problem:
        if debug:
            traceback.print_exc()
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: stopped before the end; what was finished is kept", file=sys.stderr)
        return 130
    except OSError as error:  # no space left, a folder that may not be written to
        if debug:
            traceback.print_exc()
        told = f"expected files that can be read and written, got {error.strerror or error}"
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        print(f"error: {Problem(told, where=' -> '.join(named))}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def params_option(parser: argparse.ArgumentParser) -> None:
    """The option of every verb that obeys parameters."""
    parser.add_argument("--params", type=Path, default=paths.PARAMS, help="default: %(default)s")


def debug_option(parser: argparse.ArgumentParser) -> None:
    """The option of every verb of the project."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _run(options: argparse.Namespace) -> None:
    workers = options.workers or executor.default_workers()
    if options.verb == "check":
        from pipeline import gate

        found = gate.check(options.folder, workers, options.patient)
        print(gate.table(found))
        gate.require(found, options.folder)
        return
    if options.verb == "doctor":
        from pipeline.doctor import doctor

        doctor(options.folder, limits=params.limits(options.params))
        return
    if options.verb == "report":
        from pipeline.report import report

        report(params.enabled(options.params), options.params)
        return
    for dataset in [options.dataset] if options.dataset else params.enabled(options.params):
        if options.verb == "fetch":
            from pipeline.fetch import fetch

            fetch(dataset, workers)
        else:
            _stage(options.verb)(dataset, params.load(dataset, options.params), workers)


def _stage(verb: str) -> Callable[[str, params.Params, int], None]:
    """The stage's function; imported late, so that ``--help`` answers at once."""
    if verb == "convert":
        from pipeline.convert import convert

        return convert
    if verb == "augment":
        from pipeline.augment import augment

        return augment
    from pipeline.split import split

    return split


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="From brain scans to leak-free image/mask pairs.",
        epilog="Example: python -m pipeline fetch virtual_mni152",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb, told in _HELP.items():
        example = "" if verb == "report" else " virtual_mni152"
        example = {"check": " data/dataset/virtual_mni152", "doctor": " scans"}.get(verb, example)
        one = verbs.add_parser(
            verb, help=told, description=told, epilog=f"Example: python -m pipeline {verb}{example}"
        )
        if verb in ("check", "doctor"):
            one.add_argument("folder", type=Path)
        elif verb != "report":
            names = ", ".join(datasets_spec.names())
            one.add_argument("dataset", nargs="?", help=f"default: all enabled; known: {names}")
        if verb == "check":
            told = "the patient in a file's name, for folders without a manifest: '^[0-9]{3}'"
            one.add_argument("--patient", default="", metavar="REGEX", help=told)
        params_option(one)
        one.add_argument("--workers", type=_positive, default=None, help="default: every processor")
        debug_option(one)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
