"""python -m model <train|evaluate> [dataset]: parse, load parameters, call."""

from __future__ import annotations

import argparse
import sys

import datasets_spec
from pipeline import params
from pipeline.__main__ import common_options, guarded

_HELP = {
    "train": "train a FlexUNet on data/dataset/<dataset>",
    "evaluate": "score it on the test split, in the source's own grid",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can mend."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _run(options), options.debug)


def _run(options: argparse.Namespace) -> None:
    for dataset in [options.dataset] if options.dataset else params.enabled(options.params):
        settings = params.load(dataset, options.params)
        if options.verb == "train":  # imported late, so that --help and errors come at once
            from model.train import train

            train(dataset, settings)
        else:
            from model.evaluate import evaluate

            evaluate(dataset, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model",
        description="Train and score FlexUNets.",
        epilog="Example: python -m model train virtual_mni152",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb, told in _HELP.items():
        example = f"Example: python -m model {verb} virtual_mni152"
        one = verbs.add_parser(verb, help=told, description=told, epilog=example)
        names = ", ".join(datasets_spec.names())
        one.add_argument("dataset", nargs="?", help=f"default: all enabled; known: {names}")
        common_options(one)
    return parser


if __name__ == "__main__":
    sys.exit(main())
