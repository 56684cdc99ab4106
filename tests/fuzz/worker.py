"""A process that reads inputs for a campaign: a request (JSON) a line in, a verdict a line out.

``python -m tests.fuzz.worker FOLDER LIMIT_MB``. What readers and their libraries print goes to
``FOLDER/log``. On SIGUSR1 it writes to ``FOLDER/dump`` where its threads stand, also from within
a library that does not return.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path

from tests.fuzz.guard import Guard
from tests.fuzz.judge import Judge


def main(folder: Path, limit_mb: float) -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    dump = (folder / "dump").open("w")
    faulthandler.enable(dump)
    faulthandler.register(signal.SIGUSR1, dump, all_threads=True)
    guard = Guard(folder / "input", folder / "tmp")
    judges: dict[str, Judge] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["reader"]
        if name not in judges:
            judges[name] = Judge(name, folder / "input", guard, limit_mb)
        answer = {"ready": name}
        if "input" in request:
            answer = judges[name].judged(**request["input"]).as_dict()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
