"""Evaluates a stack: replies of every lane on every suite, their metrics with intervals, as one Report.

What every metric gives is a column: one value a prompt of one lane. Figures, finer figures and comparisons of lanes are
all made from columns; what a column costs is paid once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchlab import __version__
from patchlab.engine import Sampling, Trio
from patchlab.evaluation.columns import Column, agreements, by_domain, by_occupation, comparisons, measure
from patchlab.evaluation.metrics import METRICS, Judged, present, prompts_of, scores
from patchlab.evaluation.model_metrics import MODELLED, Asked
from patchlab.evaluation.reply_store import Replies
from patchlab.evaluation.suites import SUITES, Suite, load_prompts, suite
from patchlab.models import Backbone
from patchlab.patches import Stack
from patchlab.records import Agreement, Measure, Progress, Prompt, Reply, Report, Score
from patchlab.scoring import load_scorer

EXAMPLES = 3  # replies of each suite and lane that go into the report
OWN = {"toxicity": "toxicity", "bias": "bias", "refusal": "refusal"}  # patch domain -> the suite of its prompts


@dataclass(frozen=True, slots=True)
class Headline:
    """The metric that a suite is judged by, and its best value; distances of distributions are not shares."""

    metric: str
    best: float
    share: bool = True


HEADLINES = {
    "toxicity": Headline("toxic_rate", 0.0), "bias": Headline("stereotype_rate", 0.5),
    "refusal": Headline("refusal_rate", 1.0), "overrefusal": Headline("refusal_rate", 0.0),
    "helpfulness": Headline("helpful_rate", 1.0), "drift": Headline("kl_to_base", 0.0, share=False)}


def evaluate(trio: Trio, *, stack: Stack, suites: Sequence[str] = (), n: int = 300, seed: int = 0,
             lanes: Sequence[str] | None = None, folder: Path | None = None, sampling: Sampling | None = None,
             samples: int | None = None, judge: Backbone | None = None,
             out: Path | None = None) -> Iterator[Progress | Report]:
    """Yield Progress, and at last one Report, for `stack` on these suites (all embedded ones by default).

    `n` prompts a file are asked, from `folder` (the embedded ones by default), with `samples` replies each (what the
    suite says by default). `judge` gives perplexity and says what is on topic; without one no lane is judged by its own
    model: the reference judges base and patched, the base the reference. With `out`, every reply is kept there as soon
    as it is finished, and a run with the same settings goes on from them.
    Raises NotFoundError or InputError for suites, prompts or an `out` that cannot be used, before any work is done.
    """
    sampling = sampling or Sampling(seed=seed)
    chosen = list({each.name: each for each in map(suite, suites or SUITES)}.values())
    names = list(lanes or (trio.lanes if stack else [name for name in trio.lanes if name != "patched"]))
    run = _Run(trio, stack, names, seed, sampling, judge)
    plan = [(each, load_prompts(each, n=n, folder=folder)) for each in chosen]
    own = {name: load_prompts(name, n=n, folder=folder) for name in run.domains} if "drift" in {
        each.name for each in chosen} else {}
    run.made_with |= {"suites": ", ".join(f"{s.name}={s.source}" if s.source else s.name for s in chosen), "n": str(n),
                      "seed": str(seed), "samples": str(samples or "each suite's own"),
                      "prompts": _digest([prompt.text for _, prompts in plan for prompt in prompts])}
    run.store = Replies(run.made_with, out)
    try:
        for each, prompts in plan:
            yield from run.suite(each, prompts, samples or each.samples, own)
    finally:
        run.store.close()
    yield run.report()


class _Run:
    """One evaluation under way: what is asked of whom, and what is found so far."""

    store: Replies

    def __init__(self, trio: Trio, stack: Stack, lanes: list[str], seed: int, sampling: Sampling,
                 judge: Backbone | None) -> None:
        self.trio, self.seed, self.sampling, self.judge = trio, seed, sampling, judge
        self.lanes = {lane.name: lane for lane in trio.lane_list(stack, [*dict.fromkeys([*lanes, *trio.lanes[::2]])])}
        self.names = lanes
        patches = [trio.patch(entry.name, entry.version) for entry in stack.entries]
        self.domains = list(dict.fromkeys(OWN[p.manifest.domain] for p in patches if p.manifest.domain in OWN))
        self.made_with = {
            "patchlab": __version__, "preset": trio.preset.name, "base": trio.base.identity.fingerprint,
            "reference": trio.reference.identity.fingerprint, "stack": str(stack), "mode": stack.mode,
            "patches": ", ".join(f"{p.manifest.name} {p.manifest.version} {p.digest[:12]}" for p in patches),
            "lanes": ", ".join(lanes), "temperature": f"{sampling.temperature:g}", "top_p": f"{sampling.top_p:g}",
            "max_new_tokens": str(sampling.max_new_tokens), "sampling_seed": str(sampling.seed),
            "judge": f"{judge.name} {judge.identity.fingerprint}" if judge else "the model that is not judged"}
        if trio.base.bits or trio.reference.bits:
            self.made_with["bits"] = f"{trio.base.bits or 'as they are'} and {trio.reference.bits or 'as they are'}"
        if stack.gates:
            self.made_with["gates"] = ", ".join(f"{p.manifest.name} {p.gate.digest[:12]}" for p in patches if p.gate) or "none"
        self.columns: list[Column] = []
        self.verdicts: dict[tuple[str, str], list[tuple[Reply, Score]]] = {}  # (suite, scorer) -> of all lanes
        self.examples: list[Reply] = []
        self.scorers: dict[str, str] = {}
        self.notes: list[str] = []

    def suite(self, chosen: Suite, prompts: list[Prompt], samples: int,
              own: dict[str, list[Prompt]]) -> Generator[Progress, None, None]:
        """Draw and measure one suite."""
        if chosen.name == "drift":
            yield from self._drift(chosen, prompts, own)
            return
        lanes = [self.lanes[name] for name in self.names]
        said = yield from self.store.draw(lanes, prompts, samples, self.sampling, chosen.name)
        for name in self.names:
            replies = [reply for reply in said if reply.lane == name]
            self.examples += replies[:EXAMPLES]
            for metric in chosen.metrics:
                for column in self._columns(chosen.name, name, metric, replies):
                    whole = [column] if chosen.apart != "only" else []
                    self.columns += whole + (by_domain(column) if chosen.apart != "no" else [])

    def _columns(self, suite: str, lane: str, metric: str, replies: Sequence[Reply]) -> Iterator[Column]:
        """A metric's column for a lane; one for each scorer it can be judged by."""
        how = METRICS.get(metric)
        prompts = tuple(prompts_of(replies))
        if how is None:
            asked = Asked(self.trio, self.lanes[lane], self.judge, replies)
            for k, (scorer, digest, values) in enumerate(MODELLED[metric](asked)):
                self.scorers[scorer] = digest
                yield Column(suite, lane, metric, scorer, prompts, tuple(values), second=k > 0)
        elif isinstance(how, Judged):
            for scorer in self._judges(metric, how):
                found = scores(scorer, replies)
                self._remember(suite, scorer, replies, found)
                yield Column(suite, lane, metric, scorer, prompts, tuple(how.compute(replies, found)),
                             second=scorer != how.scorers[0])
        else:
            self.scorers[how.scorer] = how.digest
            yield Column(suite, lane, metric, how.scorer, prompts, tuple(how.compute(replies)))

    def _judges(self, metric: str, how: Judged) -> list[str]:
        here = present(how.scorers)
        if len(here) < len(how.scorers):
            self._note(f"{metric} rests on one scorer, {here[0]}, which also filters training pairs; no second is here")
        return here

    def _remember(self, suite: str, scorer: str, replies: Sequence[Reply], found: Sequence[Score]) -> None:
        self.scorers[scorer] = load_scorer(scorer).digest
        held = self.verdicts.setdefault((suite, scorer), [])
        known = {(reply.lane, reply.row) for reply, _ in held}
        held += [pair for pair in zip(replies, found, strict=True) if (pair[0].lane, pair[0].row) not in known]

    def _drift(self, chosen: Suite, prompts: list[Prompt],
               own: dict[str, list[Prompt]]) -> Generator[Progress, None, None]:
        """How far the patched base is from the base on harmless requests, and both from the reference on its domain."""
        if "patched" in self.names:
            said = yield from self.store.draw([self.lanes["base"]], prompts, 1, self.sampling, chosen.name)
            self.columns += self._columns(chosen.name, "patched", "kl_to_base", said)
        domain = [prompt for some in own.values() for prompt in some]
        if not domain:
            return
        if self.trio.base.identity.tokenizer_digest != self.trio.reference.identity.tokenizer_digest:
            self._note("kl_to_reference is not measured: base and reference have different tokenizers")
            return
        said = yield from self.store.draw([self.lanes["reference"]], domain, 1, self.sampling,
                                          f"{chosen.name} from the reference")
        for name in ("base", "patched"):
            if name in self.names:
                self.columns += self._columns(chosen.name, name, "kl_to_reference", said)

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)

    def report(self) -> Report:
        """Everything found, as figures."""
        first = [column for column in self.columns if not column.second]
        second = [column for column in self.columns if column.second]
        measures = tuple(self._figures(first))
        for column in first:
            if not column.known:
                self._note(f"{column.suite} {column.metric} of {column.lane}: none of {len(column.values)} prompts gives "
                           "a number")
        return Report(
            measures, tuple(dict.fromkeys(self.examples)), self.made_with, seconds=tuple(self._figures(second)),
            details=tuple(self._figures([fine for column in first for fine in by_occupation(column)])),
            comparisons=tuple(comparisons(self.columns, self.names, seed=self.seed)),
            agreements=tuple(self._agreements()), scorers=self.scorers, notes=tuple(self.notes))

    def _figures(self, columns: Sequence[Column]) -> list[Measure]:
        return [figure for column in columns for figure in measure(column, seed=self.seed)]

    def _agreements(self) -> Iterator[Agreement]:
        for how in METRICS.values():
            if isinstance(how, Judged):
                yield from agreements(self.verdicts, how.scorers, seed=self.seed)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
