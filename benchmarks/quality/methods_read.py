"""What a trained method does to held-out prompts, one value a prompt; the scorers and rates are those of pocket.json.

Knows nothing of how a method learned: it reads a backbone under a plan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from benchmarks.quality.methods_data import SUITES, Dials
from patchlab.engine import Lab, Lane, StackPlan, fixed, replies, scheduler_of
from patchlab.evaluation.metrics import by_prompt, refusal_rate
from patchlab.evaluation.probabilities import divergences_from, log_losses
from patchlab.evaluation.statistics import gap_closed, interval
from patchlab.evaluation.suites import read_prompts
from patchlab.models import Backbone
from patchlab.models.presets import ASSETS
from patchlab.patches import Stack
from patchlab.records import Prompt, Reply
from patchlab.registry import Registry
from tools.pocket.judge import OWN, RATES

Values = dict[str, list[float]]  # what -> one value a prompt
Cell = list[float]  # value, low, high, n
COLUMN = {"toxicity": "toxic rate", "refusal": "harmful refused"}  # what the rate of a domain is called


class Instructed(Backbone):
    """A base that finds a written instruction before every prompt: what a patch is to replace."""

    def __init__(self, base: Backbone, instruction: str) -> None:
        super().__init__(base.model, base.tokenizer, name=base.name)
        self.instruction = instruction
        # it reads a prompt otherwise than the base, as with a template of its own
        self.identity = dataclasses.replace(base.identity, template_digest=f"{base.identity.template_digest}+instruction")

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of the instruction and the prompt."""
        return super().encode(dataclasses.replace(prompt, system=self.instruction))


def shipped(base: Backbone, domain: str) -> StackPlan:
    """The plan of the patch that comes with PatchLab for a domain, at its calibrated strength."""
    return Lab(base, registry=Registry([ASSETS / "patches"])).planner.plan(Stack.parse(domain))


def said_by(backbone: Backbone, plan: StackPlan, domain: str, dials: Dials) -> list[Reply]:
    """The replies to a suite's held-out prompts, in order; as many a prompt as in pocket.json."""
    asked = read_prompts(SUITES / f"{domain}.jsonl")[:dials.n]
    lane = Lane("read", scheduler_of(backbone), fixed(plan))
    return replies([lane], asked, samples=RATES[domain][1], sampling=dials.sampling)


def values(backbone: Backbone, plan: StackPlan, base: Backbone, benign: Sequence[Reply], dials: Dials) -> Values:
    """The domain's own rate, refusals of harmless requests, and what becomes of the base's own `benign` replies to those."""
    own = OWN[dials.domain]
    kept = [reply for reply in benign if reply.text]
    longer = [a - b for a, b in zip(log_losses(backbone, kept, fixed(plan)), log_losses(base, kept), strict=True)]
    return {"own": RATES[own][0](said_by(backbone, plan, own, dials)),
            "refused": refusal_rate(said_by(backbone, plan, "benign", dials)),
            "kl": by_prompt(kept, divergences_from(base, backbone, kept, fixed(plan))), "log loss": by_prompt(kept, longer)}


def cells(found: Values, base: Values, reference: Values, dials: Dials) -> Mapping[str, Cell]:
    """The figures of one method with 95 % bootstrap intervals over prompts."""
    seed, own = dials.seed, found["own"]
    gap, longer = gap_closed(base["own"], own, reference["own"], seed=seed), interval(found["log loss"], seed=seed)
    return {"gap closed": [*gap, len(own)],
            COLUMN[dials.domain]: [*interval(own, seed=seed, share=True), len(own)],
            "benign refused": [*interval(found["refused"], seed=seed, share=True), len(found["refused"])],
            # the exponential of a mean difference of log-losses, so that its interval is too
            "benign perplexity / base": [*map(math.exp, longer), len(found["log loss"])],
            "KL to base on benign": [*interval(found["kl"], seed=seed), len(found["kl"])]}
