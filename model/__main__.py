"""python -m model <train|evaluate> [dataset], compare RUN_A RUN_B: parse, load, call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import datasets_spec
from pipeline import params
from pipeline.__main__ import common_options, guarded

_HELP = {
    "train": "train a FlexUNet on data/dataset/<dataset>",
    "evaluate": "score it on the test split, in the source's own grid",
    "compare": "what one run does better than another on the same test cases, paired",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can mend."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _run(options), options.debug)


def _run(options: argparse.Namespace) -> None:
    if options.verb == "compare":
        from model.compare import compare

        compare(options.run_a, options.run_b)
        return
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
        example = "runs/before runs/after" if verb == "compare" else "virtual_mni152"
        one = verbs.add_parser(
            verb, help=told, description=told, epilog=f"Example: python -m model {verb} {example}"
        )
        if verb == "compare":
            one.add_argument("run_a", type=Path, help="a run's folder, as evaluate filled it")
            one.add_argument("run_b", type=Path, help="another run's folder")
        else:
            names = ", ".join(datasets_spec.names())
            one.add_argument("dataset", nargs="?", help=f"default: all enabled; known: {names}")
        common_options(one)
    return parser


if __name__ == "__main__":
    sys.exit(main())
