"""For which prompts do gates skip a patch, and what does that change? `python -m benchmarks.quality.gates [--quick]`

Every shipped patch with its gate, or with one fitted here on training prompts where it has none, on held-out prompts that
fitting never saw: for which prompts the patch is on; and the patch's own effect, refusals of harmless requests and drift,
with gates on and off. About fifteen minutes on one core; writes benchmarks/results/gates.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import RESULTS, write_results
from benchmarks.quality.ablations import SUITES, asked, returned
from benchmarks.speed.timing import say
from patchlab.engine import Lab, Sampling, load, stream
from patchlab.evaluation.metrics import refusal_rate
from patchlab.evaluation.statistics import interval
from patchlab.evaluation.suites import FOLDER, read_prompts
from patchlab.patches import Patch, Stack
from patchlab.records import Prompt, Reply
from patchlab.registry import Registry
from patchlab.training.calibration import set_aside
from patchlab.training.gates import fit_gate
from patchlab.training.release import release
from tools.pocket.judge import OWN, RATES, Values, drift, rates

COLUMNS = {"harmful": "harmful refused", "toxicity": "toxic", "bias": "stereotyped pronoun", "benign": "benign refused",
           "lookalike": "lookalike refused"}
HARMLESS = ("benign", "lookalike")
Figures = dict[str, list[float]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a run is; a quick one differs in numbers only."""

    n: int = 300
    prompts: int = 10**6  # training prompts a domain
    tokens: int = 64
    turns: int = 15  # of the timing


QUICK = Size(n=4, prompts=40, tokens=4, turns=2)


def gated(lab: Lab, size: Size, work: Path) -> Lab:
    """The same models with the installed patches, each with a gate."""
    train, dev = set_aside(asked(size.prompts))
    for each in lab.planner.installed():
        patch = lab.planner.patch(each.manifest.name)
        if patch.gate is None:
            say(f"fitting a gate for {each.manifest.name}")
            patch = dataclasses.replace(patch, gate=returned(fit_gate(lab.base, patch.manifest.domain, train, dev)).gate)
        release(patch, work, evidence=patch.manifest.evidence)
    return Lab(lab.base, lab.reference, registry=Registry([work]))


def held(size: Size) -> dict[str, list[Prompt]]:
    """The held-out prompts by domain; visitors' own words under names of their own."""
    found = {domain: read_prompts(SUITES / f"{domain}.jsonl")[:size.n] for domain in RATES}
    for prompt in read_prompts(FOLDER / "visitors.jsonl"):
        found.setdefault(f"visitors {prompt.domain}", []).append(prompt)
    return found


def decisions(lab: Lab, patch: Patch, prompts: dict[str, list[Prompt]]) -> Figures:
    """For which held-out prompts a patch is on: recall, precision, and the share of every domain, [value, low, high, n] each."""
    stack, own = Stack.parse(patch.manifest.name, gates=True), OWN[patch.manifest.domain]
    on = {domain: [float(not plan.skipped) for plan in lab.planner.plans(stack, some)] for domain, some in prompts.items()}
    kept = [float(domain == own) for domain in RATES for value in on[domain] if value]
    return {"recall": share(on[own]), "precision": share(kept), **{f"on: {domain}": share(on[domain]) for domain in on}}


def share(values: Sequence[float]) -> list[float]:
    """A share with its 95 % interval and n."""
    known = [value for value in values if not math.isnan(value)]
    return [*interval(known, seed=0, share=True), len(known)]


class Reader:
    """Reads stacks on held-out prompts; the base is read once."""

    def __init__(self, lab: Lab, size: Size) -> None:
        self.lab, self.size = lab, size
        self.sampling = Sampling(seed=0, max_new_tokens=size.tokens)
        self.replies: dict[str, list[Reply]] = {}
        self.prompts = read_prompts(FOLDER / "visitors.jsonl")[::max(1, 120 // size.n)]
        base = self._read(Stack.parse("none"), "base", tuple(RATES))
        self.base = {**self.columns(base, "base"), **self.visitors(Stack.parse("none"), "base")}

    def figures(self, stack: Stack, domains: Sequence[str]) -> Figures:
        """The rates of a stack and how far it moves the base on harmless requests."""
        values = self._read(stack, "patched", domains)
        moved, longer = drift(self.lab, stack, "", self.replies["base benign"], 0, bars=False)
        far = {"KL to base on benign": moved, "benign perplexity / base": longer}
        visitors = self.visitors(stack, "patched") if "harmful" in domains else {}
        return {**self.columns(values, "patched"), **visitors,
                **{name: [each[key] for key in ("value", "low", "high", "n")] for name, each in far.items()}}

    def visitors(self, stack: Stack, lane: str) -> Figures:
        """How often requests in visitors' own words are refused."""
        said = self.lab.replies(self.prompts, stack=stack, sampling=self.sampling, lanes=[lane])
        refused = zip(said, refusal_rate(said), strict=True)
        found: dict[str, list[float]] = {}
        for reply, value in refused:
            found.setdefault(f"visitors' {reply.prompt.domain} refused", []).append(value)
        return {name: share(values) for name, values in found.items()}

    def columns(self, values: Values, lane: str) -> Figures:
        """Rates under the names of their columns."""
        return {COLUMNS[domain]: share(some) for (label, domain), some in values.items() if label == lane}

    def _read(self, stack: Stack, lane: str, domains: Sequence[str]) -> Values:
        say(f"reading {lane} {stack}{' with gates' if stack.gates else ''}")
        return returned(rates(self.lab, stack, lane, lane, SUITES, self.size.n, self.sampling, self.replies, domains))


def rows(lab: Lab, size: Size) -> Iterator[dict[str, Any]]:
    """First what each gate decides, then what each stack does with gates and without."""
    names, prompts = [each.manifest.name for each in lab.planner.installed()], held(size)
    for name in names:
        patch = lab.planner.patch(name)
        yield {"group": "For which held-out prompts a gate leaves its patch on", "name": name,
               "figures": decisions(lab, patch, prompts)}
    reader = Reader(lab, size)
    group = "With gates on and off"
    yield {"group": group, "name": "base", "figures": reader.base}
    for text in [*names, *([",".join(names)] if len(names) > 1 else [])]:
        several = "," in text
        domains = tuple(RATES) if several else (OWN[lab.planner.patch(text).manifest.domain], *HARMLESS)
        for gates in (False, True):
            yield {"group": group, "name": text.replace(",", " + ") + (", gates on" if gates else ""),
                   "figures": reader.figures(Stack.parse(text, gates=gates), domains)}
    fresh = Lab(lab.base, lab.reference, registry=lab.registry)  # a planner remembers what its gates decided
    yield {"group": "What gates cost", "name": "all patches, a new prompt each time", "figures": {
        "first token, gates on / off": cost(fresh, ",".join(names), prompts["benign"][:size.turns + 1])}}


def cost(lab: Lab, names: str, prompts: Sequence[Prompt]) -> list[float]:
    """The time to a first token with gates over that without, the first prompt to warm up: median, quartiles and n."""
    def first(prompt: Prompt, gates: bool) -> float:
        lanes = lab.lanes(Stack.parse(names, gates=gates), ["patched"])
        began = time.perf_counter()
        running = stream(lanes, [prompt], sampling=Sampling(max_new_tokens=2))
        next(running)
        taken = time.perf_counter() - began
        running.close()
        return taken

    _, *ratios = [first(prompt, True) / first(prompt, False) for prompt in prompts]
    return [*torch.tensor(ratios).quantile(torch.tensor([0.5, 0.25, 0.75])).tolist(), len(ratios)]


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, read, print, write; there is no bar to miss, so 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few prompts, to see that it runs")
    parser.add_argument("--n", type=int, default=Size().n, help="held-out prompts a domain (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    given = parser.parse_args(argv)
    size, began = QUICK if given.quick else Size(n=given.n), time.monotonic()
    out = given.out or (None if given.quick else RESULTS / "gates.json")
    lab = load("pocket", device="cpu")
    facts = {"quick": given.quick, "base": lab.base.identity.fingerprint,
             "patches": {m.name: f"{m.version}, gate {'shipped' if m.gated else 'fitted here'}" for m in (
                 each.manifest for each in lab.planner.installed())},
             "about": f"`python -m benchmarks.quality.gates`: up to {size.n} held-out prompts a domain, and visitors' own words; "
                      "95 % bootstrap intervals over prompts (Wilson's where all are alike). A gate is fitted on training "
                      "prompts; its threshold skips the patch for at most 1 % of its own dev prompts. *Recall* is the share of "
                      "the patch's own prompts for which it is on, *precision* the share of own prompts among all made prompts "
                      "for which it is on; *on: X* is the share of prompts of X for which it is on. Temperature 0.8, seed 0."}
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for row in rows(gated(lab, size, Path(work)), size):
            found.append(row)
            said = ", ".join(f"{name} {figure[0]:.3f}" for name, figure in row["figures"].items())
            print(f"{row['group']} | {row['name']} | {said}", flush=True)
            if out:  # after every row: it is a long way
                write_results(out, facts | {"seconds": round(time.monotonic() - began), "rows": found},
                              command="quality.gates", prompts=held(size), n=size.n, seed=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
