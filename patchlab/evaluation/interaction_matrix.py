"""The interaction matrix: every patch alone, every pair and, where asked for, every triple, compared on the same prompts.

Every row is saved as soon as it is finished, with one value per prompt, so that a stopped run continues with the next row, and
adding a patch later measures only its own rows.
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
from patchlab.evaluation.metrics import Verdicts
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.reply_store import Replies, machine, made_with
from patchlab.evaluation.statistics import gain, interval
from patchlab.evaluation.suites import DOMAINS, HEADLINES, SUITES, Suite, load_prompts, suite
from patchlab.patches import Stack
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, Labels, add_row, label, load_interactions
from patchlab.patches.stack import Entry, Mode
from patchlab.records import Progress, Prompt, Reply
from patchlab.registry import Installed

STAGE = "matrix"
SHARED = ("overrefusal", "drift")  # suites that every stack is measured on

SuitePrompts = Mapping[str, tuple[Suite, list[Prompt]]]


def matrix(lab: Lab, patches: Sequence[Installed], *, out: Path, mode: Mode = "parallel", suites: Sequence[str] = (),
           n: int = 150, seed: int = 0, triples: bool = False, folder: Path | None = None,
           sampling: Sampling | None = None) -> Iterator[Progress | Interactions]:
    """Yield Progress and finally the Interactions in `out`: the base, each of `patches` alone, and every pair in `mode`.

    With `triples` every three patches too. A patch is measured on the suite of its domain, every stack on SHARED; `suites`
    restricts them. At most `n` prompts per file are used, from `folder` (the embedded ones by default). Rows in `out` with the
    same patch digests and settings are reused.
    Raises InputError, NotFoundError, or PatchFormatError for an `out` that holds something else, before any reply is generated.
    """
    interactions = load_interactions(out) if out.exists() else Interactions()
    if not patches:
        raise InputError("no patch to measure", expected="at least one that fits the base",
                         do="install one, or name others with --patches")
    run = _Run(lab, patches, mode, _prompts(lab, patches, suites, n, folder), sampling or Sampling(seed=seed), n, seed,
               largest=2 + triples)
    manifests = [one.manifest for one in patches]
    digests = {label(manifest): manifest.digest for manifest in manifests}
    for stack in run.stacks:
        if not run.reuse(interactions.fresh(manifests).find(run.base, stack, mode), stack):
            row = yield from run.row(stack)
            interactions = add_row(out, row, {name: digests[name] for name in stack})
    yield Progress(STAGE, run.done, run.total, "done")
    yield interactions


def stacks_of(patches: Sequence[Installed], mode: Mode, largest: int = 2) -> list[Labels]:
    """No patch, each patch, and every `largest` of them, in sequential mode in every order; none has a patch in two versions."""
    names, choose = [label(one.manifest) for one in patches], permutations if mode == "sequential" else combinations
    stacks = [stack for size in range(2, largest + 1) for stack in choose(names, size)]
    return [(), *((name,) for name in names), *(each for each in stacks if len({p.split("@")[0] for p in each}) == len(each))]


def _prompts(lab: Lab, patches: Sequence[Installed], names: Sequence[str], n: int, folder: Path | None) -> SuitePrompts:
    """The suites to measure on with their prompts, by name."""
    domains = dict.fromkeys(one.manifest.domain for one in patches if one.manifest.domain in DOMAINS)
    chosen = [suite(name) for name in names or (*domains, *SHARED)]
    for each in chosen:
        if each.name not in HEADLINES:
            raise NotFoundError.of("suite of the matrix", each.name, HEADLINES)
        if reason := Judges(lab.base, lab.reference).unable(HEADLINES[each.name].metric):
            raise InputError(f"suite {each.name!r}, which cannot be measured: {reason}", expected="a base with a reference",
                             do="load one, or leave this suite out")
    return {each.name: (each, load_prompts(each, n=n, folder=folder)) for each in chosen}


class _Run:
    """One run: its settings, the rows so far, and the base's replies, which several rows need."""

    def __init__(self, lab: Lab, patches: Sequence[Installed], mode: Mode, prompts: SuitePrompts, sampling: Sampling,
                 n: int, seed: int, largest: int) -> None:
        self.lab, self.mode, self.prompts, self.sampling, self.n, self.seed = lab, mode, prompts, sampling, n, seed
        self.base = lab.base.identity.fingerprint
        self.domains = {label(one.manifest): one.manifest.domain for one in patches}
        self.stacks = stacks_of(patches, mode, largest)
        self.rows: dict[Labels, InteractionRow] = {}
        self.done, self.total = 0, sum(map(self._replies, self.stacks))
        self.base_replies = Replies({})

    def suites(self, stack: Labels) -> list[str]:
        """The suites of a stack: those of its patches' domains and those of every stack; the base has no drift."""
        domains = {self.domains[name] for name in stack}
        return [name for name in self.prompts if (name not in DOMAINS or name in domains or not stack)
                and not (name == "drift" and not stack)]

    def settings(self, stack: Labels) -> dict[str, str]:
        """The settings that a stack is measured with."""
        digests = {f"prompts of {name}": digest_of(self.prompts[name][1]) for name in self.suites(stack)}
        return {**made_with(self.sampling, self.lab.base), "n": str(self.n), "seed": str(self.seed), **digests}

    def reuse(self, row: InteractionRow | None, stack: Labels) -> bool:
        """Take over an earlier row of a stack if it was measured with these settings."""
        if row is None or not self.settings(stack).items() <= row.settings.items():
            return False
        self.rows[stack] = row
        self.done += self._replies(stack)
        return True

    def row(self, stack: Labels) -> Generator[Progress, None, InteractionRow]:
        """Measure one stack."""
        entries = tuple(Entry(name, version=version) for name, version in (each.split("@", 1) for each in stack))
        [lane] = self.lab.lanes(Stack(entries, self.mode), ["patched"])
        lane = replace(lane, name=" + ".join(stack) or "base")
        judges = Judges(self.lab.base, self.lab.reference, verdicts=Verdicts(self.lab.judges))
        store = Replies({}) if stack else self.base_replies
        cells: list[Cell] = []
        for name in self.suites(stack):
            replies = yield from self._draw(store, lane, name)
            column = next(columns(name, HEADLINES[name].metric, lane, replies, judges))
            owners = [each for each in stack if name in DOMAINS and self.domains[each] == name] or [""]
            for part in (column, *(by_domain(column) if SUITES[name].apart == "too" else ())):
                cells += [self._cell(part, stack, owner) for owner in owners]
        self.rows[stack] = InteractionRow(self.base, stack, self.mode, {**self.settings(stack), **machine()}, tuple(cells))
        return self.rows[stack]

    def _replies(self, stack: Labels) -> int:
        """The number of replies that a stack's row needs; drift uses the base's."""
        chosen = [self.prompts[name] for name in self.suites(stack) if name != "drift"]
        return sum(len({prompt.key for prompt in prompts}) * each.samples for each, prompts in chosen)

    def _draw(self, store: Replies, lane: Lane, name: str) -> Generator[Progress, None, list[Reply]]:
        """The lane's replies on a suite, with progress over the whole run; for drift those of the base."""
        message = f"row {len(self.rows) + 1} of {len(self.stacks)}: {lane.name}, {name}"
        chosen, prompts = self.prompts[name]
        if name == "drift":
            store, lane = self.base_replies, Lane("base", self.lab.scheduler)
        steps = store.draw([lane], prompts, chosen.samples, self.sampling, STAGE)
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                self.done += len(stop.value) if name != "drift" else 0
                return list(stop.value)
            yield Progress(STAGE, self.done + (step.done if name != "drift" else 0), self.total, message)

    def _cell(self, column: Column, stack: Labels, owner: str) -> Cell:
        values = tuple(None if math.isnan(value) else round(value, 6) for value in column.values)
        known = [value for value in values if value is not None]
        value, low, high = interval(known, seed=self.seed, share=HEADLINES[column.suite].share)
        cell = Cell(column.suite, column.metric, owner, value, low, high, len(known), column.scorer, column.digest, values)
        return replace(cell, change=self._change(cell, stack, owner))

    def _change(self, cell: Cell, stack: Labels, owner: str) -> Change | None:
        """The change of a cell: of one patch against the base; of several against its owner alone, else the worst alone."""
        others: list[Labels] = [()] if len(stack) == 1 else [(owner,)] if owner else [(name,) for name in stack]
        candidates = [(other, self.rows[other].cell(cell.suite, cell.metric, owner if other else "")) for other in others
                      if stack and other in self.rows]
        measured = [(other, before) for other, before in candidates if before and before.n]
        if not measured:
            return None
        headline = HEADLINES[cell.suite]
        against, before = max(measured, key=lambda pair: abs(pair[1].value - headline.best))
        first, second = ([math.nan if value is None else value for value in each.values] for each in (before, cell))
        value, low, high, n = gain(first, second, best=headline.best, share=headline.share, seed=self.seed)
        scale = 100.0 if headline.share else 1.0
        return Change(against, value * scale, low * scale, high * scale, n, "points" if headline.share else "nats")
