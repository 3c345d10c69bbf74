"""The trainings of a page's visitors: each a folder, run by a thread of the server as `patchlab train` runs it, one at a time.

    home/trainings/KEY/   training.json (what was asked for), work/ (the stages' files), the released patch, done.json

KEY is a secret that only the visitor's browser keeps. A stopped training, or one of a server that was restarted, continues from
its last saved step.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from patchlab.engine import Sampling
from patchlab.errors import BusyError, InputError, NotFoundError, PatchLabError
from patchlab.evaluation.suites import read_prompts
from patchlab.records import Progress
from patchlab.registry import Installed, install
from patchlab.registry.index import home_folder
from patchlab.storage import ASSETS, json_object, write_json
from patchlab.training.config import IMPROVES, Recipe, read_recipe
from patchlab.training.release import judge, release
from patchlab.training.trainer import train
from patchlab.ui.train import train_words

if TYPE_CHECKING:
    from patchlab.engine import Lab

log = logging.getLogger(__name__)
RECIPES = ASSETS / "recipes" / "alone"
PROMPTS = ASSETS / "suites" / "pocket" / "train.jsonl"
SETTINGS_FILE, DONE_FILE, WORK = "training.json", "done.json", "work"
_KEY = re.compile(r"[0-9a-f]{32}")
TrainingStatus = Literal["running", "stopped", "failed", "done"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What a visitor chose, and the name and version that the patch gets."""

    preset: str
    domain: str
    name: str
    version: str
    steps: int
    length: int
    seed: int
    judged: int


@dataclass(frozen=True, slots=True)
class TrainingState:
    """How far a training is: its last progress, seconds left of the stage where known, what went wrong."""

    key: str
    settings: TrainingSettings
    status: TrainingStatus
    progress: Progress | None = None
    seconds_left: float | None = None
    error: str = ""


def recipe_of(lab: Lab, settings: TrainingSettings) -> Recipe:
    """The domain's shipped recipe with what the visitor chose; every stage has the same share of its steps.

    What needs a reference, or one with the base's vocabulary, is left out where there is none. Raises NotFoundError, InputError.
    """
    if settings.domain not in IMPROVES:  # it becomes part of a path
        raise NotFoundError.of("domain", settings.domain, IMPROVES)
    recipe = read_recipe(RECIPES / f"{settings.domain}.yaml")
    share = settings.steps / recipe.sft_steps
    recipe = recipe.with_(
        name=settings.name, version=settings.version, title=f"{recipe.title} ({settings.name})", length=settings.length,
        seed=settings.seed, sft_steps=settings.steps, own_steps=round(recipe.own_steps * share),
        dpo_steps=round(recipe.dpo_steps * share))
    reference = lab.reference
    if reference is None or reference.identity.tokenizer_digest != lab.base.identity.tokenizer_digest:
        recipe = recipe.with_(distill=0.0, own_steps=0)
    return recipe if reference else recipe.with_(reference="none")


def run(lab: Lab, settings: TrainingSettings, folder: Path) -> Iterator[Progress | Installed]:
    """Train in a folder, measure, release and install: yields progress and finally the installed patch."""
    recipe = recipe_of(lab, settings)
    room = Sampling(max_new_tokens=recipe.length + recipe.distance + recipe.behind + recipe.max_new_tokens)
    prompts = read_prompts(PROMPTS, check=lambda prompt: lab.check(prompt, sampling=room))
    patch = yield from train(lab, recipe, prompts, work=folder / WORK)
    evidence = (yield from judge(lab, patch, n=settings.judged, seed=recipe.seed, folder=folder / WORK / "unjudged")
                ) if settings.judged else []
    yield install(release(patch, folder, evidence=evidence), home_folder())


class Trainings:
    """Starts, stops and continues trainings. Thread-safe; a key that is none raises NotFoundError."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, TrainingState] = {}
        self._signals: dict[str, threading.Event] = {}

    def start(self, lab: Lab, settings: TrainingSettings) -> str:
        """Store a new training, run it, and return its key. Raises BusyError while another one runs, and as `recipe_of`."""
        recipe_of(lab, settings)
        key = secrets.token_hex(16)
        self._begin(lab, TrainingState(key, settings, "running"))
        return key

    def resume(self, lab: Lab, key: str) -> None:
        """Continue a stopped or failed training. Raises InputError for one of another preset, BusyError."""
        state = self.state(key)
        if state.status in ("running", "done"):
            return
        if state.settings.preset != lab.name:
            raise InputError(f"a training of the model {state.settings.preset}", expected=f"one of {lab.name}, which is open",
                             do="choose that model at the top of the page")
        self._begin(lab, replace(state, status="running", error="", progress=None))

    def stop(self, key: str) -> None:
        """Ask a training to end after the step that is being computed."""
        with self._lock:
            if signal := self._signals.get(key):
                signal.set()

    def state(self, key: str) -> TrainingState:
        """How far a training is, also one of an earlier process."""
        with self._lock:
            if state := self._states.get(key):
                return state
        folder = self.folder(key)
        settings = TrainingSettings(**json_object((folder / SETTINGS_FILE).read_bytes()))
        return TrainingState(key, settings, "done" if (folder / DONE_FILE).is_file() else "stopped")

    def folder(self, key: str) -> Path:
        """The folder of a training. Raises NotFoundError."""
        folder = home_folder() / "trainings" / key if isinstance(key, str) and _KEY.fullmatch(key) else None
        if folder is None or not (folder / SETTINGS_FILE).is_file():
            raise NotFoundError("no training of this browser is kept", expected="one that was started here", do="start a new one")
        return folder

    def _begin(self, lab: Lab, state: TrainingState) -> None:
        with self._lock:
            if any(each.status == "running" for each in self._states.values()):
                raise BusyError(train_words.BUSY, expected="one at a time", do="try again when it has ended")
            signal = threading.Event()
            self._states[state.key], self._signals[state.key] = state, signal
        folder = home_folder() / "trainings" / state.key
        write_json(folder / SETTINGS_FILE, asdict(state.settings))
        # a daemon: a server that is stopped does not wait for it, and what was saved is kept
        threading.Thread(target=self._run, args=(lab, state, folder, signal.is_set), daemon=True, name="training").start()

    def _run(self, lab: Lab, state: TrainingState, folder: Path, stopped: Callable[[], bool]) -> None:
        stage, first, began = "", 0, 0.0
        status, error = "stopped", ""
        try:
            with closing(run(lab, state.settings, folder)) as steps:  # type: ignore[type-var]  # a generator
                for step in steps:
                    if isinstance(step, Installed):
                        write_json(folder / DONE_FILE, {"digest": step.manifest.digest})
                        status = "done"
                    else:
                        if step.stage != stage:
                            stage, first, began = step.stage, step.done, time.monotonic()
                        made, left = step.done - first, step.total - step.done
                        seconds = (time.monotonic() - began) / made * left if made else None
                        self._put(replace(state, progress=step, seconds_left=seconds))
                    if stopped():
                        break
        except PatchLabError as problem:
            status, error = "failed", str(problem).replace(str(folder), "this training")
        except Exception:  # the page outlives any training
            log.exception("a training failed")
            status = "failed"
        self._put(replace(state, status=status, error=error))  # type: ignore[arg-type]

    def _put(self, state: TrainingState) -> None:
        with self._lock:
            self._states[state.key] = state
