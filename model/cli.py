"""flexunet <verb> ...: every verb of the project by one name, as an installed package has it.

``python -m pipeline`` and ``python -m model`` have the same verbs; a deep-learning library is
imported by a verb that needs one, and by no other.
"""

from __future__ import annotations

import argparse

from model import __main__ as model
from pipeline import __main__ as pipeline


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can correct."""
    return pipeline.guarded(
        lambda: _run(_parser().parse_args(arguments)), pipeline.debug_wanted(arguments)
    )


def console() -> None:
    """The command ``flexunet``."""
    pipeline.end(main())


def _run(options: argparse.Namespace) -> None:
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flexunet",
        description="From brain scans to leak-free datasets, trained FlexUNets and their scores.",
        epilog="Example: flexunet check data/dataset/virtual_mni152",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for floor in (pipeline, model):
        known = set(verbs.choices)
        floor.add_verbs(verbs, parser.prog)
        for verb in set(verbs.choices) - known:
            verbs.choices[verb].set_defaults(run=floor.run)
    return parser


if __name__ == "__main__":
    console()
