"""What the Repair tab does, in Python that knows no page: find the words of a failure, repair against them, save a patch."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from patchlab.errors import InputError, NotFoundError
from patchlab.records import Measure, Progress, Prompt
from patchlab.registry import install
from patchlab.registry.index import home_folder
from patchlab.repair import Failure, Located, Repair, locate, repair_steps
from patchlab.repair.clean_prompts import clean_prompts, parted
from patchlab.repair.contrast import Greedy, Probe
from patchlab.repair.inject import injected
from patchlab.repair.planted import load_planted
from patchlab.repair.report import drifted, measured
from patchlab.repair.store import save_change
from patchlab.ui.repair import repair_words

if TYPE_CHECKING:
    from patchlab.engine import Lab
    from patchlab.models import Backbone

CLEAN = 90  # clean prompts of each kind
LONGEST, MOST_WORDS = 2000, 80  # characters of a prompt or reply, and words of a prompt
KEPT = 12  # repairs whose work stays on the server; each may hold some MB
LENGTH = 32  # of a patch; on models with little room less
SHOWN = 4  # requests of each kind whose replies are shown
ModelName = Literal["own", "planted"]


@dataclass(frozen=True, slots=True)
class Case:
    """A failure that was looked at: the model's name on the tab, prompt and reply, the words of the prompt, what was found."""

    model: str
    prompt: str
    reply: str
    words: tuple[str, ...]
    found: Located
    tested: int  # refused clean prompts that words were put into


@dataclass(frozen=True, slots=True)
class Repaired:
    """A finished repair: the folder of its patch ("" for a change of the weights), and what it changed."""

    model: str
    folder: str
    units: tuple[str, ...]
    before: tuple[Measure, ...]
    after: tuple[Measure, ...]
    replies: tuple[tuple[str, str, str], ...]
    seconds: float


class RepairSession:
    """The models of a tab with what is known of each from clean prompts, for all visitors."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.judge = lab, lab.judges.first.get("refusal", "refusal")
        self._models: dict[str, Backbone] = {"own": lab.base}
        self._probes: dict[str, Probe] = {}
        self._lock = Lock()

    def backbone(self, model: str) -> Backbone:
        """The model of a name. Raises NotFoundError for another name, ModelError where it does not ship."""
        if model not in ("own", "planted"):
            raise NotFoundError.of("model", model[:40], ("own", "planted"))
        with self._lock:
            if model not in self._models:
                self._models[model] = load_planted()
            return self._models[model]

    def located(self, model: str, text: str, reply: str) -> Generator[Progress, None, Case]:
        """Find the words of a failure; without a reply, of what the model replies now. Raises PatchLabError."""
        if len(text) > LONGEST or len(reply) > LONGEST or len(text.split()) > MOST_WORDS:
            raise InputError(f"a prompt of {len(text.split()):,} words and {len(text):,} characters, a reply of {len(reply):,}",
                             expected=f"at most {MOST_WORDS} words and {LONGEST:,} characters each", do="shorten them")
        backbone, prompt = self.backbone(model), Prompt(text)
        yield Progress("read", 0, 1)
        if not reply.strip():
            reply = Greedy(backbone, judge=self.judge).replies([prompt])[0].text
        failure = Failure(backbone, prompt, reply)
        probe = self.probe(model)
        found = yield from locate(failure, probe)
        return Case(model, text, reply, tuple(word.text for word in failure.words), found, len(probe.refused))

    def probe(self, model: str) -> Probe:
        """What is known of a model from clean prompts, read once."""
        backbone = self.backbone(model)
        with self._lock:
            if model not in self._probes:
                self._probes[model] = Probe(backbone, parted(clean_prompts(None, CLEAN))[0], judge=self.judge)
            return self._probes[model]

    def units(self, case: Case, cut: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The runs of the words that are cut, each once, and where each is bound to."""
        failure = Failure(self.backbone(case.model), Prompt(case.prompt), case.reply)
        words = [k for k in cut if 0 <= k < len(failure.words)]
        bound = dict(zip(failure.text_of(words), (failure.place_of(run) for run in failure.runs(words)), strict=True))
        return tuple(bound), tuple(bound.values())

    def preview(self, case: Case, cut: list[int]) -> tuple[list[Prompt], tuple[str, ...]]:
        """Some clean requests with the words in them, and the words."""
        units, places = self.units(case, cut)
        kept, _ = parted(clean_prompts(None, CLEAN))
        return (injected(kept.harmful[:SHOWN], units, seed=0, places=places) if units else []), units

    def repaired(self, case: Case, cut: list[int], change: Literal["weights", "prefix"],
                 epochs: int) -> Generator[Progress, None, Repaired]:
        """Train against the words, measure before and after. The work stays, so that the same repair goes on where it was left.

        Raises PatchLabError.
        """
        began, backbone = time.monotonic(), self.backbone(case.model)
        units, places = self.units(case, cut)
        length = min(LENGTH, backbone.context // 8)
        settings = Repair(units=units, places=places, change=change, epochs=epochs, length=length)
        kept, held = parted(clean_prompts(None, CLEAN))
        whole = hashlib.sha256(f"{settings.digest} {backbone.identity.fingerprint}".encode()).hexdigest()[:16]
        folder = home_folder() / "repairs" / whole
        _forget_old(folder.parent)
        before = yield from measured(backbone, held, units, "before", judge=self.judge, places=places)
        trained = yield from repair_steps(backbone, kept, settings, work=folder / "work", judge=self.judge)
        model, plan = trained.changed()
        after = yield from measured(model, held, units, "after", plan=plan, judge=self.judge, places=places)
        after += drifted(backbone, trained, held, judge=self.judge)
        asked = [*injected(held.harmful[:SHOWN], units, seed=1, places=places), *held.harmless[:SHOWN]]
        old, new = Greedy(backbone).replies(asked), Greedy(model, plan=plan).replies(asked)
        saved = save_change(trained, backbone, settings, folder / "change", name=f"repair-{whole[:6]}", evidence=after)
        rows = tuple((prompt.text, one.text, other.text) for prompt, one, other in zip(asked, old, new, strict=True))
        return Repaired(case.model, str(saved) if change == "prefix" else "", units, tuple(before), tuple(after), rows,
                        time.monotonic() - began)

    def saved(self, repair: Repaired | None) -> str:
        """Install the patch of a repair; returns its name. Raises InputError where there is none, and as `install`."""
        if repair is None:
            raise InputError(repair_words.NOTHING_TO_SAVE, expected="a repair that is done", do="run one first")
        if not repair.folder:
            raise InputError(repair_words.ADAPTER, expected="a repair by a patch", do="choose the patch and run it again")
        return install(Path(repair.folder), home_folder()).manifest.name


def _forget_old(folder: Path) -> None:
    """Remove the work of the oldest repairs, so that visitors cannot fill the disk."""
    found = sorted((each for each in folder.glob("*") if each.is_dir()), key=lambda each: each.stat().st_mtime)
    for each in found[:max(0, len(found) - KEPT + 1)]:
        shutil.rmtree(each, ignore_errors=True)
