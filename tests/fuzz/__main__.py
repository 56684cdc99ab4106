"""python -m tests.fuzz: parse, run a campaign or one input, print the table."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import readers, trees, workplace
from tests.fuzz.campaign import Campaign, Failure, described, table
from tests.fuzz.judge import FAILURES
from tests.fuzz.maker import Maker
from tests.fuzz.trees import Input
from tests.fuzz.watch import Worker


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 1 if any input failed."""
    options = _parser().parse_args(arguments)
    with TemporaryDirectory(prefix="fuzz-") as scratch:
        if options.replay:
            return _replay(options, Path(scratch))
        return _campaign(options, Path(scratch))


def _campaign(options: argparse.Namespace, scratch: Path) -> int:
    names = options.only or [reader.name for reader in readers.READERS]
    campaign = Campaign(
        names,
        scratch,
        options.seed,
        options.minutes,
        options.inputs,
        options.workers,
        options.seconds,
        options.megabytes,
    )
    campaign.run()
    print(table(campaign.counts))
    failures = sorted(campaign.failures.values(), key=_order)
    for failure in failures:
        print(f"\n{described(failure)}")
    if options.keep:
        for failure in failures:
            _keep(failure.identity, options.keep, scratch)
    print(f"\n{campaign.done} inputs, {len(failures)} kinds of failure")
    return 1 if failures else 0


def _order(failure: Failure) -> tuple[int, str]:
    return FAILURES.index(failure.verdict.kind), failure.verdict.where


def _replay(options: argparse.Namespace, scratch: Path) -> int:
    name, seed, number = options.replay.rsplit(":", 2)
    if options.keep:
        print(f"kept in {_keep(options.replay, options.keep, scratch)}")
    worker = Worker(scratch / "worker", options.seconds, options.megabytes)
    verdict = worker.judged(name, int(seed), int(number))
    worker.end()
    made = _made(options.replay, scratch)
    print(f"made from: {made.origin}\ndone to it: {'; '.join(made.recipe) or 'nothing'}")
    print(f"{verdict.kind}  {verdict.where}\n    {verdict.words}")
    print(f"    {verdict.seconds:.2f} s, {verdict.mb:.0f} MB, {made.byte_count} bytes")
    return int(verdict.kind in FAILURES)


def _made(identity: str, scratch: Path) -> Input:
    os.environ.setdefault(workplace.VARIABLE, str(scratch / "workplace"))
    name, seed, number = identity.rsplit(":", 2)
    return Maker(name).made(int(seed), int(number))


def _keep(identity: str, folder: Path, scratch: Path) -> Path:
    place = folder / identity.replace(":", "-")
    trees.write(_made(identity, scratch).tree, place)
    return place


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Hostile inputs for every reader: right, or one line.",
        epilog="Example: python -m tests.fuzz --minutes 2 --only nifti",
    )
    names = [reader.name for reader in readers.READERS]
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="default: %(default)s")
    add("--inputs", type=int, default=0, help="so many of each reader, instead of --minutes")
    add("--seed", type=int, default=0, help="other inputs; default: %(default)s")
    add("--only", action="append", metavar="READER", help=f"one of {', '.join(names)}; repeatable")
    add("--workers", type=int, default=2, help="default: %(default)s")
    add("--seconds", type=float, default=20.0, help="limit of one input; default: %(default)s")
    add("--megabytes", type=float, default=1500.0, help="its memory; default: %(default)s")
    add("--keep", type=Path, metavar="FOLDER", help="write the inputs that failed there")
    add("--replay", metavar="ID", help="one input, as READER:SEED:NUMBER")
    return parser


if __name__ == "__main__":
    sys.exit(main())
