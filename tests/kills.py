"""Kill every stage at a random moment, run it again, and compare every byte: the kill table.

    python -m tests.kills [--kills 20] [--only STAGE] [--dask | --full-disk] [--shards N]

Kept outside the test suite. A scratch copy of the project with small parameters runs each stage
twice undisturbed: the second run says how long a stage takes, and what differs between the two is
not compared later. Then stages are killed, one after the other, at a moment drawn over their own
duration: the whole process group by SIGKILL or SIGINT, or the leading process alone by SIGTERM, as
a scheduler does. The same command then runs to its end. With ``--dask`` stages run on a cluster of
two workers, and in turn the client, a worker or the scheduler is killed: a worker's end must cost
nothing, and after that of the scheduler the client must end by itself. With ``--full-disk`` nothing
is killed: the project lies on a disk of its own (a tmpfs, which root alone can mount) that has room
for a part of what the stage writes, which must say so; then it has room. Exit status 1 if a command
fails or hangs, if any byte below data, runs or report differs from the undisturbed run's, or if a
process outlives its leader. ``--shards`` keeps pairs in so many shards, and ``--table`` adds the
outcome to a Markdown file. Linux only, since processes are looked for in /proc.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np

from tests.support import cohort, dask
from tests.test_repro import Project

OUTPUTS = ("data", "runs", "report")
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_LEAVE_S = 3.0  # for a process to follow its leader
_LIMIT_S = 600.0  # of any command
_STOP_S = 60.0  # of one that was asked to end
_HUNG = 124
_ADDRESS = re.compile(rb'("shared_object_id": )([0-9]+)')
_TRIES = 5  # a stage can be quicker than it was and end before it is killed
_NO_ROOM = "No space left on device"
_DISK_GB = 4
_BLOCK, _PAUSE_S = 1 << 16, 0.005  # the served archive's speed, so that a kill can meet a download
_VIRTUAL, _REMOTE = cohort.DATASET, "msd_hippocampus"
_PARAMS = {
    "augment": {"variants": {"bent": [{"Elastic": {"sd_px": 1.5, "sigma_px": 8.0}}]}},
    "train": {"epochs": 4, "precision": "float32"},  # what is fastest is another question each time
}
_PREDICTION = (f"runs/{_VIRTUAL}", f"data/raw/{_VIRTUAL}", "--output", "runs/predicted")
_CLIENT, _WORKER, _SCHEDULER, _DISK = "client", "worker", "scheduler", "disk"


@dataclass(frozen=True)
class Stage:
    """A command, and which stage must be through before it ("": none)."""

    name: str
    command: tuple[str, ...]
    after: str = ""


STAGES = (
    Stage("fetch virtual", ("-m", "pipeline", "fetch", _VIRTUAL, "--subset")),  # 4 of its 12
    Stage("fetch tar", ("-m", "pipeline", "fetch", _REMOTE)),
    Stage("convert", ("-m", "pipeline", "convert", _VIRTUAL), "raw"),
    Stage("augment", ("-m", "pipeline", "augment", _VIRTUAL), "convert"),
    Stage("split", ("-m", "pipeline", "split", _VIRTUAL), "augment"),
    Stage("train", ("-m", "model", "train", _VIRTUAL), "split"),
    Stage("evaluate", ("-m", "model", "evaluate", _VIRTUAL), "train"),
    Stage("predict", ("-m", "model", "predict", *_PREDICTION), "evaluate"),
    Stage("report", ("-m", "pipeline", "report"), "evaluate"),
    Stage("dvc repro", ("-m", "dvc", "repro"), "raw"),
)


ON_DASK = ("fetch tar", "convert", "augment", "split", "evaluate", "predict", "dvc repro")


@dataclass
class Kill:
    """What became of one kill; ``early``: the stage came to its own end before each try of it."""

    stage: str
    signal: str
    second: float
    of: float
    victim: str = _CLIENT
    early: bool = False
    status: int = 0
    left: list[str] = field(default_factory=list)
    orphans: int = 0
    rerun: int = 0
    rerun_s: float = 0.0
    files: int = 0
    byte_count: int = 0
    hung: bool = False
    words: str = ""

    @property
    def failed(self) -> bool:
        """Whether a promise is broken."""
        lost = self.victim == _WORKER and self.status != 0
        lost |= self.victim == _DISK and bool(self.words)
        return bool(lost or self.hung or self.rerun or self.files or self.orphans)

    @property
    def missed(self) -> bool:
        """Whether the stage came to its own end: then nothing was tested."""
        return self.early or (self.status == 0 and self.victim != _WORKER)


class Table:
    """The kills of one campaign, in ``folder``; ``project`` is the only place where stages run."""

    def __init__(self, folder: Path, project: Path, stages: Sequence[Stage], seed: int) -> None:
        self.folder, self.project, self.stages = folder, project, stages
        self.random = np.random.default_rng(seed)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # stages would inherit that
        self.environment: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.wanted: dict[str, dict[str, str]] = {}
        self.unstable: dict[str, set[str]] = {}

    def prepare(self) -> None:
        """Run every stage twice undisturbed, and keep how the project stood before and after."""
        for stage in self.stages:
            first: dict[str, str] = {}
            for _turn in range(2):
                self._restore(self._before(stage))
                began = time.monotonic()
                status, text = self._ended(self._begun(stage))
                self.seconds[stage.name] = time.monotonic() - began
                if status:
                    raise RuntimeError(f"{stage.name} fails undisturbed ({status}):\n{text}")
                self.wanted[stage.name] = digests(self.project)
                first = first or self.wanted[stage.name]
            second = self.wanted[stage.name]
            self.unstable[stage.name] = {
                name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
            }
            self._copy(self.project, self.folder / f"after {stage.name}")
            print(f"{stage.name}: {self.seconds[stage.name]:.1f} s undisturbed", flush=True)
            for name in sorted(self.unstable[stage.name])[:5]:
                print(f"  differs between two undisturbed runs, not compared: {name}", flush=True)

    def kill(self, stage: Stage) -> Kill:
        """Kill ``stage`` once, run it again, and compare."""
        sent, victim = self._drawn()
        for _try in range(_TRIES):
            of = self.seconds[stage.name]
            second = float(self.random.uniform(0, of))
            one = Kill(stage.name, sent.name, second, of, victim)
            self._restore(self._before(stage))
            began, started = time.monotonic(), self._begun(stage)
            try:
                started.wait(one.second)
            except subprocess.TimeoutExpired:
                self._send(sent, victim, started)
                break
            self.seconds[stage.name] = time.monotonic() - began
        else:
            one.early = True
        limit_s = _LIMIT_S if victim == _WORKER else _STOP_S
        one.status, text = self._ended(started, limit_s)
        one.hung = one.status == _HUNG
        if "Traceback" in text and sent != signal.SIGKILL:
            one.words = f"a traceback: {text.strip().splitlines()[-1]:.100}"
        one.orphans = self._orphans(started.pid)
        one.left = sorted(unfinished(self.project))
        if victim != _WORKER or one.status:
            self._ready(again=victim != _CLIENT)
            self._rerun(stage, one)
        self._compare(stage, one)
        return one

    def _rerun(self, stage: Stage, one: Kill) -> None:
        began = time.monotonic()
        one.rerun, text = self._ended(self._begun(stage))
        one.rerun_s = time.monotonic() - began
        if one.rerun:
            one.words = text.strip().splitlines()[-1][:200] if text.strip() else "no word"

    def _drawn(self) -> tuple[signal.Signals, str]:
        """The next signal, and whom it is sent."""
        return _SIGNALS[int(self.random.integers(len(_SIGNALS)))], _CLIENT

    def _send(self, sent: signal.Signals, victim: str, started: subprocess.Popen[bytes]) -> None:
        """Kill the victim of a command that runs."""
        if sent == signal.SIGTERM:
            os.kill(started.pid, sent)
        else:
            os.killpg(started.pid, sent)

    def _ready(self, again: bool = True) -> None:
        """Make ready what a command needs beside its project; ``again``: even if it was before."""

    def close(self) -> None:
        """End what :meth:`_ready` started."""

    def _compare(self, stage: Stage, one: Kill) -> None:
        wanted, found = self.wanted[stage.name], digests(self.project)
        apart = [
            name
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name) and name not in self.unstable[stage.name]
        ]
        one.files = len(apart)
        after = self.folder / f"after {stage.name}"
        one.byte_count = sum(different_bytes(self.project / name, after / name) for name in apart)
        if apart:
            one.words = f"{one.words} differs: {', '.join(apart[:3])}".strip()

    def _before(self, stage: Stage) -> Path:
        return self.folder / (f"after {stage.after}" if stage.after else "empty")

    def _restore(self, state: Path) -> None:
        shutil.rmtree(self.project, ignore_errors=True)
        self._copy(state, self.project)
        self._ready()

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """By ``cp -a``, which keeps hard links: the pictures of a split are some."""
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    def _begun(self, stage: Stage) -> subprocess.Popen[bytes]:
        here = str(Path(sys.executable).parent)
        environment = os.environ | {"PATH": here + os.pathsep + os.environ["PATH"]}
        environment |= {"NO_ALBUMENTATIONS_UPDATE": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment |= self.environment
        with (self.folder / "printed").open("wb") as stream:
            return subprocess.Popen(
                [sys.executable, *stage.command],
                cwd=self.project,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _ended(
        self, started: subprocess.Popen[bytes], limit_s: float = _LIMIT_S
    ) -> tuple[int, str]:
        """Exit status and what was printed; what does not end in time is killed, status 124."""
        try:
            status = started.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            status = _HUNG
        return status, (self.folder / "printed").read_text("utf-8", "replace")

    def _orphans(self, session: int) -> int:
        """Processes of a session that outlive its leader; they are ended, one by one."""
        until = time.monotonic() + _LEAVE_S
        while (living := members(session)) and time.monotonic() < until:
            time.sleep(0.1)
        for process in living:
            os.kill(process, signal.SIGKILL)
        return len(living)


class OnDask(Table):
    """Kills of stages that run on a cluster of two workers, started anew for every command."""

    def __init__(self, folder: Path, project: Path, stages: Sequence[Stage], seed: int) -> None:
        super().__init__(folder, project, stages, seed)
        self._turn, self._running = 0, ExitStack()
        self._cluster: dask.Started | None = None

    def _ready(self, again: bool = True) -> None:
        if not again:
            return
        self.close()
        code = {"PYTHONPATH": str(self.project)}
        self._cluster = self._running.enter_context(
            dask.cluster(self.folder / "cluster", knows=self.project)
        )
        for _ in range(2):
            self._cluster.add(env=code)
        self.environment = {"DASK_SCHEDULER_ADDRESS": self._cluster.address, **code}

    def _drawn(self) -> tuple[signal.Signals, str]:
        victims = (_CLIENT, _WORKER, _SCHEDULER)
        victim = victims[self._turn % len(victims)]
        self._turn += 1
        return (super()._drawn()[0], victim) if victim == _CLIENT else (signal.SIGKILL, victim)

    def _send(self, sent: signal.Signals, victim: str, started: subprocess.Popen[bytes]) -> None:
        assert self._cluster is not None
        if victim == _WORKER:
            dask.end(self._cluster.workers[int(self.random.integers(2))])
        elif victim == _SCHEDULER:
            dask.end(self._cluster.scheduler)
        else:
            super()._send(sent, victim, started)

    def close(self) -> None:
        """End the cluster."""
        self._running.close()
        shutil.rmtree(self.folder / "cluster", ignore_errors=True)


class OnFullDisk(Table):
    """Stages on a disk that has room for a part of what they write."""

    def __init__(self, folder: Path, project: Path, stages: Sequence[Stage], seed: int) -> None:
        self._disk = folder / "disk"
        self._disk.mkdir()
        size = ("-o", f"size={_DISK_GB}g")
        subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(self._disk)], check=True)
        super().__init__(folder, self._disk / "project", stages, seed)

    def kill(self, stage: Stage) -> Kill:
        """Let ``stage`` run out of room once, run it again with room, and compare."""
        before = self._before(stage)
        wanted = max(_used(self.folder / f"after {stage.name}") - _used(before), 1)
        room = int(self.random.uniform(0, wanted))
        one = Kill(stage.name, "full", room / 2**20, wanted / 2**20, _DISK)
        self._restore(before)
        ballast = self._disk / "ballast"
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(self._disk).free - room)
        started = self._begun(stage)
        one.status, text = self._ended(started)
        one.hung = one.status == _HUNG
        ballast.unlink()
        if one.status and ("Traceback" in text or _NO_ROOM not in text):
            one.words = f"no word of room: {text.strip().splitlines()[-1]:.100}"
        one.orphans = self._orphans(started.pid)
        one.left = sorted(unfinished(self.project))
        self._rerun(stage, one)
        self._compare(stage, one)
        return one

    def close(self) -> None:
        """Take the disk away."""
        subprocess.run(["umount", "--lazy", str(self._disk)], check=True)


def _used(state: Path) -> int:
    """The bytes that the files of a state take on a disk, each once."""
    files = {(at.st_dev, at.st_ino): at.st_blocks * 512 for at in map(os.lstat, state.rglob("*"))}
    return sum(files.values())


def members(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(file.parent.name))
    return found


def outputs(project: Path) -> Iterator[Path]:
    """Every file below data, runs and report but locks and the trainer's own place."""
    for part in OUTPUTS:
        for file in sorted((project / part).rglob("*")):
            own = file.relative_to(project)
            if file.is_file() and file.suffix != ".lock" and "checkpoint" not in own.parts:
                yield file


def digests(project: Path) -> dict[str, str]:
    """Path below the project -> sha256 of every output."""
    return {
        file.relative_to(project).as_posix(): hashlib.sha256(content(file)).hexdigest()
        for file in outputs(project)
    }


def content(file: Path) -> bytes:
    """A file's bytes; of a model those of its members, less what Keras takes from the moment.

    That is the clock in metadata.json, and the addresses in memory by which config.json says
    which objects are one: they are numbered in their order instead.
    """
    if file.suffix != ".keras" or not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    members.pop("metadata.json", None)
    if "config.json" in members:
        order: dict[bytes, bytes] = {}
        members["config.json"] = _ADDRESS.sub(
            lambda match: match[1] + order.setdefault(match[2], b"%d" % len(order)),
            members["config.json"],
        )
    return b"".join(name.encode() + member for name, member in members.items())


def unfinished(project: Path) -> set[str]:
    """What lies there under a name that is no output's: half-written files, and locks."""
    marks = (".unfinished-", ".old-", ".tmp", ".lock", ".part")
    return {
        path.relative_to(project).as_posix()
        for part in OUTPUTS
        for path in (project / part).rglob("*")
        if path.name.startswith(marks[:2]) or path.name.endswith(marks[2:])
    }


def different_bytes(one: Path, other: Path) -> int:
    """How many bytes of two files differ; all of one, where the other is missing."""
    contents = [content(file) if file.is_file() else b"" for file in (one, other)]
    shared = min(map(len, contents))
    first, second = (np.frombuffer(content[:shared], np.uint8) for content in contents)
    return int((first != second).sum()) + abs(len(contents[0]) - len(contents[1]))


def line(one: Kill) -> str:
    """A kill's row."""
    locks = sum(name.endswith(".lock") for name in one.left)
    left = f"{len(one.left) - locks} and {locks} locks"
    sent = "missed" if one.missed else one.signal
    return (
        f"{one.stage:14} {one.victim:9} {sent:8} {one.second:6.1f} of {one.of:5.1f} s"
        f"  status {one.status:4}  left {left:14}  orphans {one.orphans}"
        f"  rerun {one.rerun} in {one.rerun_s:5.1f} s"
        f"  differing {one.files} files, {one.byte_count} bytes  {one.words}".rstrip()
    )


def _scratch_project(folder: Path, address: str, shards: int) -> Path:
    """A project whose hippocampus comes from ``address``: states "empty" and "after raw"."""
    project = Project(folder / "project")
    project.change(_PARAMS)
    project.change({"convert": {"shards": shards}})
    project.enable(_VIRTUAL)
    digest = hashlib.sha256((folder / "served" / "hippocampus.tar").read_bytes()).hexdigest()
    module = project.folder / "datasets_spec" / f"{_REMOTE}.py"
    cases = len(list(_patients()))
    here = f'RemoteFile("{address}/hippocampus.tar", "sha256:{digest}", unpack=True)'
    source = f"replace(DATASET.source, files=({here},), cases={cases})"
    changed = (
        f"\n\nfrom dataclasses import replace\n\nDATASET = replace(DATASET, source={source})\n"
    )
    module.write_text(module.read_text("utf-8") + changed, "utf-8")
    recipes = project.folder / "pipeline" / "virtual" / "cohorts.py"
    fewer = '\nRECIPES["mni152_t1w"] = Recipe(t1w.make, 4)\n'
    recipes.write_text(recipes.read_text("utf-8") + fewer, "utf-8")
    shutil.rmtree(project.folder / "data")
    Table._copy(project.folder, folder / "empty")
    cohort.write_raw(project.folder / "data" / "raw" / _VIRTUAL, patients=24)
    Table._copy(project.folder, folder / "after raw")
    return project.folder


def _patients() -> Iterable[str]:
    return (f"hippocampus_{number:03d}" for number in range(1, 81))


def _make_archive(file: Path) -> None:
    """Eighty patients in the layout of the Decathlon, about ten megabytes."""
    file.parent.mkdir(parents=True)
    rng = np.random.default_rng(8)
    with tarfile.open(file, "w") as archive:
        for patient in _patients():
            image = rng.normal(300, 50, (30, 36, 28)).astype(np.float32)
            label = np.zeros(image.shape, np.uint8)
            label[8:14, 8:20, 8:20], label[14:20, 8:20, 8:20] = 1, 2
            for part, array in (("imagesTr", image), ("labelsTr", label)):
                content = nib.Nifti1Image(array, np.eye(4)).to_bytes()
                member = tarfile.TarInfo(f"Task04_Hippocampus/{part}/{patient}.nii")
                packed = gzip.compress(content, 1, mtime=0)
                member.name, member.size = f"{member.name}.gz", len(packed)
                archive.addfile(member, io.BytesIO(packed))


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of ``folder`` on the loopback, served slowly."""

    class Slow(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def copyfile(self, source: object, outputfile: object) -> None:
            try:
                while block := source.read(_BLOCK):
                    outputfile.write(block)
                    time.sleep(_PAUSE_S)
            except ConnectionError:  # the reader was killed
                pass

    handler = functools.partial(Slow, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--only", action="append", choices=names, help="repeatable")
    parser.add_argument("--shards", type=int, default=0, help="default: %(default)s")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dask", action="store_true", help="on a cluster of two workers")
    where.add_argument("--full-disk", action="store_true", help="fill the disk instead of killing")
    parser.add_argument("--table", type=Path, help="a Markdown file that takes the outcome")
    options = parser.parse_args(arguments)
    wanted = options.only or (ON_DASK if options.dask else names)
    kills: list[Kill] = []
    with TemporaryDirectory(prefix="kills-") as scratch, ExitStack() as running:
        folder = Path(scratch)
        _make_archive(folder / "served" / "hippocampus.tar")
        address = running.enter_context(_served(folder / "served"))
        project = _scratch_project(folder, address, options.shards)
        kind = OnDask if options.dask else OnFullDisk if options.full_disk else Table
        table = kind(folder, project, _needed(wanted), options.seed)
        running.callback(table.close)
        table.prepare()
        chosen = [stage for stage in STAGES if stage.name in wanted]
        for number in range(options.kills):
            kills.append(table.kill(chosen[number % len(chosen)]))
            print(line(kills[-1]), flush=True)
    if options.table:
        with options.table.open("a", encoding="utf-8") as stream:
            stream.write("\n".join(rows(kills, _PLACES[kind], options.shards)) + "\n")
    return _total(kills)


_PLACES = {
    Table: "processes of one machine",
    OnDask: "a Dask cluster of two workers",
    OnFullDisk: "a disk that has room for a part (MB, not seconds)",
}


def rows(kills: Sequence[Kill], place: str, shards: int) -> Iterator[str]:
    """Kills as a table of Markdown, a row for each stage and victim."""
    yield f"\n## On {place}, {f'{shards} shards' if shards else 'loose files'}\n"
    yield "| stage | killed | times | amid, s | different bytes | hung | orphans | failed after |"
    yield "|---|---|---|---|---|---|---|---|"
    groups: dict[tuple[str, str], list[Kill]] = {}
    for one in kills:
        if not one.missed:
            groups.setdefault((one.stage, one.victim), []).append(one)
    for (stage, victim), own in sorted(groups.items()):
        sent = Counter(one.signal for one in own)
        by = ", ".join(f"{count} {name}" for name, count in sorted(sent.items()))
        moments = ", ".join(f"{one.second:.1f}" for one in own)
        yield (
            f"| {stage} | {victim} | {by} | {moments} of {max(one.of for one in own):.1f}"
            f" | {sum(one.byte_count for one in own)} | {sum(one.hung for one in own)}"
            f" | {sum(one.orphans for one in own)}"
            f" | {sum(bool(one.rerun) for one in own)} |"
        )


def _needed(wanted: Iterable[str]) -> list[Stage]:
    """The wanted stages and those before them, in order."""
    stages = {stage.name: stage for stage in STAGES}
    needed: set[str] = set()
    for name in wanted:
        while name in stages and name not in needed:
            needed.add(name)
            name = stages[name].after
    return [stage for stage in STAGES if stage.name in needed]


def _total(kills: Sequence[Kill]) -> int:
    missed = [one for one in kills if one.missed]
    sent = Counter(one.signal for one in kills if not one.missed)
    failed = [one for one in kills if one.failed]
    print(
        f"{sent.total()} kills ({', '.join(f'{count} {name}' for name, count in sent.items())}):"
        f" {sum(one.files for one in kills)} differing files,"
        f" {sum(one.byte_count for one in kills)} differing bytes,"
        f" {sum(one.orphans for one in kills)} orphans,"
        f" {sum(bool(one.rerun) for one in kills)} failed reruns; {len(failed)} kills failed;"
        f" {len(missed)} missed (the stage came to its own end first)"
    )
    return int(bool(failed) or not sent)


if __name__ == "__main__":
    sys.exit(main())
