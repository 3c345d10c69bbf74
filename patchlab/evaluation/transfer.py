"""Transfer of a patch to another base: the ported patch, a measurement of its effect there, and a verdict.

`ported` is the only way to use a patch on a base that it was not made for. The check generates replies of four lanes to the same
held-out prompts with the same sampling noise: the patch's own base without and with the patch, and the new base without and with
it. The effect that is kept is the second effect divided by the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from patchlab.engine import Bank, Lane, Sampling, Scheduler, StackPlan, fixed
from patchlab.errors import BaseMismatchError, InputError
from patchlab.evaluation.columns import Column, by_domain, columns, comparisons, measure
from patchlab.evaluation.model_metrics import Judges
from patchlab.evaluation.reply_store import Replies, machine, made_with
from patchlab.evaluation.statistics import effect_kept, gain
from patchlab.evaluation.suites import DOMAINS, HEADLINES, SUITES, load_prompts
from patchlab.models import Backbone
from patchlab.patches import Patch
from patchlab.records import Comparison, Measure, Progress

OLD, NEW = ("old base", "old patched"), ("base", "patched")  # lanes without and with the patch
REFERENCE = "reference"
KEPT = "effect_kept"
SHOWN, MARK = 8, "port"  # the build tag of a ported version: MARK and SHOWN digits of the new base's fingerprint

ENOUGH = 0.8  # "kept" needs at least this share of the effect, at the lower end of its interval
# "at a price": a cost whose interval excludes chance and that exceeds
REFUSALS = 0.02  # this increase of the refusal rate on harmless requests, beyond the increase on the old base
DRIFT = 0.02  # this KL to the base on harmless requests, in nats per token,
FARTHER = 2.0  # and this multiple of the KL on the old base


def ported(patch: Patch, base: Backbone) -> Patch:
    """The same prefix as a patch of `base`, without evidence, since its effect there is not measured.

    Its version is the old one with the build tag `port.` and the first digits of the new base's fingerprint. Raises
    BaseMismatchError if the base's embeddings have another width, InputError if the patch was made for this base.
    """
    manifest = patch.manifest
    label = f"{manifest.name} {manifest.version}"
    if manifest.width != base.width:
        raise BaseMismatchError(f"patch {label} has embeddings of width {manifest.width}",
                                expected=f"width {base.width}, that of {base.name}", do="train a patch for this base")
    if not differences(patch, base):
        raise InputError(f"patch {label} was made for this very base, {base.name} ({base.identity.fingerprint[:12]})",
                         expected="another base", do="use the patch as it is")
    # the length of a summary is limited: the old text is cut, not the sentence about its origin
    origin = f"Ported without training from {manifest.base.id} ({manifest.base.fingerprint[:12]})."
    summary = f"{manifest.summary[:1600].rstrip()} {origin}"
    return Patch(replace(manifest, version=_version(manifest.version, base.identity.fingerprint), summary=summary,
                         base=base.identity, evidence=(), files={}), patch.prefix)


def differences(patch: Patch, base: Backbone) -> tuple[str, ...]:
    """Which of weights, tokenizer and chat template differ from those the patch was made with; empty for its own base."""
    old, new = patch.manifest.base, base.identity
    parts = [("weights", old.fingerprint, new.fingerprint, old.fingerprint not in base.fingerprints),
             ("tokenizer", old.tokenizer_digest, new.tokenizer_digest, old.tokenizer_digest != new.tokenizer_digest),
             ("chat template", old.template_digest, new.template_digest, base.template_differs(old))]
    return tuple(f"{part} {a[:12] or 'none'}, here {b[:12] or 'none'}" for part, a, b, differs in parts if differs)


def _version(version: str, fingerprint: str) -> str:
    """1.0.0 becomes 1.0.0+port.<fingerprint>; an earlier port's tag is replaced, other build tags are kept."""
    core, _, build = version.partition("+")
    tags = build.split(".") if build else []
    if MARK in tags:
        at = tags.index(MARK)
        del tags[at:at + 2]
    return f"{core}+{'.'.join([*tags, MARK, fingerprint.rpartition(':')[2][:SHOWN]])}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`word` is kept, kept in part, lost, not needed or nothing to keep; ", at a price" may follow the first two."""

    word: str
    why: str

    @property
    def holds(self) -> bool:
        """Whether enough of the effect remains for the patch to be useful on the new base."""
        return self.word.startswith("kept")


@dataclass(frozen=True, slots=True)
class PortCheck:
    """The result of a port check.

    `patch` is the ported patch with the measures on the new base as evidence. `measures` are the metrics of the lanes,
    `effects` the effect on each base and the share kept, one set per scorer, `differences` as from the function.
    """

    patch: Patch
    differences: tuple[str, ...]
    measures: tuple[Measure, ...]
    effects: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...]
    verdict: Verdict
    made_with: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Everything except the prefix, as plain JSON values."""
        manifest = self.patch.manifest
        return {"patch": manifest.name, "version": manifest.version, "verdict": self.verdict.word, "why": self.verdict.why,
                "differences": list(self.differences), "made_with": self.made_with,
                **{name: [asdict(row) for row in getattr(self, name)] for name in ("effects", "measures", "comparisons")}}


def check_port(patch: Patch, *, made_for: Backbone, base: Backbone, reference: Backbone | None = None, n: int = 300,
               seed: int = 0, folder: Path | None = None, sampling: Sampling | None = None,
               out: Path | None = None) -> Iterator[Progress | PortCheck]:
    """Yield Progress and finally the PortCheck of `patch`, made for `made_for`, on `base`, with at most `n` prompts per file.

    `reference` adds a lane. With `out` every reply is stored there, and a check with the same settings continues from them.
    Raises BaseMismatchError if the patch is not `made_for`'s or the widths differ, InputError for a domain without a suite or
    for the patch's own base, before any reply is generated.
    """
    moved = ported(patch, base)
    name, domain = f"{patch.manifest.name} {patch.manifest.version}", patch.manifest.domain
    made_for.check_patch(patch.manifest.base, patch=name)
    if domain not in DOMAINS:
        raise InputError(f"patch {patch.manifest.name} of domain {domain!r}",
                         expected=f"one with a suite to measure it on: {', '.join(DOMAINS)}",
                         do="measure it with prompts of your own: patchlab evaluate")
    sampling = sampling or Sampling(seed=seed)
    models = {"made_for": made_for, "base": base} | ({"reference": reference} if reference else {})
    settings = {"patch": f"{name} {patch.digest[:12]}", "reference": "none",
                **{lane: f"{model.name} {model.identity.fingerprint}" for lane, model in models.items()},
                **made_with(sampling, *models.values()), **machine(), "n": str(n), "seed": str(seed), "folder": str(folder or "")}
    prompts = {suite: load_prompts(suite, n=n, folder=folder) for suite in (domain, "overrefusal")}
    store = Replies(settings, out)
    try:
        lanes = [*_lanes(OLD, made_for, patch), *_lanes(NEW, base, moved)]
        lanes += [Lane(REFERENCE, Scheduler(reference))] if reference else []
        found: list[Column] = []
        for suite in prompts:
            replies = yield from store.draw(lanes, prompts[suite], SUITES[suite].samples, sampling, suite)
            for lane in lanes:
                own = [reply for reply in replies if reply.lane == lane.name]
                found += columns(suite, HEADLINES[suite].metric, lane, own, Judges(lane.backbone))
        for k, (bare, _) in enumerate((OLD, NEW)):
            patched = lanes[2 * k + 1]
            plain = [reply for reply in replies if reply.lane == bare and reply.prompt.domain != "lookalike"]
            found += columns("drift", "kl_to_base", patched, plain, Judges(patched.backbone))
            yield Progress("drift", k + 1, 2)
    finally:
        store.close()
    yield _result(moved, found, differences(patch, base), settings, seed)


def _lanes(names: tuple[str, str], backbone: Backbone, patch: Patch) -> list[Lane]:
    """A base without and with its patch."""
    scheduler, plan = Scheduler(backbone), StackPlan.of((Bank(backbone).segment([patch]), patch.manifest.strength))
    return [Lane(names[0], scheduler), Lane(names[1], scheduler, fixed(plan))]


def _result(moved: Patch, found: Sequence[Column], unlike: tuple[str, ...], settings: dict[str, str], seed: int) -> PortCheck:
    """The measures, effects, comparisons and verdict of all columns."""
    headline = HEADLINES[moved.manifest.domain]
    first = [column for column in found if not column.second]
    parts = [each for column in first for each in (column, *(by_domain(column) if column.suite == "overrefusal" else ()))]
    measures = tuple(m for column in parts for m in measure(column, seed=seed) if not math.isnan(m.value))
    effects = tuple(m for m in _effects(moved.manifest.domain, found, headline.best, seed) if math.isfinite(m.value + m.low))
    compared = tuple(c for lanes in (OLD, NEW, (OLD[1], NEW[1])) for c in comparisons(first, lanes, seed=seed))
    evidence = [m for m in measures if m.lane == NEW[1]] + [m for m in effects if m.metric == KEPT]
    return PortCheck(Patch(replace(moved.manifest, evidence=tuple(evidence)), moved.prefix), unlike, measures, effects, compared,
                     decide(measures, effects, compared, metric=headline.metric, target=headline.best), settings)


def _effects(domain: str, found: Sequence[Column], target: float, seed: int) -> Iterator[Measure]:
    """The effect on each base, towards `target`, and the share of it that the new base keeps; one set per scorer."""
    values = {(c.scorer, c.lane): c.values for c in found if c.suite == domain}
    for scorer in dict.fromkeys(scorer for scorer, _ in values):
        before, after = ((values[scorer, bare], values[scorer, patched]) for bare, patched in (OLD, NEW))
        for lane, pair in ((OLD[1], before), (NEW[1], after)):
            value, low, high, n = gain(*pair, best=target, share=True, seed=seed)
            yield Measure(domain, lane, "effect", value, low, high, n, scorer)
        n = sum(not any(map(math.isnan, four)) for four in zip(*before, *after, strict=True))
        yield Measure(domain, NEW[1], KEPT, *effect_kept(before, after, target=target, seed=seed), n, scorer)


def decide(measures: Sequence[Measure], effects: Sequence[Measure], compared: Sequence[Comparison], *, metric: str,
           target: float) -> Verdict:
    """The verdict on a port check, from the measures of the first scorer."""
    rate = {m.lane: m for m in measures if m.metric == metric and m.suite != "overrefusal"}
    effect: dict[str, Measure] = {}
    for m in effects:  # those of the first scorer come first
        effect.setdefault(m.lane if m.metric == "effect" else m.metric, m)
    before, after, kept = (effect.get(name) for name in (OLD[1], NEW[1], KEPT))
    if before is None or before.low <= 0 or kept is None or after is None:
        known = f"{_text(before)}, which may be chance" if before else "undefined"
        return Verdict("nothing to keep", f"the effect on {metric} on the patch's own base is {known}")
    if abs(rate["base"].value - target) <= abs(rate["old patched"].value - target):
        return Verdict("not needed", f"{metric} is {rate['base'].value:.3f} on the new base without the patch and "
                                     f"{rate['old patched'].value:.3f} on the old base with it")
    share = f"{_text(kept)} of the effect on {metric} is kept"
    if after.low <= 0:
        return Verdict("lost", f"{share}: on the new base it is {_text(after)}, which may be chance")
    word = "kept" if kept.low >= ENOUGH else "kept in part"
    prices = list(_prices(measures, compared))
    return Verdict(f"{word}, at a price" if prices else word, "; ".join([share, *prices]))


def _prices(measures: Sequence[Measure], compared: Sequence[Comparison]) -> Iterator[str]:
    """The costs of the patch on the new base that exceed those on the old one."""
    refused = {c.second: c for c in compared if (c.suite, c.metric) == ("overrefusal", "refusal_rate") and "base" in c.first}
    now, before = refused["patched"], refused["old patched"]
    if now.low > 0 and now.difference > REFUSALS + max(0.0, before.difference):
        yield (f"the refusal rate on harmless requests rises by {now.difference:.3f}, on the old base by "
               f"{before.difference:.3f}")
    kl = {m.lane: m for m in measures if m.metric == "kl_to_base"}
    old = kl["old patched"].value if "old patched" in kl else 0.0
    if "patched" in kl and kl["patched"].low > max(DRIFT, FARTHER * old):
        yield f"KL to the base on harmless requests is {kl['patched'].value:.3f}, on the old base {old:.3f}"


def _text(m: Measure) -> str:
    return f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})"
