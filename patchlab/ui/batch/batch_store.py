"""The batches of a page's visitors: each a folder, run by a thread of the server, so that it goes on while its page is closed.

    home/batches/KEY/   batch.json (what was asked for), prompts.jsonl, votes.json, and what `patchlab evaluate --out` writes:
                        settings.json, replies.jsonl, report.json, report.md, report.html

KEY is a secret of 128 bits that only the visitor's browser keeps: whoever has it sees the batch. A stopped batch, or one of a
server that was restarted, continues from its replies. Batches older than a week are removed.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from patchlab.engine import Sampling
from patchlab.errors import BusyError, InputError, NotFoundError, PatchLabError
from patchlab.evaluation import evaluate, load_prompts, write_report
from patchlab.evaluation.reply_store import ROWS, read_replies
from patchlab.patches.stack import Mode, Placement, Stack
from patchlab.records import Progress, Prompt, Reply
from patchlab.registry.index import home_folder
from patchlab.storage import json_object, write_json, write_jsonl
from patchlab.ui.batch.batch_prompts import MAX_PROMPTS, as_row
from patchlab.ui.batch.votes import read_votes, write_vote

if TYPE_CHECKING:
    from patchlab.engine import Lab

log = logging.getLogger(__name__)
Status = Literal["waiting", "running", "judging", "done", "stopped", "failed"]
ACTIVE = ("waiting", "running", "judging")
AT_ONCE, IN_LINE = 2, 16  # batches that run, and that wait
KEPT_SECONDS, KEPT = 7 * 24 * 3600, 100
_KEY = re.compile(r"[0-9a-f]{32}")
SETTINGS_FILE, PROMPTS_FILE, REPORT_FILE = "batch.json", "prompts.jsonl", "report.html"


@dataclass(frozen=True, slots=True)
class SecondClient:
    """The lane of a second client: its name, and the stack on it as a text with its settings."""

    lane: str
    stack: str
    mode: Mode
    gates: bool
    placement: Placement

    @classmethod
    def of(cls, lane: str, stack: Stack) -> SecondClient:
        """The lane of this name with a stack."""
        return cls(lane, str(stack), stack.mode, stack.gates, stack.placement)

    @property
    def parsed(self) -> Stack:
        """The stack."""
        return Stack.parse(self.stack, mode=self.mode, gates=self.gates, placement=self.placement)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What a batch is run with, beside its prompts; `stack` is the text form of a stack."""

    preset: str
    stack: str
    mode: Mode
    gates: bool
    max_new_tokens: int
    temperature: float
    seed: int
    source: str  # where the prompts are from, in words
    lanes: tuple[str, ...]
    placement: Placement = "turn"
    notes: tuple[str, ...] = ()  # what was left out, and what speaks against the stack
    second: SecondClient | None = None

    @property
    def parsed(self) -> Stack:
        """The stack."""
        return Stack.parse(self.stack, mode=self.mode, gates=self.gates, placement=self.placement)

    @property
    def sampling(self) -> Sampling:
        """How replies are drawn."""
        return Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens, seed=self.seed)


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is: replies `done` of `total`; seconds left where known; its place in line; what went wrong."""

    key: str
    settings: BatchSettings
    status: Status
    done: int
    total: int
    seconds_left: float | None = None
    place: int = 0
    error: str = ""


class _Job:
    """A batch that waits or runs in this process, or did."""

    def __init__(self, key: str, lab: Lab, settings: BatchSettings, total: int) -> None:
        self.lab, self.signal = lab, threading.Event()
        self.state = BatchState(key, settings, "waiting", 0, total)
        self.first: tuple[int, float] | None = None  # replies that were there at the start, and when that was

    def advance(self, progress: Progress) -> None:
        """Note the replies so far; the time left goes by the replies of this start, which those from before did not take."""
        now = time.monotonic()
        self.first = self.first or (progress.done, now)
        made, left = progress.done - self.first[0], progress.total - progress.done
        # replies are written side by side, so that the first ones take as long as a whole batch of the scheduler
        seconds = (now - self.first[1]) / made * left if made > progress.total / 10 else None
        self.state = replace(self.state, status="running" if left else "judging", done=progress.done, total=progress.total,
                             seconds_left=seconds)


class Batches:
    """Starts, stops, continues and removes batches. Thread-safe; a key that is none raises NotFoundError."""

    def __init__(self, folder: Path | None = None) -> None:
        self._root = folder
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._line: list[_Job] = []
        self._running = 0

    def start(self, lab: Lab, settings: BatchSettings, prompts: list[Prompt]) -> str:
        """Store a new batch, run it when its turn comes, and return its key. Raises BusyError when too many wait."""
        self._prune()
        key = secrets.token_hex(16)
        self._put(_Job(key, lab, settings, len(prompts) * len(settings.lanes)), prompts)
        return key

    def resume(self, lab: Lab, key: str) -> None:
        """Continue a stopped or failed batch from its replies. Raises InputError for one of another preset, BusyError."""
        state = self.state(key)
        if state.status in (*ACTIVE, "done"):
            return
        if state.settings.preset != lab.name:
            raise InputError(f"a batch of the model {state.settings.preset}", expected=f"one of {lab.name}, which is open",
                             do="choose that model at the top of the page")
        self._put(_Job(key, lab, state.settings, state.total))

    def stop(self, key: str) -> None:
        """Ask a batch to end after the replies that are being written; they are kept."""
        with self._lock:
            job = self._jobs.get(key)
            if job and job in self._line:
                self._line.remove(job)
                job.state = replace(job.state, status="stopped")
            elif job:
                job.signal.set()

    def remove(self, key: str) -> None:
        """Stop a batch and remove its folder."""
        folder = self.folder(key)
        self.stop(key)
        with self._lock:
            self._jobs.pop(key, None)
            shutil.rmtree(folder, ignore_errors=True)

    def votes(self, key: str) -> dict[str, str]:
        """The votes on the prompts of a batch."""
        return read_votes(self.folder(key))

    def vote(self, key: str, name: str, choice: str) -> None:
        """Keep a vote on a prompt of a batch; not beside its removal, which would leave the vote behind."""
        with self._lock:
            write_vote(self.folder(key), name, choice)

    def state(self, key: str) -> BatchState:
        """How far a batch is, also one of an earlier process. Raises NotFoundError for a key without one."""
        with self._lock:
            job = self._jobs.get(key)
            if job:
                return replace(job.state, place=self._line.index(job) + 1 if job in self._line else 0)
        folder = self.folder(key)
        settings = _settings(folder)
        done = sum(1 for _ in read_replies(folder / ROWS))
        finished = (folder / REPORT_FILE).is_file()
        return BatchState(key, settings, "done" if finished else "stopped", done, len(self.prompts(key)) * len(settings.lanes))

    def folder(self, key: str) -> Path:
        """The folder of a batch. Raises NotFoundError for a key that is none, or whose batch is gone."""
        folder = self.root / key if isinstance(key, str) and _KEY.fullmatch(key) else None
        if folder is None or not (folder / SETTINGS_FILE).is_file():
            raise NotFoundError("no batch of this browser is kept", expected=f"one of the last {KEPT_SECONDS // 86400} days",
                                do="run a new one")
        return folder

    def prompts(self, key: str) -> list[Prompt]:
        """The prompts of a batch, in order."""
        return load_prompts(f"prompts={self.folder(key) / PROMPTS_FILE}", n=MAX_PROMPTS)

    def replies(self, key: str) -> list[Reply]:
        """The replies of a batch so far, in the order they were finished."""
        return list(read_replies(self.folder(key) / ROWS))

    @property
    def root(self) -> Path:
        """The folder of all batches."""
        return self._root or home_folder() / "batches"

    def _put(self, job: _Job, prompts: list[Prompt] | None = None) -> None:
        """Let a job run or wait; `prompts` are those of a new one."""
        with self._lock:
            if len(self._line) >= IN_LINE:
                raise BusyError(f"{IN_LINE} batches wait already", expected="a free place", do="try again in a few minutes")
            if prompts is not None:
                folder = self.root / job.state.key
                write_jsonl(folder / PROMPTS_FILE, map(as_row, prompts))
                write_json(folder / SETTINGS_FILE, asdict(job.state.settings))
            self._jobs[job.state.key] = job
            self._line.append(job)
        self._next()

    def _next(self) -> None:
        """Start the first that waits, if one may run."""
        with self._lock:
            if self._running >= AT_ONCE or not self._line:
                return
            job = self._line.pop(0)
            self._running += 1
            job.state = replace(job.state, status="running")
        # a daemon: a server that is stopped does not wait for it, and its replies are kept
        threading.Thread(target=self._run, args=(job,), daemon=True, name="batch").start()

    def _run(self, job: _Job) -> None:
        key = job.state.key
        try:
            for progress in run(job.lab, job.state.settings, self.root / key):
                job.advance(progress)
                if job.signal.is_set():
                    break
            with self._lock:  # what it is now is in its folder
                self._jobs.pop(key, None)
        except PatchLabError as error:
            job.state = replace(job.state, status="failed", error=str(error).replace(str(self.root / key), "this batch"))
        except Exception:  # the page outlives any batch
            if not job.signal.is_set():  # one that was removed has lost its folder
                log.exception("a batch failed")
            job.state = replace(job.state, status="failed", error="")
        finally:
            with self._lock:
                self._running -= 1
            self._next()

    def _prune(self) -> None:
        """Remove batches that are old, or more than are kept, except those that wait or run."""
        with self._lock:
            active = {key for key, job in self._jobs.items() if job.state.status in ACTIVE}
        ages = sorted((time.time() - each.stat().st_mtime, each) for each in self.root.glob("*") if _KEY.fullmatch(each.name))
        for rank, (age, folder) in enumerate(ages):
            if (rank >= KEPT or age > KEPT_SECONDS) and folder.name not in active:
                shutil.rmtree(folder, ignore_errors=True)


def run(lab: Lab, settings: BatchSettings, folder: Path) -> Iterator[Progress]:
    """Evaluate the prompts of a batch's folder and write its report there; closing this ends it, and replies are kept.

    It is `patchlab evaluate --suite prompts=FILE --samples 1 --out FOLDER`.
    """
    others = {settings.second.lane: settings.second.parsed} if settings.second else None
    steps = evaluate(lab, stack=settings.parsed, suites=[f"prompts={folder / PROMPTS_FILE}"], n=MAX_PROMPTS, seed=settings.seed,
                     lanes=settings.lanes, others=others, sampling=settings.sampling, samples=1, out=folder)
    with closing(steps):  # type: ignore[type-var]  # a generator
        for step in steps:
            if isinstance(step, Progress):
                yield step
            elif (folder / SETTINGS_FILE).is_file():  # not removed; the report's settings name the folder, and so the key
                write_report(replace(step, made_with={**step.made_with, "suites": settings.source}), folder)


def _settings(folder: Path) -> BatchSettings:
    """The settings in a batch's folder, which this program wrote."""
    values: dict[str, Any] = json_object((folder / SETTINGS_FILE).read_bytes())
    second = values.get("second")
    return BatchSettings(**{**values, "lanes": tuple(values["lanes"]), "notes": tuple(values["notes"]),
                            "second": SecondClient(**second) if second else None})
