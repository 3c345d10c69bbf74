"""Do many patches hold side by side? `python -m benchmarks.quality.stacks [--quick] [--train]`

Sixteen small patches for the pocket base, in stacks of 2, 4, 8 and 16: in parallel, in sequence, blended, and as one joint
patch trained once for all. Patches that trained with each other present are told apart from patches of vendors who never met,
and for these what helps is shown beside. Trainings and readings lie in build/stacks; a run that was stopped goes on. About
two hours on one core; writes benchmarks/results/stacks.json after every row.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import RESULTS, write_results
from benchmarks.quality.ablations import attend
from benchmarks.quality.stacks_family import POLICIES, order
from benchmarks.quality.stacks_read import CLOSE, Reader, Values, figures, loss_beside
from benchmarks.quality.stacks_train import QUICK, Plan, Workshop, short
from patchlab.engine import Lab, StackPlan, blend, compile_prefix, fixed, load, normalised, parallel
from patchlab.engine.forward_rows import ForwardRow, Part
from patchlab.engine.lanes import Plans, unpatched
from patchlab.evaluation.statistics import meets
from patchlab.patches import Stack

WORK = Path(__file__).parents[2] / "build" / "stacks"
TOGETHER, APART, JOINT = "Trained to live together", "Vendors who never met", "One joint patch"
SUBSETS = "Trained in random subsets and concatenated, as MOSAIC does"
HELP = "Vendors who never met, with what may help"
ENOUGH = 0.02  # what a patch may lose on training prompts before it trains on: on held-out ones it loses more
GOAL = 8  # patches in a stack of the default mode that are to keep their effect

Row = dict[str, Any]
# what may help patches that meet for the first time: in words, its label, whose patches, and the forward rows made of their
# segments and an attention sink; None is the planner's own plan
WAYS: tuple[tuple[str, str, str, Callable[[Sequence[Part], Part], tuple[ForwardRow, ...]] | None], ...] = (
    ("as they are", "apart-parallel", "apart", None),
    ("gates on", "apart-parallel-gates-0", "gated", None),
    ("strengths that add up to 1", "sum-1", "apart", lambda parts, _: parallel(normalised(parts))),
    ("strengths that add up to 2", "sum-2", "apart", lambda parts, _: parallel(normalised(parts, 2.0))),
    ("strengths that add up to 4", "sum-4", "apart", lambda parts, _: parallel(normalised(parts, 4.0))),
    ("an attention sink beside", "sink", "apart", lambda parts, sink: parallel([*parts, sink])),
    ("practised with neutral companions", "practised", "practised", None),
    ("practised, strengths that add up to 4", "practised-sum-4", "practised", lambda parts, _: parallel(normalised(parts, 4.0))),
    ("blend", "apart-blend", "apart", lambda parts, _: blend(parts)),
    ("blend that averages", "mean", "apart", lambda parts, _: blend(parts, averaging=True)))


def plans_of(lab: Lab, stack: Stack | str) -> Plans:
    """The plans of a stack for prompts."""
    return lab.lanes(stack, ["patched"])[0].plans


class Bench:
    """The families, and their stacks read."""

    def __init__(self, lab: Lab, plan: Plan, work: Path) -> None:
        self.plan, self.names = plan, order(plan.seed)
        self.shop = Workshop(lab, plan, work)
        self.reader = Reader(lab.base, plan, work / "read")
        self.dev = Reader(lab.base, plan, work / "dev", part="train")
        self.members = self.names[:max(plan.sizes)]  # all sixteen, but in a quick run

    @property
    def middle(self) -> int:
        """The size at which what may help is compared: the largest but one."""
        return self.plan.sizes[-2]

    @property
    def expected(self) -> int:
        """How many rows a whole run has."""
        return len(self.plan.sizes) * 2 * 3 + len(self.plan.sizes[:-1]) * 3 + 1 + len(WAYS)

    def train(self) -> None:
        """All trainings, and no reading."""
        self.together()
        self.shop.joint(self.names[:self.middle])
        self.shop.practised(self.names[:self.middle])
        self.shop.subsets(self.names[:self.middle])

    def together(self) -> Lab:
        """The family trained to live together, with rounds more for those that lose beside the others on training prompts."""
        met, names = self.shop.together(self.members), self.names[:self.middle]
        for number in range(self.plan.further):
            some = [name for name in names if self._lost(name, names, met) > ENOUGH]
            if not some:
                break
            met = self.shop.round(some, self.members, met, len(self.plan.rounds) + number)
        return met

    def _lost(self, name: str, names: Sequence[str], met: Lab) -> float:
        """What a patch loses in the stack of `names`, on training prompts."""
        key = short([met.planner.patch(each).digest for each in names])
        alone, beside = (self.dev.read(label, plans_of(met, stack), [name], costs=False)[name]
                         for label, stack in ((f"alone-{name}-{met.planner.patch(name).digest[:8]}", name),
                                              (f"beside-{name}-{key}", ",".join(names))))
        return loss_beside(POLICIES[name], alone, beside)

    def rows(self) -> Iterator[Row]:
        """A row for each stack; what the issue of many patches turns on comes first."""
        apart, together = self.shop.apart(self.members), self.together()
        families = ((TOGETHER, "together", together), (APART, "apart", apart))
        for group, family, lab in families:
            yield from self._modes(group, family, lab, "parallel")
            yield from self._modes(group, family, self.shop.gated(family), "parallel", gates=True)
        yield from self._helped(apart)
        names = self.names[:self.middle]
        joint, name = self.shop.joint(names), f"joint-{self.middle}"
        yield self._row(JOINT, f"{self.middle} in one", "apart", name, names, plans_of(joint, name))
        for group, family, lab in families:
            yield from self._modes(group, family, lab, "sequential")
        subsets = self.shop.subsets(names)
        yield from self._modes(SUBSETS, "subsets", subsets, "sequential", sizes=self.plan.sizes[:-1])
        for group, family, lab in families:  # a reply of the largest would take seventeen forward rows
            yield from self._modes(group, family, lab, "blend", sizes=self.plan.sizes[:-1])

    def _modes(self, group: str, family: str, lab: Lab, mode: Any, *, gates: bool = False,
               sizes: Sequence[int] = ()) -> Iterator[Row]:
        for size in sizes or self.plan.sizes:
            names = self.names[:size]
            stack = Stack.parse(",".join(names), mode=mode, gates=gates)
            how = f"{mode}{', gates on' if gates else ''}"
            yield self._row(group, f"{size}, {how}", family, f"{family}-{mode}{'-gates-0' if gates else ''}-{size}", names,
                            plans_of(lab, stack))

    def _helped(self, apart: Lab) -> Iterator[Row]:
        """What may help patches that meet for the first time."""
        names = self.names[:self.middle]
        practised, gated = self.shop.practised(names), self.shop.gated("apart")
        with torch.no_grad():
            opening = apart.base.embeddings[apart.base.tokenizer.bos_token_id or 0][None].detach()
            sink = compile_prefix(apart.base, opening), 4.0
        for way, label, family, change in WAYS:
            lab = {"practised": practised, "gated": gated}.get(family, apart)
            stack = Stack.parse(",".join(names), gates=family == "gated")
            plans = fixed(StackPlan(change(lab.planner.plan(stack).rows[0].parts, sink))) if change else plans_of(lab, stack)
            yield self._row(HELP, f"{self.middle}, {way}", "practised" if family == "practised" else "apart",
                            f"{label}-{self.middle}", names, plans)

    def _row(self, group: str, name: str, family: str, label: str, names: Sequence[str], plans: Plans) -> Row:
        """One stack beside each of its patches alone, as its family made them, and beside the base."""
        lab = self.shop.family(family)
        single: dict[str, Values] = {}
        for each in names:
            label_alone = f"{family}-alone-{each}-{lab.planner.patch(each).digest[:8]}"
            single[each] = self.reader.read(label_alone, plans_of(lab, each), [each], costs=False)
        base = self.reader.read("base", unpatched, self.members)
        made = self.shop.family("joint").planner.patch(label) if group == JOINT else None
        key = short([made.digest] if made else [lab.planner.patch(each).digest for each in names])
        values = self.reader.read(f"{label}-{key}", plans, names)
        return {"group": group, "name": name, **figures(single, values, base, names, seed=self.plan.seed)}


def judged(rows: Sequence[Row]) -> list[Row]:
    """The goal as a figure: at eight in the default mode no patch loses more than five points."""
    found = []
    for group, how, bar in ((TOGETHER, "", f"<= {CLOSE}"), (TOGETHER, ", gates on", f"<= {CLOSE}"), (APART, "", ""),
                            (APART, ", gates on", f"<= {CLOSE}")):
        for row in rows:
            if (row["group"], row["name"]) == (group, f"{GOAL}, parallel{how}"):
                value, low, high, n = row["figures"]["most lost"]
                found.append({"name": f"{group.lower()}, {row['name']}: most that one patch lost of its effect", "value": value,
                              "low": low, "high": high, "n": n, "bar": bar, "met": meets(bar, low, high) if bar else None})
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Train, read, print, write; 0 where the bar is met or not judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a step or two and few prompts, to see that it runs")
    parser.add_argument("--train", action="store_true", help="train all families and read nothing")
    parser.add_argument("--work", type=Path, default=WORK, help="where trainings and readings lie")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    plan, began = QUICK if given.quick else Plan(), time.monotonic()
    lab = load("pocket", device="cpu")
    attend(lab, "eager")
    # another base, or other dials, is another work folder
    bench = Bench(lab, plan, given.work / f"{lab.base.identity.fingerprint[:12]}-{plan.digest}")
    if given.train:
        bench.train()
        return 0
    out = given.out or (None if given.quick else RESULTS / "stacks.json")
    facts = {"quick": given.quick, "plan": asdict(plan), "order": bench.names, "seed": plan.seed,
             "policies": {name: policy.about for name, policy in POLICIES.items()}, "expected": bench.expected}
    rows: list[Row] = []
    for row in bench.rows():
        rows.append(row)
        print(f"{row['group']} | {row['name']} | " + ", ".join(
            f"{k} {v[0] if isinstance(v, list) else v:.3f}" for k, v in row["figures"].items()) + f" | {row['note']}", flush=True)
        if out:  # after every row: it is a long way
            write_results(out, facts | {"seconds": round(time.monotonic() - began), "rows": rows,
                                        "figures": [] if given.quick else judged(rows)},
                          command="quality.stacks", prompts=bench.reader.asked, n=plan.n, seed=plan.seed)
    return int(any(figure["met"] is False for figure in judged(rows)) and not given.quick)


if __name__ == "__main__":
    sys.exit(main())
