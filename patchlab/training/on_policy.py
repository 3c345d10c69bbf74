"""On-policy steps: the patched base learns from what it says itself, where the reference would not have said it.

SFT and DPO learn from replies that were sampled before training; what the patched base says by then is something else, and
there its last unsafe habits are. So its own replies are drawn anew every so many steps and read token by token by the
reference (on-policy distillation, Agarwal et al., arXiv 2306.13649). The loss is not a distance to the reference but the
probability of tokens that it finds far less likely: 50 embeddings cannot learn a distribution, but can leave out a part of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from patchlab.engine import Lane, Sampling, replies
from patchlab.engine.decode import Part
from patchlab.engine.likelihood import reply_logits
from patchlab.errors import TrainingError
from patchlab.models import Backbone
from patchlab.records import Progress, Prompt
from patchlab.storage import read_jsonl, write_jsonl
from patchlab.training.candidates import ROWS
from patchlab.training.dataset import Rows, token_mean
from patchlab.training.kl_regularizer import Present, Targets
from patchlab.training.losses import Desk, run_steps

BATCHES = 10  # of own replies that are drawn at a time


def own_steps(desk: Desk, prompts: Sequence[Prompt], teacher: Backbone) -> Iterator[Progress]:
    """Make tokens of the patched base's own replies to `prompts` unlikely where the `teacher` finds them so."""
    recipe, backbone = desk.recipe, desk.trainer.backbone
    drawn = OwnReplies(desk, prompts, teacher)

    def learn(step: int, piece: int, of: int, parts: tuple[Part, ...], present: Present) -> tuple[Tensor, dict[str, Tensor]]:
        rows, targets = drawn.at(step)
        number, whole = rows.deal(step)
        loss = torch.zeros((), device=backbone.device)
        if (texts := whole.piece(piece, of)) is not None:
            alone = rows.alone[number].piece(piece, of)
            assert alone is not None  # it has the rows of the other
            logits = reply_logits(backbone, texts, parts, checkpointing=recipe.checkpointing).float()
            each = overreach(logits, targets.of(alone, (), number, piece, of), factor=recipe.avoid, kl=recipe.own_kl)
            loss = token_mean(each, texts, whole, recipe.lead, recipe.fade)
        return loss, {"loss": loss}

    desk.trainer.fresh_moments()
    yield from run_steps(desk, "own", recipe.own_steps, recipe.own_rate, learn)


def overreach(logits: Tensor, teacher: Tensor, *, factor: float, kl: float) -> Tensor:
    """For each of N tokens -log(1 - m) + kl * KL(model || teacher), from `logits` and the `teacher`'s log-probabilities [N, V].

    m is the probability of all tokens that the model finds over `factor` times as likely as the teacher does.
    """
    model = logits.log_softmax(-1)
    over = model.detach() - teacher > torch.tensor(factor).log()
    m = (model.exp() * over).sum(-1).clamp(max=0.999)  # a gradient of a thousand is enough
    return -torch.log1p(-m) + kl * (model.exp() * (model - teacher)).sum(-1)


class OwnReplies:
    """Replies of the patched base as it is at the first step of a round of `refresh` steps, kept in a file a round.

    A run that is taken up again within a round goes on with the replies the round began with.
    """

    def __init__(self, desk: Desk, prompts: Sequence[Prompt], teacher: Backbone) -> None:
        self.desk, self.prompts, self.teacher = desk, prompts, teacher
        self.round = -1
        self.rows: Rows
        self.targets: Targets

    def at(self, step: int) -> tuple[Rows, Targets]:
        """The rows of a step's round, and the teacher's view of them."""
        number = step // self.desk.recipe.refresh
        if number != self.round:
            said = self._said(number)
            recipe = self.desk.recipe
            self.rows = Rows(self.desk.trainer.backbone, said, rows=recipe.rows, seed=recipe.seed,
                             length=recipe.length + recipe.distance, earlier=self.desk.earlier)
            self.targets, self.round = Targets(self.teacher), number
        return self.rows, self.targets

    def _said(self, number: int) -> list[tuple[Prompt, str]]:
        path = self.desk.folder / f"own{number + 1}.jsonl"
        processes = self.desk.trainer.processes
        if processes.first and not path.is_file():
            write_jsonl(path, self._draw(number))
        processes.wait()
        said = [(self.prompts[row["prompt"]], row["reply"]) for row in read_jsonl(path)]
        said = [each for each in said if self._fits(*each)]
        if not said:
            raise TrainingError(f"nothing but empty or overlong replies at own step {number * self.desk.recipe.refresh}",
                                expected="some text", do="lower own_rate and train into another folder")
        return said

    def _fits(self, prompt: Prompt, reply: str) -> bool:
        """Whether a reply, which was drawn right behind the prefix, fits at the recipe's distance, or behind other turns, too."""
        backbone, recipe = self.desk.trainer.backbone, self.desk.recipe
        length = len(backbone.encode(prompt)) + len(backbone.encode_reply(reply, kind=prompt.kind))
        return recipe.length + recipe.distance + recipe.behind + length <= backbone.context

    def _draw(self, number: int) -> list[dict[str, Any]]:
        recipe, trainer = self.desk.recipe, self.desk.trainer
        some = random.Random(f"{recipe.seed}|{number}").sample(
            range(len(self.prompts)), min(len(self.prompts), BATCHES * recipe.rows))
        # at temperature 1, above that of use, rarer slips show too
        sampling = Sampling(temperature=1.0, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed + number)
        lane = Lane("patched", trainer.backbone, (trainer.part(),))
        drawn = [reply for chunk in replies([lane], [self.prompts[k] for k in some], sampling=sampling, rows=ROWS)
                 for reply in chunk]
        return [{"prompt": some[reply.row], "reply": reply.text} for reply in sorted(drawn, key=lambda reply: reply.row)
                if reply.text]
