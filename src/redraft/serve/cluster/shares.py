"""Process all shares of a job in Ray processes, and merge the outputs: `redraft answer … --ray`.

A share (`--shard`) is a part of the job's items. Ray decides where processes run, and notices lost processes.
If the process of a share is lost, another resumes the share from its output and journal. Ray Data is not
used: its checkpoints guarantee only "at least once", and the outputs already record the finished items.
Processes get and return JSON. For each share, the process opens a model, files and a lock.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from tempfile import NamedTemporaryFile
from typing import Any

from redraft.engines.load import parse_reference, references_of
from redraft.errors import RedraftError, UsageError, crash_of
from redraft.jobs.counting import counted
from redraft.jobs.harness import GO_ON, RunEvent, RunProgress
from redraft.jobs.ids import Share
from redraft.jobs.ledger import InUse
from redraft.jobs.progress import ItemProgress
from redraft.jobs.signals import ended_by_sigterm
from redraft.jobs.stores import matching, url_of
from redraft.revision.runs.merge import MergeResult, merge
from redraft.serve.cluster.connect import Bounds, ClusterError, check_versions, connected, versions

_EACH = 4  # shares per process: while some are slow, the other processes still have work
_POLL = 0.5  # seconds between two polls
_LOSSES = 5  # processes that a share may lose in a row without a new answer
_BUSY = 120  # attempts at a share whose output a lost process still locks
_GRACE = 10.0  # time limit, in seconds, for shares to close their files when the run is stopped
_RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU"}  # Ray's names, in options and in a node's resources
_SERVED = {"remote", "script"}  # kinds of models that need no processor of the cluster


@dataclass(frozen=True)
class ClusterWork:
    """A call of a command's coroutine function, as JSON values. Each share adds its own arguments."""

    function: str  # module and name of the coroutine, such as `redraft.revision.runs.answers:aanswer_file`
    arguments: list[Any]  # its arguments; the last one is the output
    options: dict[str, Any]  # its keyword arguments, without the share
    files: list[str]  # files that every machine must be able to read
    folder: str  # the folder to which paths are relative

    @classmethod
    def of(cls, function: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> ClusterWork:
        """Return the work, with all local paths in it as `files`. Options that are None are left out."""
        told = {name: value for name, value in options.items() if value is not None}
        given = [*arguments, *told.values()]
        paths = [path for each in given for path in (each if isinstance(each, list) else [each])]
        files = [str(path) for path in paths if isinstance(path, Path) and url_of(path) is None]
        words, named = json.loads(json.dumps([arguments, {**told, "quiet": True}], default=str))
        return cls(function, words, named, files, str(Path.cwd()))

    def to_json(self) -> str:
        """Return the work as JSON, for a process of Ray."""
        return json.dumps(asdict(self))


class ShareActor:
    """Makes shares, one at a time, and reports progress."""

    def __init__(self, work: str) -> None:
        self._work = ClusterWork(**json.loads(work))
        self._at: RunProgress | None = None

    async def hello(self) -> str:
        """Return this machine's versions, name and node, and the first file that the machine cannot read."""
        node = os.getppid()  # Ray's process for this node; test clusters have several nodes on one machine
        own = {"machine": socket.gethostname(), "node": node, "lacks": self._lacks()}
        return json.dumps({**versions(), **own})

    def _lacks(self) -> str:
        if not self._work.files:
            return ""
        try:
            os.chdir(self._work.folder)
        except OSError:
            return self._work.folder
        return next((file for file in self._work.files if not os.access(file, os.R_OK)), "")

    async def make(self, share: str, limits: str) -> str:
        """Make a share within limits, and return its result."""
        self._at = None
        work, more = self._work, {"shard": share, "on_event": self._note, **json.loads(limits)}
        try:
            made = await resolve_name(work.function)(*work.arguments, **{**work.options, **more})
        except RedraftError as error:
            fault: dict[str, Any] = {"message": error.message, "hint": error.hint}
            return json.dumps({**fault, "status": error.exit_status, "in_use": isinstance(error, InUse)})
        counts: Mapping[str, Any] = {"done": made.found + made.added, "failed": made.failed}
        spent = {"tokens": made.job.spent.tokens, "usd": made.job.spent.usd}
        return json.dumps({**counts, **spent, "status": made.exit_status, "limit": made.limit})

    async def progress(self) -> str:
        """Return the progress of the current share."""
        names = ("done", "failed", "tokens", "usd") if self._at else ()
        return json.dumps({name: getattr(self._at, name) for name in names})

    def _note(self, event: RunEvent) -> None:
        if isinstance(event, RunProgress):
            self._at = event


@dataclass(frozen=True)
class SharesResult:
    """The result of a run whose input was divided into shares."""

    merged: MergeResult
    failed: int  # items that failed in this run; the same command tries them again
    status: int  # the exit status of the command
    limit: str  # the limit that ended the run, in words
    rows: list[tuple[str, str]]  # the summary

    def __str__(self) -> str:
        return "\n".join([str(self.merged), *(f"{name:<10} {text}" for name, text in self.rows)])


def make_shares(
    work: ClusterWork,
    out: Path,
    *,
    address: str,
    pool: Bounds | None,
    quiet: bool = False,
    say: Callable[[str], None],
) -> SharesResult:
    """Make all shares of a job on Ray, and merge the outputs into `out`.

    `pool` limits how many processes make shares at once. Ray may start machines for `pool.least` processes.
    Without `pool`, as many processes run as the cluster has room for.

    Raises:
        MissingExtra, ClusterError: Ray is missing, there is no cluster, or the cluster cannot do the work.
        RedraftError, KeyboardInterrupt: A share or the run ended early. The shares keep the results so far.
    """
    cpus = max(pool.least if pool else 1, os.cpu_count() or 1)
    with _marked(work, out) as work, connected(address, cpus=cpus) as ray:
        needs = _needs(work.options, ray.nodes())
        pool = pool or Bounds(1, _room(ray.nodes(), needs))
        count = _count(out, pool.most, say)
        shares = [Share(index, count) for index in range(count)]
        run = _Run(ray, work, needs, pool, deque(shares))
        # Ray prints a page of text for each lost process. The progress line counts them.
        with (
            run.progress(count, quiet=quiet),
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
        ):
            try:
                with ended_by_sigterm():  # Ray has a handler of its own
                    run.all()
            except (KeyboardInterrupt, SystemExit):
                say(f"{counted(run.line.done, 'item')} finished in {counted(count, 'share')}; {GO_ON}.")
                raise
            finally:
                run.stop()
        return run.result(merge(out, [share.path(out) for share in shares]))


@contextmanager
def _marked(work: ClusterWork, out: Path) -> Iterator[ClusterWork]:
    if url_of(out):
        yield work
        return
    try:
        mark = NamedTemporaryFile(prefix=f".{out.name}.", dir=out.parent)  # noqa: SIM115  (closed below)
    except OSError as error:
        hint = f"mkdir -p {out.parent}" if isinstance(error, FileNotFoundError) else "Name another output."
        raise UsageError(f"cannot write to {out.parent}: {error.strerror}.", hint=hint) from None
    with mark:
        yield replace(work, files=[*work.files, mark.name])


def _needs(options: Mapping[str, Any], nodes: list[dict[str, Any]]) -> dict[str, float]:
    given = [options.get(role) or [] for role in ("model", "critic", "judge")]
    names = [name for each in given for name in ([each] if isinstance(each, str) else each)] or ["default"]
    if {parse_reference(ref).kind for name in names for ref in references_of(name)} <= _SERVED:
        return {"num_cpus": 1}
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if any(has.get("GPU") for has in alive):
        return {"num_cpus": 1, "num_gpus": 1}
    smallest = min((has["CPU"] for has in alive if has.get("CPU")), default=1.0)  # a head may offer none
    return {"num_cpus": float(options.get("threads") or smallest)}


def _room(nodes: list[dict[str, Any]], needs: Mapping[str, float]) -> int:
    if not (fit := sum(_fitting(node["Resources"], needs) for node in nodes if node["Alive"])):
        wanted = " and ".join(f"{number:g} {_RESOURCES[name]}" for name, number in needs.items())
        raise ClusterError(f"no machine of the cluster has {wanted}.", hint="Set a lower --threads.")
    return fit


def _fitting(has: Mapping[str, float], needs: Mapping[str, float]) -> int:
    return min(int(has.get(_RESOURCES[name], 0) // number) for name, number in needs.items())


def _count(out: Path, most: int, say: Callable[[str], None]) -> int:
    parts = matching(out.with_name(f"{out.stem}-*-of-*{out.suffix}")) if url_of(out) else out.parent.iterdir()
    named = re.compile(re.escape(out.stem) + r"-\d{5}-of-(\d{5})" + re.escape(out.suffix))
    found = [(path, int(match[1])) for path in parts if (match := named.fullmatch(path.name))]
    counts = {count for _, count in found}
    if len(counts) == 1:  # these shares resume
        return counts.pop()
    if counts:  # merged first, so that nothing is made twice
        say(f"earlier runs made {' and '.join(map(str, sorted(counts)))} shares, which are merged first.")
        merge(out, [path for path, _ in found])
    return _EACH * most


@dataclass
class _Actor:
    handle: Any
    machine: str = ""
    share: Share | None = None
    at: dict[str, Any] = field(default_factory=dict)  # the progress of its share


@dataclass
class _Run:
    ray: Any
    work: ClusterWork
    needs: Mapping[str, float]
    pool: Bounds
    waiting: deque[Share]
    actors: dict[Any, _Actor] = field(default_factory=dict)  # by the pending reply of each
    idle: list[_Actor] = field(default_factory=list)
    made: dict[int, dict[str, Any]] = field(default_factory=dict)  # the result of each share
    losses: Counter[int] = field(default_factory=Counter)  # processes lost in a row, by share; -1: no share
    reached: dict[int, int] = field(default_factory=dict)  # items done when a process was lost, by share
    begun_again: int = 0
    machines: set[tuple[str, int]] = field(default_factory=set)
    busy: Counter[int] = field(default_factory=Counter)

    def progress(self, count: int, *, quiet: bool) -> ItemProgress:
        self.count, self.line = count, ItemProgress(quiet=quiet)
        return self.line

    def all(self) -> None:
        while self.waiting or any(actor.share for actor in self.actors.values()):
            self._grow()
            self._give()
            ready, _ = self.ray.wait([*self.actors], num_returns=1, timeout=_POLL)
            for reply in ready:
                self._take(self.actors.pop(reply), reply)
            self._look()

    def _grow(self) -> None:
        there = len(self.actors) + len(self.idle)
        if self.idle or not self.waiting or there >= self.pool.most:
            return
        if there < self.pool.least or _fitting(self.ray.available_resources(), self.needs):
            kind = self.ray.remote(ShareActor).options(**self.needs, max_restarts=0, max_task_retries=0)
            actor = _Actor(kind.remote(self.work.to_json()))
            self.actors[actor.handle.hello.remote()] = actor

    def _give(self) -> None:
        while self.idle:
            actor = self.idle.pop()
            if not self.waiting:
                self.ray.kill(actor.handle)
                continue
            actor.share, actor.at = self.waiting.popleft(), {}
            self.actors[actor.handle.make.remote(str(actor.share), json.dumps(self._limits()))] = actor

    def _limits(self) -> dict[str, Any]:
        given, limits = self.work.options, dict[str, Any]()
        if (usd := given.get("limit_usd")) is not None:
            limits["limit_usd"] = usd / self.count
        if (tokens := given.get("limit_tokens")) is not None:
            limits["limit_tokens"] = max(tokens // self.count, 1)
        if (seconds := given.get("limit_seconds")) is not None:
            limits["limit_seconds"] = max(seconds - self.line.seconds, 0.001)
        return limits

    def _take(self, actor: _Actor, reply: Any) -> None:
        try:
            said: dict[str, Any] = json.loads(self.ray.get(reply))
        except self.ray.exceptions.RayTaskError as error:  # the process is alive: the work itself failed
            where = f"share {actor.share} on {actor.machine}"
            raise ClusterError(f"{where}: {crash_of(error.cause or error)}", hint=GO_ON) from None
        except self.ray.exceptions.RayError as error:
            self._lost(actor, error)
            return
        share, actor.share = actor.share, None
        if share is None:
            actor.machine = said["machine"]
            check_versions(said, actor.machine)
            if said["lacks"]:
                hint = "All machines must share their files: on a shared disk, or in a store (s3://…)."
                raise ClusterError(f"the machine {actor.machine} cannot read {said['lacks']}.", hint=hint)
            self.machines.add((actor.machine, said["node"]))
            self.losses.pop(-1, None)
        elif message := said.get("message"):
            self._fault(actor, share, message, said)
        else:
            self.made[share.index], actor.at = said, {}
        self.idle.append(actor)

    def _fault(self, actor: _Actor, share: Share, message: str, said: Mapping[str, Any]) -> None:
        if said["in_use"] and self.losses[share.index] and self.busy[share.index] < _BUSY:
            self.busy[share.index] += 1
            self.waiting.append(share)
            time.sleep(_POLL)
            return
        error = ClusterError(f"share {share} on {actor.machine}: {message}", hint=said["hint"])
        error.exit_status = said["status"]
        raise error

    def _lost(self, actor: _Actor, error: Exception) -> None:
        with suppress(Exception):
            self.ray.kill(actor.handle)
        index = actor.share.index if actor.share else -1
        done = actor.at.get("done", 0)
        self.losses[index] = 1 if done > self.reached.get(index, 0) else self.losses[index] + 1
        self.reached[index] = max(done, self.reached.get(index, 0))
        if self.losses[index] > _LOSSES:
            said = " ".join(str(error).split())
            what = f"while they made share {actor.share}" if actor.share else "before they began a share"
            raise ClusterError(
                f"{self.losses[index]} processes in a row were lost {what}. The last error: {said:.300}",
                hint="Memory may be short: use fewer --actors or a smaller --parallel.",
            )
        if actor.share:
            self.begun_again += 1
            self.waiting.appendleft(actor.share)

    def _look(self) -> None:
        asked = {actor.handle.progress.remote(): actor for actor in self.actors.values() if actor.share}
        ready, _ = self.ray.wait([*asked], num_returns=len(asked), timeout=_POLL) if asked else ([], [])
        for reply in ready:
            with suppress(self.ray.exceptions.RayError):
                asked[reply].at = json.loads(self.ray.get(reply)) or asked[reply].at
        at = [*self.made.values(), *(actor.at for actor in self.actors.values())]
        done, failed, tokens = (sum(n.get(key, 0) for n in at) for key in ("done", "failed", "tokens"))
        busy = sum(actor.share is not None for actor in self.actors.values())
        again = f", {self.begun_again} restarted" if self.begun_again else ""
        again += f", {failed:,} failed" if failed else ""
        self.line.done, self.line.tokens = done, tokens
        self.line.note = f"{len(self.made)} of {self.count} shares, {busy} at work{again}"
        self.line.update()

    def stop(self) -> None:
        working = [reply for reply, actor in self.actors.items() if actor.share]
        for reply in working:
            with suppress(Exception):
                self.ray.cancel(reply)
        if working:
            self.ray.wait(working, num_returns=len(working), timeout=_GRACE)

    def result(self, merged: MergeResult) -> SharesResult:
        failed = sum(made["failed"] for made in self.made.values())
        limit = next((made["limit"] for made in self.made.values() if made["limit"]), "")
        again = f"; {self.begun_again} restarted" if self.begun_again else ""
        rows = [("shares", f"{self.count}, on {counted(len(self.machines), 'machine')}{again}")]
        if failed:
            rows.append(("failed", f"{failed:,}: see {merged.path}.errors.jsonl; {GO_ON}"))
        if limit:
            rows.append(("limit", limit))
        return SharesResult(merged, failed, max(made["status"] for made in self.made.values()), limit, rows)
