"""The interaction matrix: every patch alone and every pair, each measured once, compared on the same prompts.

A row is saved the moment it is finished, with one value a prompt, so that a run that was stopped goes on with the next
row, and a patch that joins later costs its own rows only.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

from patchlab.engine import Lab, Lane, Sampling
from patchlab.errors import InputError, NotFoundError
from patchlab.evaluation.columns import Column, by_domain, columns
from patchlab.evaluation.evaluate import digest_of
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.reply_store import Replies, machine, made_with
from patchlab.evaluation.statistics import gain, interval
from patchlab.evaluation.suites import DOMAINS, HEADLINES, SUITES, Suite, load_prompts, suite
from patchlab.patches import Stack
from patchlab.patches.interactions import Cell, Change, Interactions, Labels, Row, add_row, label, load_interactions
from patchlab.patches.stack import Entry, Mode
from patchlab.records import Progress, Prompt, Reply
from patchlab.registry import Installed

STAGE = "matrix"
SHARED = ("overrefusal", "drift")  # the suites that concern every stack

AskedSuites = Mapping[str, tuple[Suite, list[Prompt]]]


def matrix(lab: Lab, patches: Sequence[Installed], *, out: Path, mode: Mode = "parallel", suites: Sequence[str] = (),
           n: int = 150, seed: int = 0, folder: Path | None = None,
           sampling: Sampling | None = None) -> Iterator[Progress | Interactions]:
    """Yield Progress, and at last the Interactions in `out`: the base, each of `patches` alone, and every pair in `mode`.

    A patch is measured in the suite of its domain, every stack in those of SHARED; `suites` names the only ones to ask.
    `n` prompts a file are asked, from `folder` (the embedded ones by default). Rows that `out` holds for the same bytes
    of patches and the same settings are kept and not measured again. Raises InputError, NotFoundError, or
    PatchFormatError for an `out` that is something else, before any work is done.
    """
    known = load_interactions(out) if out.exists() else Interactions()
    if not patches:
        raise InputError("no patch to measure", expected="at least one that fits the base",
                         do="install one, or name others with --patches")
    run = _Run(lab, patches, mode, _asked(lab, patches, suites, n, folder), sampling or Sampling(seed=seed), n, seed)
    manifests = [one.manifest for one in patches]
    digests = {label(manifest): manifest.digest for manifest in manifests}
    for stack in run.stacks:
        if not run.known(known.fresh(manifests).find(run.base, stack, mode), stack):
            row = yield from run.row(stack)
            known = add_row(out, row, {name: digests[name] for name in stack})
    yield run.progress("done")
    yield known


def stacks_of(patches: Sequence[Installed], mode: Mode) -> list[Labels]:
    """No patch, each patch, every pair; both orders of a pair where order matters. Versions of one name never pair."""
    names = [label(one.manifest) for one in patches]
    pairs = permutations(names, 2) if mode == "sequential" else combinations(names, 2)
    return [(), *((name,) for name in names), *(pair for pair in pairs if len({p.split("@")[0] for p in pair}) == 2)]


def _asked(lab: Lab, patches: Sequence[Installed], asked: Sequence[str], n: int, folder: Path | None) -> AskedSuites:
    """The suites to ask and their prompts, by name."""
    own = dict.fromkeys(one.manifest.domain for one in patches if one.manifest.domain in DOMAINS)
    chosen = [suite(name) for name in asked or (*own, *SHARED)]
    for each in chosen:
        if each.name not in HEADLINES:
            raise NotFoundError.of("suite of the matrix", each.name, HEADLINES)
        if why := Judges(lab.base, lab.reference).unable(HEADLINES[each.name].metric):
            raise InputError(f"suite {each.name!r}, which cannot be measured: {why}", expected="a base with a reference",
                             do="load one, or leave this suite out")
    return {each.name: (each, load_prompts(each, n=n, folder=folder)) for each in chosen}


class _Run:
    """One run: what is asked, the rows so far, and the replies of the base, which several rows need."""

    def __init__(self, lab: Lab, patches: Sequence[Installed], mode: Mode, asked: AskedSuites, sampling: Sampling,
                 n: int, seed: int) -> None:
        self.lab, self.mode, self.asked, self.sampling, self.n, self.seed = lab, mode, asked, sampling, n, seed
        self.base = lab.base.identity.fingerprint
        self.domains = {label(one.manifest): one.manifest.domain for one in patches}
        self.stacks = stacks_of(patches, mode)
        self.rows: dict[Labels, Row] = {}
        self.done, self.total = 0, sum(map(self._work, self.stacks))
        self.base_replies = Replies({})

    def suites(self, stack: Labels) -> list[str]:
        """What a stack is asked: the suites of its patches' domains, and those that concern every stack."""
        own = {self.domains[name] for name in stack}
        return [name for name in self.asked if (name not in DOMAINS or name in own or not stack)
                and not (name == "drift" and not stack)]

    def settings(self, stack: Labels) -> dict[str, str]:
        """How a stack is measured: a row that says all of this was asked the same."""
        prompts = {f"prompts of {name}": digest_of(self.asked[name][1]) for name in self.suites(stack)}
        return {**made_with(self.sampling, self.lab.base), "n": str(self.n), "seed": str(self.seed), **prompts}

    def known(self, row: Row | None, stack: Labels) -> bool:
        """Take a row that is there already, if it was asked all that this run asks."""
        if row is None or not self.settings(stack).items() <= row.settings.items():
            return False
        self.rows[stack] = row
        self.done += self._work(stack)
        return True

    def row(self, stack: Labels) -> Generator[Progress, None, Row]:
        """Measure one stack."""
        entries = tuple(Entry(name, version=version) for name, version in (each.split("@", 1) for each in stack))
        [lane] = self.lab.lanes(Stack(entries, self.mode), ["patched"])
        lane = replace(lane, name=" + ".join(stack) or "base")
        judges = Judges(self.lab.base, self.lab.reference)
        store = Replies({}) if stack else self.base_replies
        cells: list[Cell] = []
        for name in self.suites(stack):
            chosen, prompts = self.asked[name]
            said = yield from self._draw(store, lane, chosen, prompts)
            column = next(columns(name, HEADLINES[name].metric, lane, said, judges))
            owners = [each for each in stack if name in DOMAINS and self.domains[each] == name] or [""]
            for part in (column, *(by_domain(column) if SUITES[name].apart == "too" else ())):
                cells += [self._cell(part, stack, owner) for owner in owners]
        self.rows[stack] = Row(self.base, stack, self.mode, {**self.settings(stack), **machine()}, tuple(cells))
        return self.rows[stack]

    def progress(self, words: str, done: int = 0) -> Progress:
        """How far the whole run is, in replies."""
        return Progress(STAGE, self.done + done, self.total, words)

    def _work(self, stack: Labels) -> int:
        asked = [self.asked[name] for name in self.suites(stack) if name != "drift"]
        return sum(len({prompt.key for prompt in prompts}) * each.samples for each, prompts in asked)

    def _draw(self, store: Replies, lane: Lane, chosen: Suite, prompts: list[Prompt]) -> Generator[Progress, None, list[Reply]]:
        """The lane's replies; for drift the base's, on which the lane is then compared with it."""
        drift = chosen.name == "drift"
        words = f"row {len(self.rows) + 1} of {len(self.stacks)}: {lane.name}, {chosen.name}"
        if drift:
            store, lane = self.base_replies, Lane("base", self.lab.scheduler)
        steps = store.draw([lane], prompts, chosen.samples, self.sampling, STAGE)
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                self.done += 0 if drift else len(stop.value)
                return list(stop.value)
            yield self.progress(words, 0 if drift else step.done)

    def _cell(self, column: Column, stack: Labels, owner: str) -> Cell:
        values = tuple(None if math.isnan(value) else round(value, 6) for value in column.values)
        known = [value for value in values if value is not None]
        value, low, high = interval(known, seed=self.seed, share=HEADLINES[column.suite].share)
        cell = Cell(column.suite, column.metric, owner, value, low, high, len(known), column.scorer, column.digest, values)
        return replace(cell, change=self._change(cell, stack, owner))

    def _change(self, cell: Cell, stack: Labels, owner: str) -> Change | None:
        """Against its patch alone, or what is nobody's own against the worse of the two alone; of one patch against the base."""
        others: list[Labels] = [()] if len(stack) == 1 else [(owner,)] if owner else [(name,) for name in stack]
        cells = [(other, self.rows[other].cell(cell.suite, cell.metric, owner if other else "")) for other in others
                 if stack and other in self.rows]
        found = [(other, before) for other, before in cells if before and before.n]
        if not found:
            return None
        headline = HEADLINES[cell.suite]
        against, before = max(found, key=lambda each: abs(each[1].value - headline.best))
        first, second = ([math.nan if value is None else value for value in each.values] for each in (before, cell))
        value, low, high, n = gain(first, second, best=headline.best, share=headline.share, seed=self.seed)
        scale = 100.0 if headline.share else 1.0
        return Change(against, value * scale, low * scale, high * scale, n, "points" if headline.share else "nats")
