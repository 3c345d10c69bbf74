"""The two losses of safety policy patching, each a generator of steps: SFT on safe replies, then DPO on pairs.

Arif et al., arXiv 2511.08484. Both carry the KL term of `hold`; DPO keeps an SFT term, without which it loses the
language within tens of steps. A step's rows may be computed in pieces, here or in other processes: every piece divides by
the counts of the whole step, so that the sum of the pieces is the step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine.decode import Part
from patchlab.engine.likelihood import Texts, pad_texts, reply_logits, reply_logprobs
from patchlab.models import Backbone
from patchlab.records import Pair, Progress
from patchlab.training.calibration import Watch
from patchlab.training.checkpoints import StepLog
from patchlab.training.config import Recipe
from patchlab.training.dataset import Earlier, Rows, token_mean
from patchlab.training.kl_regularizer import Companions, Hold, Present, Targets
from patchlab.training.prefix import PrefixTrainer, decay, precision

SAVE_EVERY = 50  # steps
SAVE_SECONDS = 30.0  # or this long, where steps are slow

# (step, piece, of how many, parts, present) -> what is to fall, and numbers worth reading; both this piece's parts
Learn = Callable[[int, int, int, tuple[Part, ...], Present], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What both stages work with; `folder` is where their states and the log are."""

    trainer: PrefixTrainer
    recipe: Recipe
    hold: Hold
    companions: Companions
    log: StepLog
    folder: Path
    watch: Watch | None = None
    earlier: Earlier | None = None


def sft_steps(desk: Desk, safe: Rows, teacher: Backbone | None = None) -> Iterator[Progress]:
    """Learn the reference's safe replies token by token, holding everything else.

    By `recipe.distill`, a token's target is what the `teacher` might have said there rather than the one token it drew:
    the same aim with less noise, for references that share the base's vocabulary.
    """
    recipe, backbone = desk.recipe, desk.trainer.backbone
    targets = Targets(teacher) if teacher and recipe.distill else None

    def learn(step: int, piece: int, of: int, parts: tuple[Part, ...], present: Present) -> tuple[Tensor, dict[str, Tensor]]:
        number, whole = safe.deal(step)
        loss = torch.zeros((), device=backbone.device)
        if (texts := whole.piece(piece, of)) is not None:
            logits = reply_logits(backbone, texts, parts, checkpointing=recipe.checkpointing).float()
            alone = safe.alone[number].piece(piece, of)
            soft = targets.of(alone, (), number, piece, of).exp() if targets and alone else None
            each = token_losses(logits, texts.targets, soft, distill=recipe.distill)
            loss = token_mean(each, texts, whole, recipe.lead, recipe.fade)
        return loss, {"loss": loss}

    yield from run_steps(desk, "sft", recipe.sft_steps, recipe.sft_rate, learn)


def token_losses(logits: Tensor, targets: Tensor, soft: Tensor | None, *, distill: float) -> Tensor:
    """The cross-entropy [N] of reply tokens, to the share `distill` against a teacher's probabilities `soft` [N, V]."""
    hard = functional.cross_entropy(logits, targets, reduction="none")
    if soft is None:
        return hard
    return (1 - distill) * hard + distill * functional.cross_entropy(logits, soft, reduction="none")


class PairBatches:
    """Pairs in fixed batches, chosen and rejected as neighbouring rows, with the anchor's log-probabilities kept."""

    def __init__(self, backbone: Backbone, pairs: Sequence[Pair], anchor: Backbone, frozen: Part | None, *,
                 rows: int, seed: int) -> None:
        mixed = random.Random(seed).sample(list(pairs), len(pairs))
        chunks = [mixed[at:at + rows] for at in range(0, len(mixed), rows)]
        self.batches = [_neighbours(backbone, chunk) for chunk in chunks]
        # another anchor may have another tokenizer: it reads the same texts its own way
        self.read = self.batches if anchor is backbone else [_neighbours(anchor, chunk) for chunk in chunks]
        self.anchor, self.frozen, self.backbone, self.seed = anchor, frozen, backbone, seed
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def at(self, step: int) -> int:
        """The number of a step's batch."""
        return random.Random(f"{self.seed}|{step}").randrange(len(self.batches))

    def before(self, number: int, piece: int, of: int, present: tuple[Part, ...]) -> Tensor:
        """The anchor's log-probabilities of the replies of a batch's piece, computed once."""
        parts: tuple[Part, ...] = ()
        if self.anchor is self.backbone:
            parts = (*([self.frozen] if self.frozen else []), *present)
        key = (number, piece, of, *(id(segment) for segment, _ in parts))
        if key not in self.kept:
            texts = self.read[number].piece(piece, of, together=2)
            assert texts is not None  # it has the rows that the backbone's own batch has
            with torch.no_grad():
                self.kept[key] = reply_logprobs(reply_logits(self.anchor, texts, parts), texts)
        return self.kept[key]


def _neighbours(backbone: Backbone, pairs: Sequence[Pair]) -> Texts:
    return pad_texts(backbone, [(backbone.encode(pair.prompt), backbone.encode_reply(text, kind=pair.prompt.kind))
                                for pair in pairs for text in (pair.chosen, pair.rejected)])


def dpo_steps(desk: Desk, pairs: Sequence[Pair], anchor: Backbone, number: int = 0) -> Iterator[Progress]:
    """Prefer chosen over rejected relative to the anchor (Rafailov et al., 2023), with SFT and KL terms beside.

    The anchor is the prefix as SFT left it, the bare base, or the reference (as in the paper), by `recipe.anchor`. A loss
    against the first is soon content, with unsafe replies left; a further round `number` takes the prefix it begins with.
    """
    recipe, backbone = desk.recipe, desk.trainer.backbone
    frozen = desk.trainer.part() if recipe.anchor == "sft" else None
    batches = PairBatches(backbone, pairs, anchor, frozen, rows=max(1, recipe.rows // 2), seed=recipe.seed + number)

    def learn(step: int, piece: int, of: int, parts: tuple[Part, ...], present: Present) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batches.at(step)
        whole = batches.batches[batch]
        texts = whole.piece(piece, of, together=2)
        if texts is None:
            none = torch.zeros((), device=backbone.device)
            return none, {"loss": none, "margin": none}
        before = batches.before(batch, piece, of, present.beside)
        logits = reply_logits(backbone, texts, parts, checkpointing=recipe.checkpointing)
        gain = (reply_logprobs(logits, texts) - before).view(-1, 2)
        margin = gain[:, 0] - gain[:, 1]
        prefer = -functional.logsigmoid(recipe.beta * margin).sum() / (len(whole.ids) // 2)
        chosen = texts.rows % 2 == 0
        said = functional.cross_entropy(logits[chosen].float(), texts.targets[chosen], reduction="sum")
        said = said / int(whole.predicts[::2].sum())
        return prefer + recipe.sft_in_dpo * said, {"loss": prefer, "margin": margin.sum() / (len(whole.ids) // 2)}

    desk.trainer.fresh_moments()
    yield from run_steps(desk, f"dpo{number + 1}" if number else "dpo", recipe.dpo_steps, recipe.dpo_rate, learn)


def run_steps(desk: Desk, stage: str, steps: int, peak: float, learn: Learn) -> Iterator[Progress]:
    """The steps of a stage from where its state is, each logged before it is saved, so that no row is ever missing."""
    trainer, state = desk.trainer, desk.folder / f"{stage}.safetensors"
    start, saved = trainer.resume(state), time.monotonic()
    for step in range(start, steps):
        began, rate = time.monotonic(), decay(step, steps, peak)
        numbers = _step(desk, stage, step, rate, learn)
        message = ", ".join(f"{name} {value:.{4 if name == 'hold' else 3}f}" for name, value in numbers.items())
        seen = desk.watch.look(trainer, step + 1, steps) if desk.watch else None
        done = step + 1 == steps or bool(seen and seen.stop)
        if seen:
            numbers |= {"unsafe": seen.unsafe, "refused": seen.refused}
            message += f", unsafe {seen.unsafe:.2f}, refused {seen.refused:.2f}" + (", stopped early" if seen.stop else "")
        now = time.monotonic()
        if trainer.processes.first:
            desk.log.write(stage, step + 1, {**numbers, "rate": rate, "seconds": now - began})
        if (step + 1) % SAVE_EVERY == 0 or done or now - saved > SAVE_SECONDS:
            trainer.save(state, step=steps if done else step + 1)
            saved = now
        yield Progress(stage, steps if done else step + 1, steps, message, numbers)
        if done:
            return


def _step(desk: Desk, stage: str, step: int, rate: float, learn: Learn) -> dict[str, float]:
    """One step of a stage: this process's pieces one after another, then one update."""
    trainer, recipe = desk.trainer, desk.recipe
    present = desk.companions.at(step)
    of = recipe.accumulate * trainer.processes.count
    hold = (stage.startswith("dpo") and recipe.hold_in_dpo) or recipe.hold
    sums: dict[str, Tensor] = {}
    with precision(trainer.backbone):
        trainer.open(present.around)
    for piece in trainer.processes.pieces(recipe.accumulate):
        with precision(trainer.backbone):
            parts = present.parts(trainer.segment())
            loss, numbers = learn(step, piece, of, parts, present)
            kept = desk.hold.loss(step, parts, present, piece=piece, of=of) if hold else torch.zeros_like(loss)
        loss = loss + hold * kept
        if loss.requires_grad:
            loss.backward()
        for name, value in {**numbers, "hold": kept}.items():
            sums[name] = sums.get(name, 0) + value.detach()
    return trainer.step(sums, rate=rate, stage=stage, at=step)
