"""On-policy steps: the patched base learns from its own replies, where the reference would not have written them.

SFT and DPO learn from replies that were sampled before training. Here replies of the patched base are sampled every so many steps
and read token by token by the reference (on-policy distillation, Agarwal et al., arXiv 2306.13649). The loss is the probability
of tokens that it finds far less likely: 50 embeddings cannot learn a distribution, but can exclude a part of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from patchlab.engine import BARE, Lane, Sampling, StackPlan, fixed, replies
from patchlab.engine.likelihood import reply_logits
from patchlab.errors import TrainingError
from patchlab.models import Backbone
from patchlab.records import Progress, Prompt
from patchlab.storage import read_jsonl, write_jsonl
from patchlab.training.companions import StepCompanions
from patchlab.training.dataset import Dataset, MicroBatch, TrainingExample, token_mean
from patchlab.training.kl_regularizer import TargetCache
from patchlab.training.loop import TrainingContext, run_stage

BATCHES = 10  # of replies that are sampled at a time


def on_policy_steps(context: TrainingContext, prompts: Sequence[Prompt], teacher: Backbone) -> Iterator[Progress]:
    """Make tokens of the patched base's own replies to `prompts` unlikely where the `teacher` finds them so."""
    recipe, backbone = context.recipe, context.prefix.backbone
    sampled = OnPolicyReplies(context, prompts, teacher)

    def loss(step: int, micro: MicroBatch, plan: StackPlan, companions: StepCompanions) -> tuple[Tensor, dict[str, Tensor]]:
        data, targets = sampled.at(step)
        number, whole = data.batch(step)
        value = torch.zeros((), device=backbone.device)
        if (texts := whole.piece(*micro)) is not None:
            plain = data.plain[number].piece(*micro)
            assert plain is not None  # it has the rows of the other
            logits = reply_logits(backbone, texts, plan, checkpointing=recipe.checkpointing).float()
            each = unlikelihood(logits, targets.of(plain, BARE, number, *micro), factor=recipe.avoid, kl=recipe.own_kl)
            value = token_mean(each, texts, whole, recipe.lead, recipe.fade)
        return value, {"loss": value}

    context.prefix.reset_moments()
    yield from run_stage(context, "on_policy", recipe.own_steps, recipe.own_rate, loss)


def unlikelihood(logits: Tensor, teacher: Tensor, *, factor: float, kl: float) -> Tensor:
    """For each of N tokens -log(1 - m) + kl * KL(model || teacher), from `logits` and the `teacher`'s log-probabilities [N, V].

    m is the probability of all tokens that the model finds over `factor` times as likely as the teacher does.
    """
    model = logits.log_softmax(-1)
    over = model.detach() - teacher > torch.tensor(factor).log()
    m = (model.exp() * over).sum(-1).clamp(max=0.999)  # a gradient of a thousand is enough
    return -torch.log1p(-m) + kl * (model.exp() * (model - teacher)).sum(-1)


class OnPolicyReplies:
    """Replies of the patched base as it is at the first step of each `refresh` steps, in one file for each such round.

    A run that is resumed within a round goes on with the replies the round began with.
    """

    def __init__(self, context: TrainingContext, prompts: Sequence[Prompt], teacher: Backbone) -> None:
        self.context, self.prompts, self.teacher = context, prompts, teacher
        self.round = -1
        self.data: Dataset
        self.targets: TargetCache

    def at(self, step: int) -> tuple[Dataset, TargetCache]:
        """The replies of a step's round, and the teacher's log-probabilities of them."""
        recipe = self.context.recipe
        number = step // recipe.refresh
        if number != self.round:
            self.data = Dataset(self.context.prefix.backbone, self._examples(number), rows=recipe.rows, seed=recipe.seed,
                                length=recipe.length + recipe.distance, history=self.context.history)
            self.targets, self.round = TargetCache(self.teacher), number
        return self.data, self.targets

    def _examples(self, number: int) -> list[TrainingExample]:
        path = self.context.folder / f"on_policy{number + 1}.jsonl"
        processes = self.context.prefix.processes
        if processes.first and not path.is_file():
            write_jsonl(path, self._sample(number))
        processes.barrier()
        found = [TrainingExample(self.prompts[row["prompt"]], row["reply"], row["stop"] == "length") for row in read_jsonl(path)]
        found = [example for example in found if self._fits(example)]
        if not found:
            raise TrainingError(f"nothing but empty or overlong replies at on-policy step {number * self.context.recipe.refresh}",
                                expected="some text", do="lower own_rate and train into another folder")
        return found

    def _fits(self, example: TrainingExample) -> bool:
        """Whether a reply also fits at the recipe's distance and behind earlier turns: it was sampled without them."""
        backbone, recipe = self.context.prefix.backbone, self.context.recipe
        prompt, reply = example.encode(backbone)
        needed = recipe.length + recipe.distance + recipe.behind + len(prompt.ids) + len(reply)
        return needed <= backbone.context

    def _sample(self, number: int) -> list[dict[str, Any]]:
        recipe = self.context.recipe
        some = random.Random(f"{recipe.seed}|{number}").sample(
            range(len(self.prompts)), min(len(self.prompts), BATCHES * recipe.rows))
        # at temperature 1, above that of use, rarer unsafe replies are sampled too
        sampling = Sampling(temperature=1.0, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed + number)
        lane = Lane("patched", self.context.scheduler, fixed(StackPlan.of(self.context.prefix.frozen())))
        return [{"prompt": some[reply.row], "reply": reply.text, "stop": reply.stop}
                for reply in replies([lane], [self.prompts[k] for k in some], sampling=sampling) if reply.text]
