"""python -m model <verb> ...: parse, load parameters, call."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.__main__ import (
    debug_option,
    debug_wanted,
    end,
    guarded,
    params_option,
    wanted_datasets,
)

if TYPE_CHECKING:
    from model import params
    from pipeline.__main__ import Verbs

_HELP = {
    "preflight": "check every dataset's name and parameters, before any work begins",
    "inspect": "list and draw the network: levels, parameters, GFLOP, receptive field",
    "train": "train a FlexUNet on data/dataset/<dataset>",
    "evaluate": "score it on the test split, in the source's own grid",
    "compare": "what one run does better than another on the same test cases, paired",
    "predict": "masks of a folder of PNG or JPEG pictures, at their own size",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can correct."""
    return guarded(lambda: run(_parser().parse_args(arguments)), debug_wanted(arguments))


def run(options: argparse.Namespace) -> None:
    """Run the verb that the options of :func:`add_verbs` name."""
    if options.verb == "preflight":
        from model.preflight import preflight

        preflight(options.params)
        return
    if options.verb == "compare":
        from model.compare import compare

        compare(options.run_a, options.run_b)
        return
    from model import params

    for dataset in wanted_datasets(options):
        _of_dataset(options, dataset, params.load(dataset, options.params))


def _of_dataset(options: argparse.Namespace, dataset: str, settings: params.Params) -> None:
    from pipeline.pairs import identities
    from pipeline.runtime import shortages

    with shortages.named(f"{options.verb} {dataset}"), identities.explaining(dataset):
        if options.verb == "train":  # imported late, so that --help and errors come at once
            from model.train import train

            train(dataset, settings)
        elif options.verb == "inspect":
            from model.inspect import inspect

            inspect(dataset, settings)
        elif options.verb == "predict":
            from model.predict import predict

            predict(
                dataset,
                settings,
                options.input,
                options.output,
                options.probabilities,
                options.overlays,
            )
        else:
            from model.evaluate import evaluate

            evaluate(dataset, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model",
        description="Inspect, train, score and use FlexUNets.",
        epilog="Example: python -m model train virtual_mni152",
    )
    add_verbs(parser.add_subparsers(dest="verb", required=True, metavar="verb"), parser.prog)
    return parser


def add_verbs(verbs: Verbs, prog: str) -> None:
    """Add the model's verbs with their options to a parser that is called by ``prog``."""
    import datasets_spec

    for verb, purpose in _HELP.items():
        example = {
            "preflight": "",
            "compare": "runs/before runs/after",
            "predict": "virtual_mni152 --input pictures --output masks",
        }.get(verb, "virtual_mni152")
        one = verbs.add_parser(
            verb,
            help=purpose,
            description=purpose,
            epilog=f"Example: {prog} {verb} {example}".rstrip(),
        )
        names = ", ".join(datasets_spec.names())
        if verb == "compare":
            one.add_argument("run_a", type=Path, help="a run's folder, as evaluate filled it")
            one.add_argument("run_b", type=Path, help="another run's folder")
        elif verb == "predict":
            one.add_argument("dataset", help=f"whose model to use; known: {names}")
            one.add_argument("--input", type=Path, required=True, help="folder of pictures")
            one.add_argument("--output", type=Path, required=True, help="folder for the masks")
            one.add_argument("--probabilities", action="store_true", help="also <name>.npz")
            one.add_argument("--overlays", action="store_true", help="also overlays/<name>.png")
        elif verb != "preflight":
            one.add_argument("dataset", nargs="?", help=f"default: all enabled; known: {names}")
        if verb != "compare":
            params_option(one)
        debug_option(one)


if __name__ == "__main__":
    end(main())
