"""Evaluates a stack: generates replies of every lane on every suite and computes metrics with intervals, as one Report.

Each metric of a lane on a suite gives one column of values, one per prompt; measures, details and comparisons are all computed
from these columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from patchlab.engine import Lab, Sampling, StackPlan
from patchlab.errors import ContextError
from patchlab.evaluation.columns import Column, agreements, by_domain, by_occupation, columns, comparisons, measure
from patchlab.evaluation.metrics import OF_EVERY_REPLY, Verdicts
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.reply_store import Replies, machine, made_with
from patchlab.evaluation.suites import DOMAINS, SUITES, Check, Suite, load_prompts, suite
from patchlab.models import Backbone
from patchlab.patches import Patch, Stack
from patchlab.records import Agreement, Measure, Progress, Prompt, Reply, Report
from patchlab.scoring.table import coarse_note

EXAMPLES = 3  # replies of each suite and lane that the report shows


def evaluate(lab: Lab, *, stack: Stack, suites: Sequence[str] = (), n: int = 300, seed: int = 0,
             lanes: Sequence[str] | None = None, others: Mapping[str, Stack] | None = None, folder: Path | None = None,
             sampling: Sampling | None = None, samples: int | None = None, judge: Backbone | None = None, out: Path | None = None,
             strict: bool = False) -> Iterator[Progress | Report]:
    """Yield Progress and finally one Report for `stack` on these suites (all embedded ones by default).

    `others` are further patched lanes, each by its name with the stack on it, beside that of `stack`.

    At most `n` prompts per file are used, from `folder` (the embedded ones by default), with `samples` replies each (the
    suite's own number by default). `judge` computes perplexity and which replies are on topic. By default the reference judges
    base and patched, and the base judges the reference; without a reference these metrics are left out with a note. With `out`
    every reply is stored there as soon as it is finished, and a run with the same settings continues from them.
    A row that cannot be used, or whose prompt does not fit the models, is skipped with a note; with `strict` it is an error.
    Raises NotFoundError or InputError for lanes, suites, prompts or an `out` that cannot be used, before any reply is generated.
    """
    sampling, stacks = sampling or Sampling(seed=seed), {"patched": stack, **(others or {})}
    chosen = list({each.name: each for each in map(suite, suites or SUITES)}.values())
    notes: list[str] = []
    prompts_of = partial(load_prompts, n=n, folder=folder, strict=strict, notes=notes,
                         check=_check(lab, [lab.planner.plan(each) for each in stacks.values()], sampling, judge))
    prompts = {each.name: prompts_of(each) for each in chosen}
    names = list(dict.fromkeys(lanes or [name for name in lab.names_with(others or ()) if stack or name != "patched"]))
    run = _Run(lab, stacks, names, seed, sampling, judge, prompts[chosen[0].name][0])
    if lab.reference and "drift" in prompts:
        run.domain_prompts = [prompt for name in run.domains for prompt in prompts_of(name)]
    run.made_with |= {"suites": ", ".join(f"{s.name}={s.source}" if s.source else s.name for s in chosen), "n": str(n),
                      "seed": str(seed), "samples": str(samples or "each suite's own"),
                      "prompts": digest_of([prompt for each in prompts.values() for prompt in each])}
    run.notes += dict.fromkeys(notes)  # a file may be read for several suites
    run.store = Replies(run.made_with, out)
    try:
        for each in chosen:
            yield from run.suite(each, prompts[each.name], samples or each.samples)
    finally:
        run.store.close()
    yield run.report()


def _check(lab: Lab, plans: Sequence[StackPlan], sampling: Sampling, judge: Backbone | None) -> Check:
    """Raises InputError for a prompt that a lane or the judge cannot read, or that leaves no room for a reply."""
    def check(prompt: Prompt) -> None:
        for plan in plans:
            lab.check(prompt, plan=plan, sampling=sampling)
        if judge and len(judge.encode(prompt)) + sampling.max_new_tokens > judge.context:
            raise ContextError(f"a prompt too long for the judge {judge.name}", expected=f"at most {judge.context:,} tokens",
                               do="shorten it, or choose another judge")

    return check


def digest_of(prompts: Sequence[Prompt]) -> str:
    """The sha256 of a list of prompts."""
    return hashlib.sha256(json.dumps([prompt.key for prompt in prompts]).encode()).hexdigest()


def _pinned(stack: Stack, patches: Sequence[Patch]) -> Stack:
    """The stack with fixed versions, so that a patch installed during the run cannot change the lanes."""
    return replace(stack, entries=tuple(replace(entry, version=patch.manifest.version)
                                        for entry, patch in zip(stack.entries, patches, strict=True)))


def _named(patches: Sequence[Patch]) -> str:
    return ", ".join(f"{p.manifest.name} {p.manifest.version} {p.digest[:12]}" for p in patches)


def _told(stack: Stack, patches: Sequence[Patch]) -> str:
    """All that the replies of a further lane depend on, in one line."""
    gated = ", ".join(f"{p.manifest.name} {p.gate.digest[:12]}" for p in patches if p.gate) if stack.gates else ""
    return f"{stack}; {stack.mode}; {stack.placement}; {_named(patches)}" + (f"; gates {gated or 'none'}" if stack.gates else "")


class _Run:
    """One evaluation: its models and settings, and the columns computed so far."""

    store: Replies

    def __init__(self, lab: Lab, stacks: Mapping[str, Stack], names: list[str], seed: int, sampling: Sampling,
                 judge: Backbone | None, first: Prompt) -> None:
        self.lab, self.names, self.seed, self.sampling, self.judge = lab, names, seed, sampling, judge
        plans = {name: lab.planner.plans(each, [first])[0] for name, each in stacks.items()}
        patches_of = {name: [one.patch for one in plan.patches] for name, plan in plans.items()}
        stack, patches = stacks["patched"], patches_of["patched"]
        pinned = {name: _pinned(each, patches_of[name]) for name, each in stacks.items()}
        needed = [*names, *(name for name in ("base", "reference") if name in lab.lane_names)]
        self.lanes = {lane.name: lane for lane in lab.lanes(pinned.pop("patched"), needed, others=pinned)}
        self.patched = [*stacks]
        self.domains = list(dict.fromkeys(patch.manifest.domain for some in patches_of.values() for patch in some
                                          if patch.manifest.domain in DOMAINS))
        self.domain_prompts: list[Prompt] = []  # of the patches' domains, for KL to the reference
        other = lab.reference
        self.made_with = {
            "preset": lab.name, "base": lab.base.identity.fingerprint,
            "reference": other.identity.fingerprint if other else "none", "stack": str(stack), "mode": stack.mode,
            "patches": _named(patches), **{name: _told(stacks[name], patches_of[name]) for name in pinned},
            "lanes": ", ".join(names), **made_with(sampling, *filter(None, (lab.base, other))), **machine(),
            "judge": "the model that is not judged" if other else "none"}
        if judge:
            self.made_with["judge"] = f"{judge.name} {judge.identity.fingerprint}"
        if stack.gates:
            self.made_with["gates"] = ", ".join(f"{p.manifest.name} {p.gate.digest[:12]}" for p in patches if p.gate) or "none"
        self.columns: list[Column] = []
        self.agreements: list[Agreement] = []
        self.examples: list[Reply] = []
        self.notes: list[str] = [*dict.fromkeys(said for plan in plans.values() for said in plan.warnings),
                                 *filter(None, [coarse_note(lab.judges)])]

    def suite(self, chosen: Suite, prompts: list[Prompt], samples: int) -> Generator[Progress, None, None]:
        """Generate the replies of one suite and compute its columns."""
        judges = Judges(self.lab.base, self.lab.reference, self.judge, Verdicts(self.lab.judges))
        if chosen.name == "drift":
            yield from self._drift(prompts, judges)
            return
        replies = yield from self.store.draw([self.lanes[name] for name in self.names], prompts, samples, self.sampling,
                                             chosen.name)
        for name in self.names:
            of_lane = [reply for reply in replies if reply.lane == name]
            self.examples += of_lane[:EXAMPLES]
            for metric in chosen.metrics:
                for column in self._columns(chosen.name, name, metric, of_lane, judges):
                    self.columns += [column] if chosen.apart != "only" else []
                    self.columns += by_domain(column) if chosen.apart != "no" else []
            for metric in OF_EVERY_REPLY:
                self.columns += self._columns(chosen.name, name, metric, of_lane, judges)
        self.agreements += agreements(chosen.name, chosen.metrics, replies, judges.verdicts, seed=self.seed)

    def _drift(self, prompts: list[Prompt], judges: Judges) -> Generator[Progress, None, None]:
        """KL of patched to the base on harmless prompts, and of base and patched to the reference on the domains' prompts."""
        for metric, source, asked, lanes in (("kl_to_base", "base", prompts, self.patched), (
                "kl_to_reference", "reference", self.domain_prompts, ["base", *self.patched])):
            measured = [name for name in lanes if name in self.names]
            if not measured or self._note_unable(metric, judges) or not asked:
                continue
            stage = "drift" if source == "base" else "drift from the reference"
            replies = yield from self.store.draw([self.lanes[source]], asked, 1, self.sampling, stage)
            for name in measured:
                self.columns += self._columns("drift", name, metric, replies, judges)

    def _columns(self, suite: str, lane: str, metric: str, replies: Sequence[Reply], judges: Judges) -> list[Column]:
        """A metric's columns for a lane; none, and a note, if it cannot be computed."""
        if self._note_unable(metric, judges):
            return []
        return list(columns(suite, metric, self.lanes[lane], replies, judges))

    def _note_unable(self, metric: str, judges: Judges) -> bool:
        """Whether a metric cannot be computed, with a note that says why."""
        if reason := judges.unable(metric):
            self._note(f"{metric} is not measured: {reason}")
        return bool(reason)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def report(self) -> Report:
        """The report of all columns."""
        first = [column for column in self.columns if not column.second]
        for column in first:
            if not column.known:
                self._note(f"{column.suite} {column.metric} of {column.lane}: undefined for every prompt (n = "
                           f"{len(column.values)})")
        return Report(
            tuple(self._measures(first)), tuple(dict.fromkeys(self.examples)), self.made_with,
            seconds=tuple(self._measures([column for column in self.columns if column.second])),
            details=tuple(self._measures([part for column in first for part in by_occupation(column)])),
            comparisons=tuple(comparisons(self.columns, self.names, seed=self.seed)), agreements=tuple(self.agreements),
            scorers={column.scorer: column.digest for column in self.columns}, notes=tuple(self.notes))

    def _measures(self, columns: Sequence[Column]) -> list[Measure]:
        return [result for column in columns for result in measure(column, seed=self.seed)]
