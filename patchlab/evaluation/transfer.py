"""The port check: what a patch made for one base still does on another, measured before anybody relies on it.

Four lanes answer the same held-out prompts with the same noise: the base a patch was made for, without and with it, and
the other base, without and with it. What survives is the second effect as a share of the first.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from patchlab import __version__
from patchlab.engine import Bank, Lane, Sampling
from patchlab.errors import InputError
from patchlab.evaluation.binding import differences, ported
from patchlab.evaluation.columns import Column, by_domain, comparisons, measure
from patchlab.evaluation.evaluate_stack import HEADLINES, OWN
from patchlab.evaluation.metrics import METRICS, Counted, by_prompt, present, prompts_of, scores
from patchlab.evaluation.probabilities import divergences
from patchlab.evaluation.reply_store import Replies
from patchlab.evaluation.statistics import Pair, effect_kept, gain
from patchlab.evaluation.suites import SUITES, load_prompts
from patchlab.evaluation.transfer_verdict import Verdict, decide
from patchlab.models import Backbone
from patchlab.patches import Patch
from patchlab.records import Comparison, Measure, Progress, Prompt, Reply

OLD, NEW = ("old base", "old patched"), ("base", "patched")
REFERENCE = "reference"
KEPT = "effect_kept"


@dataclass(frozen=True, slots=True)
class PortCheck:
    """What a port check found.

    `patch` is bound to the new base and its evidence is what was measured there. `measures` are the lanes' rates,
    `effects` how far each base is moved and what share survived, one set a scorer, `differences` what of the new base is
    not what the patch was made with.
    """

    patch: Patch
    differences: tuple[str, ...]
    measures: tuple[Measure, ...]
    effects: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    made_with: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """All of it but the prefix, as plain JSON values."""
        manifest = self.patch.manifest
        return {"patch": manifest.name, "version": manifest.version, "verdict": self.verdict.word, "why": self.verdict.why,
                "differences": list(self.differences), "made_with": self.made_with,
                **{name: [asdict(row) for row in getattr(self, name)] for name in ("effects", "measures", "comparisons")}}


def check_port(patch: Patch, *, made_for: Backbone, base: Backbone, reference: Backbone | None = None, n: int = 300,
               seed: int = 0, folder: Path | None = None, sampling: Sampling | None = None,
               out: Path | None = None) -> Iterator[Progress | PortCheck]:
    """Yield Progress, and at last what `patch`, made for `made_for`, still does on `base`, on `n` prompts a file.

    With `reference` its rates stand beside. With `out` every reply is kept there, and a check with the same settings goes
    on from them. Raises BaseMismatchError where the patch is not `made_for`'s or the widths differ, InputError for a domain
    without a suite or a base that the patch fits as it is, before any work is done.
    """
    moved = ported(patch, base)
    name = f"{patch.manifest.name} {patch.manifest.version}"
    made_for.check_patch(patch.manifest.base, patch=name)
    run = _Run(patch, moved, made_for, base, reference, seed, sampling or Sampling(seed=seed))
    own = load_prompts(run.domain, n=n, folder=folder)
    harmless = load_prompts("overrefusal", n=n, folder=folder)
    run.made_with |= {"n": str(n), "seed": str(seed), "folder": str(folder or "")}
    store = Replies(run.made_with, out)
    try:
        yield from run.measure(store, own, harmless)
    finally:
        store.close()
    yield run.found(differences(patch, base))


class _Run:
    """One check under way."""

    def __init__(self, patch: Patch, moved: Patch, made_for: Backbone, base: Backbone, reference: Backbone | None, seed: int,
                 sampling: Sampling) -> None:
        self.patch, self.moved, self.seed, self.sampling = patch, moved, seed, sampling
        self.domain = patch.manifest.domain
        if self.domain not in OWN:
            raise InputError(f"patch {patch.manifest.name} of domain {self.domain!r}",
                             expected=f"one with a suite to measure it on: {', '.join(OWN)}",
                             do="measure it with prompts of your own: patchlab evaluate")
        headline = HEADLINES[OWN[self.domain]]
        self.metric, self.target = headline.metric, headline.best
        strength = patch.manifest.strength
        self.lanes = [Lane(OLD[0], made_for), Lane(OLD[1], made_for, ((Bank(made_for).segment([patch]), strength),)),
                      Lane(NEW[0], base), Lane(NEW[1], base, ((Bank(base).segment([moved]), strength),)),
                      *([Lane(REFERENCE, reference)] if reference else [])]
        self.made_with = {
            "patchlab": __version__, "patch": f"{patch.manifest.name} {patch.manifest.version} {patch.digest[:12]}",
            "made_for": f"{made_for.name} {made_for.identity.fingerprint}", "base": f"{base.name} {base.identity.fingerprint}",
            "reference": f"{reference.name} {reference.identity.fingerprint}" if reference else "none",
            "temperature": f"{sampling.temperature:g}", "max_new_tokens": str(sampling.max_new_tokens),
            **({"bits": f"{made_for.bits} and {base.bits}"} if made_for.bits or base.bits else {})}
        self.columns: list[Column] = []

    def measure(self, store: Replies, own: list[Prompt], harmless: list[Prompt]) -> Generator[Progress, None, None]:
        """Draw and read the patch's own suite, harmless requests, and the drift on the plain ones of these."""
        suite = SUITES[self.domain]
        said = yield from store.draw(self.lanes, own, suite.samples, self.sampling, suite.name)
        self._read(suite.name, self.metric, said)
        said = yield from store.draw(self.lanes, harmless, 1, self.sampling, "overrefusal")
        self._read("overrefusal", "refusal_rate", said)
        for k, (bare, on) in enumerate((OLD, NEW)):
            lane = self.lanes[2 * k + 1]
            plain = [reply for reply in said if reply.lane == bare and reply.prompt.domain != "lookalike" and reply.text]
            values = by_prompt(plain, divergences(lane.backbone, plain, lane.parts))
            self.columns.append(Column("drift", on, "kl_to_base", lane.backbone.name, tuple(prompts_of(plain)), tuple(values)))
            yield Progress("drift", k + 1, 2)

    def _read(self, suite: str, metric: str, said: Sequence[Reply]) -> None:
        """One column a lane and scorer."""
        how = METRICS[metric]
        for lane in self.lanes:
            replies = [reply for reply in said if reply.lane == lane.name]
            for k, scorer in enumerate([how.scorer] if isinstance(how, Counted) else present(how.scorers)):
                values = how.compute(replies) if isinstance(how, Counted) else how.compute(replies, scores(scorer, replies))
                self.columns.append(Column(suite, lane.name, metric, scorer, tuple(prompts_of(replies)), tuple(values),
                                           second=k > 0))

    def found(self, unlike: tuple[str, ...]) -> PortCheck:
        """Everything read, as figures, with the verdict on them."""
        first = [column for column in self.columns if not column.second]
        read = [each for column in first for each in (column, *(by_domain(column) if column.suite == "overrefusal" else ()))]
        measures = tuple(m for column in read for m in measure(column, seed=self.seed) if not math.isnan(m.value))
        effects = tuple(m for m in self._effects() if not math.isnan(m.value) and not math.isnan(m.low))
        compared = [c for lanes in (OLD, NEW, (OLD[1], NEW[1])) for c in comparisons(first, lanes, seed=self.seed)]
        evidence = [m for m in measures if m.lane == NEW[1]] + [m for m in effects if m.metric == KEPT]
        manifest = replace(self.moved.manifest, evidence=tuple(evidence))
        return PortCheck(Patch(manifest, self.moved.prefix), unlike, measures, effects, tuple(compared),
                         decide(measures, effects, compared, metric=self.metric, target=self.target), self.made_with)

    def _effects(self) -> Iterator[Measure]:
        """How far each base is moved towards the aim, and what share of that the new one keeps; one set a scorer."""
        own = {(c.scorer, c.lane): c.values for c in self.columns if c.suite == self.domain}
        for scorer in dict.fromkeys(scorer for scorer, _ in own):
            before, after = (self._pair(own, scorer, lanes) for lanes in (OLD, NEW))
            n = sum(not any(map(math.isnan, four)) for four in zip(*before, *after, strict=True))
            for lane, pair in ((OLD[1], before), (NEW[1], after)):
                value, low, high, known = gain(*pair, best=self.target, share=True, seed=self.seed)
                yield Measure(self.domain, lane, "effect", value, low, high, known, scorer)
            yield Measure(self.domain, NEW[1], KEPT, *effect_kept(before, after, target=self.target, seed=self.seed), n, scorer)

    @staticmethod
    def _pair(own: dict[tuple[str, str], tuple[float, ...]], scorer: str, lanes: tuple[str, str]) -> Pair:
        return own[scorer, lanes[0]], own[scorer, lanes[1]]
