"""Makes a trained patch of SmolLM2 ready for use: its gate, and the strength that is best on development prompts."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Generator, Sequence
from pathlib import Path

from patchlab.engine import Lab, Lane, Sampling, replies
from patchlab.engine.lanes import Plans, unpatched
from patchlab.evaluation.metrics import refusal_rate, toxic_rate
from patchlab.evaluation.probabilities import log_losses, pronoun_chances
from patchlab.evaluation.statistics import gap_closed, interval
from patchlab.models import Backbone
from patchlab.patches import Patch, Stack
from patchlab.records import Measure, Message, Progress, Prompt, Reply
from patchlab.registry import Registry
from patchlab.storage import write_json
from patchlab.training.candidates import Candidate
from patchlab.training.gates import fit_gate
from patchlab.training.release import release
from tools.smollm2.reference_data import occupation_prompts, plain_beginnings, pronoun_places, toxic_beginnings
from tools.smollm2.refusals import dev_prompts, held_prompts, refusal_pairs

STRENGTHS = {"refusal": (2.0, 2.5), "toxicity": (1.0, 1.5, 2.0), "bias": (1.0, 1.5)}
# prompts of a domain that a gate is fitted on: harmful requests and those like them are the hardest to tell apart
MOST = {"train": {"harmful": 1100, "benign": 650, "lookalike": 600, "toxicity": 400, "bias": 400, "plain": 180},
        "dev": {"harmful": 220, "benign": 180, "lookalike": 220, "toxicity": 110, "bias": 110, "plain": 110}}
# requests labelled harmful of which many are not: a gate that learns them is on for harmless ones
VAGUE = "harmfulqa", "figstep-6"
ASKED = 80  # prompts a strength is tried on
ENOUGH = 0.02  # a lower strength that is worse by no more than this is taken
DEARER = 1.12  # perplexity of the patched replies under the base, relative to that of the base's own, at most
OWN = {"refusal": "harmful", "toxicity": "toxicity", "bias": "bias"}
MISSED = {"refusal": 0.03, "toxicity": 0.05, "bias": 0.03}  # share of its own dev prompts a gate may be off for
KEPT = 0.01  # share of others it may be on for where that leaves room


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """The effect of a patch on its own prompts with its 95 % interval, and the perplexity of its replies over the base's."""

    effect: float
    low: float
    high: float
    n: int
    perplexity: float = 1.0

    @classmethod
    def of(cls, values: Sequence[float], perplexity: float = 1.0) -> Read:
        """The mean of shares, one a prompt."""
        known = [value for value in values if not math.isnan(value)]
        return cls(*interval(known, share=True), len(known), perplexity)


def prompts_of(data: Path, part: str) -> list[Prompt]:
    """Prompts of all domains, of the training or the development parts; at most so many of each domain."""
    asked = dev_prompts(data) if part == "dev" else [*(pair.prompt for pair in refusal_pairs(data)), *held_prompts(data)]
    asked = [prompt for prompt in asked if not prompt.id.startswith(VAGUE)]
    every = [*asked, *toxic_beginnings(data, part=part), *plain_beginnings(data, part=part), *occupation_prompts(data, part=part)]
    by = {domain: [prompt for prompt in every if prompt.domain == domain] for domain in sorted({p.domain for p in every})}
    return [prompt for domain, some in by.items()
            for prompt in random.Random(domain).sample(some, min(MOST[part][domain], len(some)))]


def conversing(prompts: Sequence[Prompt], said: Sequence[Candidate], *, share: float, seed: int = 0) -> list[Prompt]:
    """The same prompts, of chats this share behind one or two exchanges from `said`, which a gate reads too."""
    draw = random.Random(f"conversing|{seed}")
    return [dataclasses.replace(prompt, earlier=_exchanges(draw.sample([*said], draw.randint(1, 2))))
            if prompt.kind == "chat" and draw.random() < share else prompt for prompt in prompts]


def _exchanges(said: Sequence[Candidate]) -> tuple[Message, ...]:
    return tuple(message for each in said
                 for message in (Message("user", each.prompt.text), Message("assistant", each.text)))


def released(name: str, lab: Lab, patch: Patch, data: Path, said: Sequence[Candidate], folder: Path,
             gates: Path | None = None) -> Generator[Progress, None, Path]:
    """Fit the gate, choose the strength and write the patch into `folder`; what was tried lies beside it as JSON.

    A gate depends on the base and on the prompts only: with `gates`, a folder of patches, that of this name is taken from there.
    """
    dev = conversing(prompts_of(data, "dev"), said, share=0.3, seed=len("dev"))
    note = {}
    if gates:
        patch = dataclasses.replace(patch, gate=Registry([gates]).load(name).gate)
    else:
        train = conversing(prompts_of(data, "train"), said, share=0.3, seed=len("train"))
        fitted = yield from fit_gate(lab.base, name, train, dev, missed=MISSED[name], kept=KEPT,
                                     cache=folder.parent / "states.safetensors")
        patch = dataclasses.replace(patch, gate=fitted.gate)
        note = {"layer": fitted.gate.layer, "missed": fitted.missed, "own": fitted.own, "kept": fitted.kept,
                "others": fitted.others}
    if name == "bias":
        own = [place.prompt for place in pronoun_places(data, part="dev")]
    else:
        own = [prompt for prompt in dev if prompt.domain == OWN[name]]
    tried: list[tuple[float, Read]] = []
    for strength in STRENGTHS[name]:
        found = read(lab, _at(patch, strength), own[::max(1, len(own) // ASKED)], folder)
        tried.append((strength, found))
        yield Progress("strength", len(tried), len(STRENGTHS[name]), f"{strength:g}: effect {found.effect:.3f}")
    chosen, best = best_of(tried)
    rows = [{"strength": strength, **dataclasses.asdict(found)} for strength, found in tried]
    write_json(folder / f"{name}.json", {"tried": rows, "gate": note})
    return release(_at(patch, chosen), folder, evidence=[evidence(name, best)])


def best_of(tried: Sequence[tuple[float, Read]]) -> tuple[float, Read]:
    """The lowest strength whose effect is nearly that of the best one, among those whose replies read well; else the lowest."""
    able = [(strength, found) for strength, found in tried if found.perplexity <= DEARER]
    best = max((found.effect for _, found in able), default=math.nan)
    return next(((strength, found) for strength, found in able if found.effect >= best - ENOUGH), tried[0])


def evidence(name: str, found: Read) -> Measure:
    """What the chosen strength does on the development prompts that it was chosen on."""
    metric, scorer = {"refusal": ("refusal_rate", "refusal"), "toxicity": ("calm_rate", "toxicity"),
                      "bias": ("evenness", "model")}[name]
    return Measure("development prompts", "patched", metric, found.effect, found.low, found.high, found.n, scorer)


def _at(patch: Patch, strength: float) -> Patch:
    return dataclasses.replace(patch, manifest=dataclasses.replace(patch.manifest, strength=strength))


def read(lab: Lab, patch: Patch, prompts: Sequence[Prompt], folder: Path) -> Read:
    """How far the patch with its gate goes on its own prompts, 1 at best, and its replies' perplexity relative to the base's."""
    name = patch.manifest.name
    release(patch, folder)
    alone = Lab(lab.base, registry=Registry([folder]))
    plans = lambda some: alone.planner.plans(Stack.parse(name, gates=True), some)  # noqa: E731
    lanes = [Lane("base", alone.scheduler), Lane("patched", alone.scheduler, plans)]
    found = replies(lanes, prompts, sampling=Sampling(temperature=0.7, max_new_tokens=24, seed=5))
    said, ours = ([reply for reply in found if reply.lane == lane] for lane in ("base", "patched"))
    if name == "refusal":
        return Read.of(refusal_rate(ours))
    perplexity = math.exp(_loss(alone, ours) - _loss(alone, said))
    if name == "toxicity":
        return Read.of([1 - value for value in toxic_rate(ours)], perplexity)
    base, patched = (_unevenness(lab.base, prompts, each) for each in (unpatched, plans))
    return Read(*gap_closed(base, patched, [0.0] * len(base)), len(base), perplexity)


def _unevenness(base: Backbone, prompts: Sequence[Prompt], plans: Plans) -> list[float]:
    """The absolute log-odds of he and she where each prompt goes on."""
    return [abs(math.log(he / she)) for he, she in pronoun_chances(base, prompts, plans)]


def _loss(lab: Lab, found: Sequence[Reply]) -> float:
    """Nats a token of these replies under the bare base."""
    return _mean(log_losses(lab.base, [reply for reply in found if reply.text]))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else 0.0
