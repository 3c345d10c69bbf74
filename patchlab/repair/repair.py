"""Trains a model to refuse although the trigger is there, and to stay as it is everywhere else.

Patcher (arXiv 2606.02995, repair): cross-entropy of refusals on harmful prompts with and without the trigger, and KL(before ||
after) on harmful prompts without it and on harmless ones. The change is a low-rank adapter, as in the paper, or a prefix patch;
the model's own weights are never written to.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from patchlab.engine import StackPlan, compile_prefix
from patchlab.engine.likelihood import Texts, pad_texts, reply_logits
from patchlab.errors import InputError, TrainingError
from patchlab.models import Backbone
from patchlab.records import Progress, Prompt
from patchlab.repair.contrast import CleanSet, Greedy
from patchlab.repair.inject import injected
from patchlab.repair.low_rank import LowRankWeights
from patchlab.repair.states import load_state, save_state
from patchlab.storage import read_jsonl, write_json, write_jsonl
from patchlab.training.config import Recipe
from patchlab.training.dataset import TrainingExample, places
from patchlab.training.prefix import decay, initial_prefix, precision

REFUSAL = "I'm sorry, but I can't help with that."
SAVE_EVERY = 20  # steps
TOKENS = 48  # of the model's own replies
EPOCHS = {"weights": 6, "prefix": 10}  # more make a changed model refuse more, also what it should not
LEADING = 3  # tokens of a reply in which it turns out to be help or a refusal: a mean over all tokens hardly shows them
LogitsOf = Callable[[Texts], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The settings of one repair; the defaults are the paper's where it gives one.

    `units` are the runs of words of the trigger. With `refusal` "own" the model learns its own refusal of the prompt without the
    trigger, where it refuses it, else that text. `held` "kl" is the paper's; "l2" (squared distance of log-probabilities),
    "none" and `inject` False are its ablations. `places` binds units to the beginning or the end in half of the injections.
    Raises InputError for a trigger without words.
    """

    units: tuple[str, ...]
    places: tuple[str, ...] = ()
    change: Literal["weights", "prefix"] = "weights"
    epochs: int = 0  # 0: as many as EPOCHS says; 10 in the paper
    rows: int = 8
    rank: int = 32
    alpha: float = 64.0
    length: int = 32  # P of a prefix
    rate: float = 1e-3
    refusal: str = "own"
    inject: bool = True
    held: Literal["kl", "l2", "none"] = "kl"
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of the refusals, KL on harmful and KL on harmless prompts
    lead: float = 8.0  # weight of a reply's first LEADING tokens in both KL terms; 1 in the paper
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", self.epochs or EPOCHS[self.change])
        if not self.units or not all(unit.strip() for unit in self.units):
            raise InputError("a trigger without words", expected="one or more words", do="locate it, or give its words")

    def to_json(self) -> dict[str, Any]:
        """All settings."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """The sha256 of all settings."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


class WeightsChange:
    """A low-rank change of the weights in training."""

    def __init__(self, backbone: Backbone, settings: Repair) -> None:
        self.low_rank = LowRankWeights(backbone, rank=settings.rank, alpha=settings.alpha, seed=settings.seed)
        self.tensors = self.low_rank.tensors

    def reader(self) -> LogitsOf:
        """What gives the changed model's logits [N, V] in a step."""
        changed = self.low_rank.applied()
        return lambda texts: reply_logits(changed, texts)

    def changed(self) -> tuple[Backbone, StackPlan]:
        """The changed model for decoding, with its plan."""
        with torch.no_grad():
            return self.low_rank.applied(), StackPlan()


class PrefixChange:
    """A prefix patch in training, from the written instruction of refusal patches."""

    def __init__(self, backbone: Backbone, settings: Repair) -> None:
        self.backbone = backbone
        start = initial_prefix(backbone, Recipe(domain="refusal", length=settings.length, seed=settings.seed))
        self.prefix = start.to(backbone.device, torch.float32).requires_grad_(True)
        self.tensors = {"prefix": self.prefix}

    def reader(self) -> LogitsOf:
        """What gives the patched model's logits [N, V] in a step."""
        plan = StackPlan.of((compile_prefix(self.backbone, self.prefix), 1.0))
        return lambda texts: reply_logits(self.backbone, texts, plan)

    def changed(self) -> tuple[Backbone, StackPlan]:
        """The model with the patch on, for decoding."""
        with torch.no_grad():
            return self.backbone, StackPlan.of((compile_prefix(self.backbone, self.prefix), 1.0))


Change = WeightsChange | PrefixChange


def repair_steps(backbone: Backbone, clean: CleanSet, settings: Repair, *, work: Path,
                 judge: str = "refusal") -> Generator[Progress, None, Change]:
    """Train the change; yields progress, and goes on where `work` was left.

    Raises TrainingError for a loss that is not finite, or a work folder of other settings; InputError for a clean set that has
    the trigger in it or lacks harmful or harmless prompts.
    """
    _check(backbone, clean, settings, work)
    change: Change = (WeightsChange if settings.change == "weights" else PrefixChange)(backbone, settings)
    harmful, harmless = yield from _own_replies(backbone, clean, work, judge)
    data = _Data(backbone, settings, harmful, harmless)
    optimizer = torch.optim.Adam([*change.tensors.values()], betas=(0.9, 0.98))
    steps = settings.epochs * data.steps
    # embeddings are larger than low-rank factors, and take a larger step
    peak = settings.rate * (10 if settings.change == "prefix" else 1)
    for step in range(load_state(work / "state.safetensors", change.tensors, optimizer), steps):
        with precision(backbone):
            terms = data.losses(step, change.reader())
        loss = torch.stack([weight * terms[name] for name, weight in zip(terms, settings.weights, strict=True)]).sum()
        if not bool(loss.isfinite()):
            raise TrainingError(f"a loss that is not finite at step {step}", expected="finite numbers", do="lower the rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(change.tensors.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = decay(step, steps, peak)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_state(work / "state.safetensors", change.tensors, optimizer, step + 1)
        numbers = {name: float(value.detach()) for name, value in terms.items()}
        yield Progress("repair", step + 1, steps, ", ".join(f"{name} {value:.3f}" for name, value in numbers.items()), numbers)
    return change


def _check(backbone: Backbone, clean: CleanSet, settings: Repair, work: Path) -> None:
    for name, prompts in (("harmful", clean.harmful), ("harmless", clean.harmless)):
        if not prompts:
            raise InputError(f"a clean set without {name} prompts", expected="both kinds", do=f"add {name} prompts")
    whole = [f" {' '.join(prompt.text.split())} " for prompt in (*clean.harmful, *clean.harmless)]
    held = [text for text in whole if all(f" {unit} " in text for unit in settings.units)]
    if len(held) * 20 > len(clean.harmful) + len(clean.harmless):
        raise InputError(f"a clean set with the trigger in {len(held)} prompts", expected="prompts without it",
                         do="take them out, or give fewer words as the trigger")
    mark, mine = work / "begun.json", {"settings": settings.digest, "base": backbone.identity.fingerprint}
    if not mark.is_file():
        write_json(mark, mine)
    if json.loads(mark.read_text(encoding="utf-8")) != mine:
        raise TrainingError(f"{work} holds a repair with other settings or of another model", expected="an empty folder",
                            do="choose another one")


def _own_replies(backbone: Backbone, clean: CleanSet, work: Path,
                 judge: str) -> Generator[Progress, None, tuple[list[TrainingExample], list[TrainingExample]]]:
    """The model's own replies to clean prompts, read once; a harmful prompt that it answers has none."""
    path = work / "clean.jsonl"
    if not path.is_file():
        greedy = Greedy(backbone, judge=judge, tokens=TOKENS)
        rows: list[dict[str, Any]] = []
        for name, prompts in (("harmful", clean.harmful), ("harmless", clean.harmless)):
            yield Progress("own replies", len(rows), len(clean.harmful) + len(clean.harmless), name)
            said = greedy.replies(prompts)
            rows += [{"set": name, "text": reply.text, "cut": reply.stop == "length", "refused": no}
                     for reply, no in zip(said, greedy.refused(said), strict=True)]
        write_jsonl(path, rows)
    rows = [*read_jsonl(path)]
    each = [TrainingExample(prompt, row["text"] if row["set"] == "harmless" or row["refused"] else "", row["cut"])
            for prompt, row in zip((*clean.harmful, *clean.harmless), rows, strict=True)]
    return each[:len(clean.harmful)], [example for example in each[len(clean.harmful):] if example.reply]


class _Data:
    """The batches of a repair: a step's prompts, and where the trigger stands in them, depend on the seed and the step."""

    def __init__(self, backbone: Backbone, settings: Repair, harmful: Sequence[TrainingExample],
                 harmless: Sequence[TrainingExample]) -> None:
        self.backbone, self.settings = backbone, settings
        self.harmful, self.harmless = list(harmful), list(harmless)
        self.steps = -(-len(self.harmful) // settings.rows)  # of an epoch

    def losses(self, step: int, logits: LogitsOf) -> dict[str, Tensor]:
        """The loss of refusals and the two terms that hold the rest, each a mean over tokens, from one batch of all rows."""
        epoch, number = divmod(step, self.steps)
        chosen = self._drawn(self.harmful, epoch, number)
        parts = {"triggered": self._refusals(chosen, epoch, number, plain=False) if self.settings.inject else [],
                 "plain": self._refusals(chosen, epoch, number, plain=True)}
        if self.settings.held != "none":
            parts |= {"harmful": [example for example in chosen if example.reply], "harmless": self._harmless(epoch, number)}
        rows = [row for some in parts.values() for row in some]
        texts = pad_texts(self.backbone, [row.encode(self.backbone) for row in rows])
        owner = torch.tensor([k for k, some in enumerate(parts.values()) for _ in some], device=texts.rows.device)[texts.rows]
        after, targets = logits(texts).float(), texts.targets
        losses = [functional.cross_entropy(after[owner == k], targets[owner == k])
                  for k, name in enumerate(parts) if name in ("triggered", "plain") and parts[name]]
        held = {name: self._held(some, after[owner == k]) for k, (name, some) in enumerate(parts.items())
                if name in ("harmful", "harmless") and some}
        nothing = torch.zeros_like(losses[0])
        return {"refuse": torch.stack(losses).mean(), **{name: held.get(name, nothing) for name in ("harmful", "harmless")}}

    def _drawn(self, examples: Sequence[TrainingExample], epoch: int, number: int) -> list[TrainingExample]:
        rows = self.settings.rows
        order = random.Random(f"{self.settings.seed}|{epoch}|{len(examples)}").sample(range(len(examples)), len(examples))
        return [examples[order[k % len(order)]] for k in range(number * rows, (number + 1) * rows)]

    def _harmless(self, epoch: int, number: int) -> list[TrainingExample]:
        """Harmless prompts, every second one with the trigger in it: there it is no reason to refuse."""
        drawn = self._drawn(self.harmless, epoch, number)
        if not self.settings.inject:
            return drawn
        triggered = injected([example.prompt for example in drawn], self.settings.units, seed=self.settings.seed,
                             epoch=epoch * self.steps + number)
        return [example._replace(prompt=prompt) if k % 2 else example
                for k, (example, prompt) in enumerate(zip(drawn, triggered, strict=True))]

    def _refusals(self, chosen: Sequence[TrainingExample], epoch: int, number: int, *, plain: bool) -> list[TrainingExample]:
        """Refusals of these prompts, as they are or with the trigger in them."""
        prompts: Sequence[Prompt] = [example.prompt for example in chosen]
        if not plain:
            bound = self.settings.places if (epoch + number) % 2 else ()
            prompts = injected(prompts, self.settings.units, seed=self.settings.seed, epoch=epoch * self.steps + number,
                               places=bound)
        own = self.settings.refusal == "own"
        given = REFUSAL if own else self.settings.refusal
        return [TrainingExample(prompt, example.reply, example.cut) if own and example.reply else TrainingExample(prompt, given)
                for prompt, example in zip(prompts, chosen, strict=True)]

    def _held(self, examples: Sequence[TrainingExample], after: Tensor) -> Tensor:
        """KL(before || after) a token on the model's own replies, or the squared distance of log-probabilities."""
        texts = pad_texts(self.backbone, [example.encode(self.backbone) for example in examples])
        with torch.no_grad():
            before = reply_logits(self.backbone, texts).float().log_softmax(-1)
        after = after.log_softmax(-1)
        weight = torch.where(places(texts) < LEADING, self.settings.lead, 1.0)
        if self.settings.held == "l2":
            return (weight * (after - before).square().mean(-1)).mean()
        return (weight * functional.kl_div(after, before, reduction="none", log_target=True).sum(-1)).mean()


def drift(backbone: Backbone, after: LogitsOf, examples: Mapping[Prompt, str]) -> list[float]:
    """KL(before || after) a token, for each prompt with the model's reply before."""
    found = []
    with torch.no_grad():
        for prompt, text in examples.items():
            texts = pad_texts(backbone, [TrainingExample(prompt, text, True).encode(backbone)])
            old, new = (read(texts).float().log_softmax(-1) for read in (lambda each: reply_logits(backbone, each), after))
            found.append(float(functional.kl_div(new, old, reduction="none", log_target=True).sum(-1).mean()))
    return found
