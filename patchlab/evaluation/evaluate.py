"""Evaluates a stack: replies of every lane on every suite, their metrics with intervals, as one Report.

What every metric gives is a column: one value a prompt of one lane. Figures, finer figures and comparisons of lanes are
all made from columns; what a column costs is paid once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from patchlab.engine import Lab, Sampling, StackPlan
from patchlab.errors import ContextError
from patchlab.evaluation.columns import Column, agreements, by_domain, by_occupation, columns, comparisons, measure
from patchlab.evaluation.metrics import METRICS, Judged, present
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.reply_store import Replies, machine, made_with
from patchlab.evaluation.suites import DOMAINS, SUITES, Check, Suite, load_prompts, suite
from patchlab.models import Backbone
from patchlab.patches import Stack
from patchlab.records import Agreement, Measure, Progress, Prompt, Reply, Report

EXAMPLES = 3  # replies of each suite and lane that go into the report


def evaluate(lab: Lab, *, stack: Stack, suites: Sequence[str] = (), n: int = 300, seed: int = 0,
             lanes: Sequence[str] | None = None, folder: Path | None = None, sampling: Sampling | None = None,
             samples: int | None = None, judge: Backbone | None = None, out: Path | None = None,
             strict: bool = False) -> Iterator[Progress | Report]:
    """Yield Progress, and at last one Report, for `stack` on these suites (all embedded ones by default).

    `n` prompts a file are asked, from `folder` (the embedded ones by default), with `samples` replies each (what the
    suite says by default). `judge` gives perplexity and says what is on topic; without one no lane is judged by its own
    model: the reference judges base and patched, the base the reference, and without a reference these metrics are left
    out, which the report's notes say. With `out`, every reply is kept there as soon as it is finished, and a run with the
    same settings goes on from them.
    A row of a suite that cannot be used, or whose prompt does not fit the models, is skipped, and the report's notes say so;
    with `strict` it is an error. Raises NotFoundError or InputError for lanes, suites, prompts or an `out` that cannot be used,
    before any work is done.
    """
    sampling = sampling or Sampling(seed=seed)
    chosen = list({each.name: each for each in map(suite, suites or SUITES)}.values())
    notes: list[str] = []
    prompts_of = partial(load_prompts, n=n, folder=folder, strict=strict, notes=notes,
                         check=_check(lab, lab.planner.plan(stack), sampling, judge))
    asked = [(each, prompts_of(each)) for each in chosen]
    names = list(dict.fromkeys(lanes or [name for name in lab.lane_names if stack or name != "patched"]))
    run = _Run(lab, stack, names, seed, sampling, judge, asked[0][1][0])
    own = [prompt for name in run.domains for prompt in prompts_of(name)
           if lab.reference and any(each.name == "drift" for each in chosen)]
    run.made_with |= {"suites": ", ".join(f"{s.name}={s.source}" if s.source else s.name for s in chosen), "n": str(n),
                      "seed": str(seed), "samples": str(samples or "each suite's own"),
                      "prompts": digest_of([prompt for _, prompts in asked for prompt in prompts])}
    run.notes += dict.fromkeys(notes)  # a file may be read for several suites
    run.store = Replies(run.made_with, out)
    try:
        for each, prompts in asked:
            yield from run.suite(each, prompts, samples or each.samples, own)
    finally:
        run.store.close()
    yield run.report()


def _check(lab: Lab, plan: StackPlan, sampling: Sampling, judge: Backbone | None) -> Check:
    """Raises InputError for a prompt that a lane or the judge cannot read, or that leaves no room for a reply."""
    def check(prompt: Prompt) -> None:
        lab.check(prompt, plan=plan, sampling=sampling)
        if judge and len(judge.encode(prompt)) + sampling.max_new_tokens > judge.context:
            raise ContextError(f"a prompt too long for the judge {judge.name}", expected=f"at most {judge.context:,} tokens",
                               do="shorten it, or choose another judge")

    return check


def digest_of(prompts: Sequence[Prompt]) -> str:
    """The identity of a list of prompts."""
    return hashlib.sha256(json.dumps([prompt.key for prompt in prompts]).encode()).hexdigest()


class _Run:
    """One evaluation under way: what is asked of whom, and what is found so far."""

    store: Replies

    def __init__(self, lab: Lab, stack: Stack, names: list[str], seed: int, sampling: Sampling, judge: Backbone | None,
                 first: Prompt) -> None:
        self.lab, self.names, self.seed, self.sampling, self.judge = lab, names, seed, sampling, judge
        [plan] = lab.planner.plans(stack, [first])
        patches = [one.patch for one in plan.patches]
        # what is installed while the run lasts is not measured half and half
        versions = tuple(replace(entry, version=patch.manifest.version)
                         for entry, patch in zip(stack.entries, patches, strict=True))
        needed = [*names, *(name for name in ("base", "reference") if name in lab.lane_names)]
        self.lanes = {lane.name: lane for lane in lab.lanes(replace(stack, entries=versions), needed)}
        self.domains = list(dict.fromkeys(p.manifest.domain for p in patches if p.manifest.domain in DOMAINS))
        other = lab.reference
        self.made_with = {
            "preset": lab.name, "base": lab.base.identity.fingerprint,
            "reference": other.identity.fingerprint if other else "none", "stack": str(stack), "mode": stack.mode,
            "patches": ", ".join(f"{p.manifest.name} {p.manifest.version} {p.digest[:12]}" for p in patches),
            "lanes": ", ".join(names), **made_with(sampling, *filter(None, (lab.base, other))), **machine(),
            "judge": "the model that is not judged" if other else "none"}
        if judge:
            self.made_with["judge"] = f"{judge.name} {judge.identity.fingerprint}"
        if stack.gates:
            self.made_with["gates"] = ", ".join(f"{p.manifest.name} {p.gate.digest[:12]}" for p in patches if p.gate) or "none"
        self.columns: list[Column] = []
        self.agreements: list[Agreement] = []
        self.examples: list[Reply] = []
        self.notes: list[str] = [*plan.warnings]

    def suite(self, chosen: Suite, prompts: list[Prompt], samples: int, own: list[Prompt]) -> Generator[Progress, None, None]:
        """Draw and measure one suite; `own` are the prompts of the patches' domains, which drift needs too."""
        judges = Judges(self.lab.base, self.lab.reference, self.judge)
        if chosen.name == "drift":
            yield from self._drift(prompts, own, judges)
            return
        said = yield from self.store.draw([self.lanes[name] for name in self.names], prompts, samples, self.sampling, chosen.name)
        for name in self.names:
            replies = [reply for reply in said if reply.lane == name]
            self.examples += replies[:EXAMPLES]
            for metric in chosen.metrics:
                for column in self._columns(chosen.name, name, metric, replies, judges):
                    self.columns += [column] if chosen.apart != "only" else []
                    self.columns += by_domain(column) if chosen.apart != "no" else []
            self.columns += self._columns(chosen.name, name, "cut_rate", replies, judges)
        self.agreements += agreements(chosen.name, chosen.metrics, said, judges.verdicts, seed=self.seed)

    def _drift(self, prompts: list[Prompt], own: list[Prompt], judges: Judges) -> Generator[Progress, None, None]:
        """How far the patched base is from the base on harmless requests, and both from the reference on its domain."""
        for metric, speaker, asked, names in (("kl_to_base", "base", prompts, ("patched",)),
                                              ("kl_to_reference", "reference", own, ("base", "patched"))):
            measured = [name for name in names if name in self.names]
            if measured and (why := judges.unable(metric)):
                self._note(f"{metric} is not measured: {why}")
                continue
            if not measured or not asked:
                continue
            stage = "drift" if speaker == "base" else "drift from the reference"
            said = yield from self.store.draw([self.lanes[speaker]], asked, 1, self.sampling, stage)
            for name in measured:
                self.columns += self._columns("drift", name, metric, said, judges)

    def _columns(self, suite: str, lane: str, metric: str, replies: Sequence[Reply], judges: Judges) -> list[Column]:
        """A metric's columns for a lane; none, and a note, where it cannot be measured."""
        if why := judges.unable(metric):
            self._note(f"{metric} is not measured: {why}")
            return []
        how = METRICS.get(metric)
        if isinstance(how, Judged) and present(how.scorers) == [how.scorers[0]]:
            self._note(f"{metric} rests on one scorer, {how.scorers[0]}, which also filters training pairs; no second is here")
        return list(columns(suite, metric, self.lanes[lane], replies, judges))

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)

    def report(self) -> Report:
        """Everything found, as figures."""
        first = [column for column in self.columns if not column.second]
        for column in first:
            if not column.known:
                self._note(f"{column.suite} {column.metric} of {column.lane}: none of {len(column.values)} prompts gives "
                           "a number")
        return Report(
            tuple(self._figures(first)), tuple(dict.fromkeys(self.examples)), self.made_with,
            seconds=tuple(self._figures([column for column in self.columns if column.second])),
            details=tuple(self._figures([fine for column in first for fine in by_occupation(column)])),
            comparisons=tuple(comparisons(self.columns, self.names, seed=self.seed)), agreements=tuple(self.agreements),
            scorers={column.scorer: column.digest for column in self.columns}, notes=tuple(self.notes))

    def _figures(self, columns: Sequence[Column]) -> list[Measure]:
        return [figure for column in columns for figure in measure(column, seed=self.seed)]
