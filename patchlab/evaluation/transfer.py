"""Transfer: a patch bound to another base than its own, what it still does there, and one plain word for that.

Binding is the only way past BaseMismatchError. In the check four lanes answer the same held-out prompts with the same noise:
the base a patch was made for, without and with it, and the other base, without and with it. What survives is the second
effect as a share of the first.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed
from patchlab.errors import BaseMismatchError, InputError
from patchlab.evaluation.columns import Column, by_domain, columns, comparisons, measure
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.reply_store import Replies, machine, made_with
from patchlab.evaluation.statistics import Pair, effect_kept, gain
from patchlab.evaluation.suites import DOMAINS, HEADLINES, SUITES, load_prompts
from patchlab.models import Backbone
from patchlab.patches import Patch
from patchlab.records import Comparison, Measure, Progress, Reply

OLD, NEW = ("old base", "old patched"), ("base", "patched")
REFERENCE = "reference"
KEPT = "effect_kept"
SHOWN, MARK = 8, "port"  # a ported version's tag: MARK and so many digits of the new base's fingerprint

ENOUGH = 0.8  # the share of the effect that must survive, at the lower end of its interval, to be called kept
# a price is one only where its interval says that it is not chance
REFUSALS = 0.02  # the share of harmless requests that may be refused beyond what the new base refuses, or the patch added before
DRIFT = 0.02  # KL to the base on harmless requests, in nats a token, that is no price
FARTHER = 2.0  # nor is one up to so many times what the patch had on the old base


def ported(patch: Patch, base: Backbone) -> Patch:
    """The same prefix as a patch of `base`, without evidence: what it does there is to be measured.

    Its version is the old one with the build tag `port` and the new base's fingerprint: the prefix is no newer, it is for
    another base. Raises BaseMismatchError where the base's embeddings have another width, InputError where it fits as it is.
    """
    manifest = patch.manifest
    label = f"{manifest.name} {manifest.version}"
    if manifest.width != base.width:
        raise BaseMismatchError(f"patch {label} has embeddings of width {manifest.width}",
                                expected=f"width {base.width}, that of {base.name}", do="train a patch for this base")
    if not differences(patch, base):
        raise InputError(f"patch {label} was made for this very base, {base.name} ({base.identity.fingerprint[:12]})",
                         expected="another base", do="use the patch as it is")
    # a summary has an end; what is added to it may not be what is cut
    origin = f"Ported without training from {manifest.base.id} ({manifest.base.fingerprint[:12]})."
    summary = f"{manifest.summary[:1600].rstrip()} {origin}"
    return Patch(replace(manifest, version=_version(manifest.version, base.identity.fingerprint), summary=summary,
                         base=base.identity, evidence=(), files={}), patch.prefix)


def differences(patch: Patch, base: Backbone) -> tuple[str, ...]:
    """What of a base is not what the patch was made with: weights, tokenizer, chat template; empty where it fits."""
    old, new = patch.manifest.base, base.identity
    found = [("weights", old.fingerprint, new.fingerprint, old.fingerprint not in base.fingerprints),
             ("tokenizer", old.tokenizer_digest, new.tokenizer_digest, old.tokenizer_digest != new.tokenizer_digest),
             ("chat template", old.template_digest, new.template_digest, base.template_differs(old))]
    return tuple(f"{what} {a[:12] or 'none'}, here {b[:12] or 'none'}" for what, a, b, differs in found if differs)


def _version(version: str, fingerprint: str) -> str:
    """1.0.0 becomes 1.0.0+port.<fingerprint>; an earlier port's tag is replaced, other build tags stay."""
    core, _, build = version.partition("+")
    tags = build.split(".") if build else []
    if MARK in tags:
        at = tags.index(MARK)
        del tags[at:at + 2]
    return f"{core}+{'.'.join([*tags, MARK, fingerprint.rpartition(':')[2][:SHOWN]])}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`word` is kept, kept in part, lost, not needed or nothing to keep; the first two may come "at a price"."""

    word: str
    why: str

    @property
    def holds(self) -> bool:
        """Whether enough survived for the patch to be of use on the new base."""
        return self.word.startswith("kept")


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
    name, domain = f"{patch.manifest.name} {patch.manifest.version}", patch.manifest.domain
    made_for.check_patch(patch.manifest.base, patch=name)
    if domain not in DOMAINS:
        raise InputError(f"patch {patch.manifest.name} of domain {domain!r}",
                         expected=f"one with a suite to measure it on: {', '.join(DOMAINS)}",
                         do="measure it with prompts of your own: patchlab evaluate")
    sampling = sampling or Sampling(seed=seed)
    models = [("made_for", made_for), ("base", base), *([("reference", reference)] if reference else [])]
    settings = {"patch": f"{name} {patch.digest[:12]}", "reference": "none",
                **{lane: f"{model.name} {model.identity.fingerprint}" for lane, model in models},
                **made_with(sampling, *(model for _, model in models)), **machine(), "n": str(n), "seed": str(seed),
                "folder": str(folder or "")}
    asked = {suite: load_prompts(suite, n=n, folder=folder) for suite in (domain, "overrefusal")}
    store = Replies(settings, out)
    try:
        lanes = _lanes(patch, moved, made_for, base, reference)
        run = _Check(moved, lanes, HEADLINES[domain].best, HEADLINES[domain].metric, seed)
        for suite, prompts in asked.items():
            said = yield from store.draw(lanes, prompts, SUITES[suite].samples, sampling, suite)
            run.read(suite, HEADLINES[suite].metric, said)
        yield from run.drift(said)
    finally:
        store.close()
    yield run.found(differences(patch, base), settings)


def _lanes(patch: Patch, moved: Patch, made_for: Backbone, base: Backbone, reference: Backbone | None) -> list[Lane]:
    """Each base without and with the patch, and the reference where there is one."""
    found = []
    for names, backbone, own in ((OLD, made_for, patch), (NEW, base, moved)):
        scheduler, plan = Scheduler(backbone), StackPlan.of((Bank(backbone).segment([own]), patch.manifest.strength))
        found += [Lane(names[0], scheduler), Lane(names[1], scheduler, fixed(plan))]
    return [*found, Lane(REFERENCE, Scheduler(reference))] if reference else found


class _Check:
    """One check under way: the columns read so far."""

    def __init__(self, moved: Patch, lanes: Sequence[Lane], target: float, metric: str, seed: int) -> None:
        self.moved, self.lanes, self.target, self.metric, self.seed = moved, lanes, target, metric, seed
        self.columns: list[Column] = []

    def read(self, suite: str, metric: str, said: Sequence[Reply]) -> None:
        """One column a lane and scorer."""
        for lane in self.lanes:
            replies = [reply for reply in said if reply.lane == lane.name]
            self.columns += columns(suite, metric, lane, replies, Judges(lane.backbone))

    def drift(self, said: Sequence[Reply]) -> Generator[Progress, None, None]:
        """How far the patch moves each base on the plain ones of harmless requests."""
        for k, (bare, _) in enumerate((OLD, NEW)):
            lane = self.lanes[2 * k + 1]
            plain = [reply for reply in said if reply.lane == bare and reply.prompt.domain != "lookalike"]
            self.columns += columns("drift", "kl_to_base", lane, plain, Judges(lane.backbone))
            yield Progress("drift", k + 1, 2)

    def found(self, unlike: tuple[str, ...], settings: dict[str, str]) -> PortCheck:
        """Everything read, as figures, with the verdict on them."""
        first = [column for column in self.columns if not column.second]
        read = [each for column in first for each in (column, *(by_domain(column) if column.suite == "overrefusal" else ()))]
        measures = tuple(m for column in read for m in measure(column, seed=self.seed) if not math.isnan(m.value))
        effects = tuple(m for m in self._effects() if not math.isnan(m.value) and not math.isnan(m.low))
        compared = [c for lanes in (OLD, NEW, (OLD[1], NEW[1])) for c in comparisons(first, lanes, seed=self.seed)]
        evidence = [m for m in measures if m.lane == NEW[1]] + [m for m in effects if m.metric == KEPT]
        manifest = replace(self.moved.manifest, evidence=tuple(evidence))
        return PortCheck(Patch(manifest, self.moved.prefix), unlike, measures, effects, tuple(compared),
                         decide(measures, effects, compared, metric=self.metric, target=self.target), settings)

    def _effects(self) -> Iterator[Measure]:
        """How far each base is moved towards the aim, and what share of that the new one keeps; one set a scorer."""
        domain = self.moved.manifest.domain
        own = {(c.scorer, c.lane): c.values for c in self.columns if c.suite == domain}
        for scorer in dict.fromkeys(scorer for scorer, _ in own):
            before, after = (self._pair(own, scorer, lanes) for lanes in (OLD, NEW))
            n = sum(not any(map(math.isnan, four)) for four in zip(*before, *after, strict=True))
            for lane, pair in ((OLD[1], before), (NEW[1], after)):
                value, low, high, known = gain(*pair, best=self.target, share=True, seed=self.seed)
                yield Measure(domain, lane, "effect", value, low, high, known, scorer)
            yield Measure(domain, NEW[1], KEPT, *effect_kept(before, after, target=self.target, seed=self.seed), n, scorer)

    @staticmethod
    def _pair(own: dict[tuple[str, str], tuple[float, ...]], scorer: str, lanes: tuple[str, str]) -> Pair:
        return own[scorer, lanes[0]], own[scorer, lanes[1]]


def decide(measures: Sequence[Measure], effects: Sequence[Measure], compared: Sequence[Comparison], *, metric: str,
           target: float) -> Verdict:
    """What the figures of a port check come to; by the first scorer, whose measures they are."""
    rate = {m.lane: m for m in measures if m.metric == metric and m.suite != "overrefusal"}
    moved: dict[str, Measure] = {}
    for m in effects:  # the first scorer's come first
        moved.setdefault(m.lane if m.metric == "effect" else m.metric, m)
    before, after, kept = (moved.get(name) for name in ("old patched", "patched", "effect_kept"))
    if before is None or before.low <= 0 or kept is None or after is None:
        said = _said(before) if before else "no number"
        return Verdict("nothing to keep", f"on the base it was made for the patch moves {metric} by {said}, which may be nothing")
    if abs(rate["base"].value - target) <= abs(rate["old patched"].value - target):
        return Verdict("not needed", f"the new base alone has {metric} {rate['base'].value:.3f}, the old one with the patch "
                                     f"{rate['old patched'].value:.3f}")
    share = f"{_said(kept)} of the effect on {metric} survives"
    if after.low <= 0:
        return Verdict("lost", f"{share}: on the new base it is {_said(after)}, which may be nothing")
    word = "kept" if kept.low >= ENOUGH else "kept in part"
    price = list(_prices(measures, compared))
    return Verdict(f"{word}, at a price" if price else word, "; ".join([share, *price]))


def _prices(measures: Sequence[Measure], compared: Sequence[Comparison]) -> Iterator[str]:
    """What the patch costs on the new base that it did not cost on the old one."""
    refused = {c.second: c for c in compared if (c.suite, c.metric) == ("overrefusal", "refusal_rate") and "base" in c.first}
    now, before = refused["patched"], refused["old patched"]
    if now.low > 0 and now.difference > REFUSALS + max(0.0, before.difference):
        yield f"harmless requests refused rise by {now.difference:.3f}, on the old base by {before.difference:.3f}"
    far = {m.lane: m for m in measures if m.metric == "kl_to_base"}
    old = far["old patched"].value if "old patched" in far else 0.0
    if "patched" in far and far["patched"].low > max(DRIFT, FARTHER * old):
        yield f"KL to the base on harmless requests is {far['patched'].value:.3f}, on the old base {old:.3f}"


def _said(m: Measure) -> str:
    return f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})"
