"""How each method of benchmarks/quality/methods.py learns: LoRA and prompt tuning by peft + trl, and ours.

All start from the same base in 32 bits with eager attention (the quickest on a CPU for rows this short), compute in bf16
where the processor multiplies it natively, and learn by Adam with one schedule; prompt tuning and ours start from the same
embeddings. The learning rate of each is the one of a grid whose short SFT has the lowest loss on held rows; the grid grows while
that is at its edge. With "KL term" in its name a method of peft + trl is held to the base as ours is.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn import functional

from benchmarks.quality.methods_data import Data, Dials, EncodedRow
from benchmarks.quality.methods_tuning import best_rate, held
from patchlab.engine import BARE, Lab, StackPlan, compile_prefix
from patchlab.engine.likelihood import Texts, reply_logits
from patchlab.evaluation.suites import read_prompts
from patchlab.models import Backbone, load_backbone, preset
from patchlab.records import Progress
from patchlab.registry import Registry
from patchlab.training.config import Recipe
from patchlab.training.prefix import decay, initial_prefix, precision
from patchlab.training.trainer import train

OURS = ("ours", "ours, recipe for a patch alone")
KL = ", KL term"

Reading = tuple[Backbone, StackPlan]  # who answers, and under which plan


@dataclass(slots=True)
class Clock:
    """When each step of a stage was done."""

    ticks: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """A step is done."""
        self.ticks.append(time.perf_counter())

    def seconds(self) -> float:
        """From the end of the first step to that of the last: without what making ready costs."""
        return self.ticks[-1] - self.ticks[0]

    def a_second(self, rows: int) -> float:
        """Rows a second after the first step."""
        return rows * (len(self.ticks) - 1) / self.seconds()


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training: how it may be read, and the loss on held rows as SFT and as DPO left it."""

    readings: Callable[[], dict[str, Reading]]  # made when asked for: what reading costs is none of training's memory
    trainable: int
    rate: float
    losses: tuple[float, float]
    samples_a_second: float
    seconds: float
    settings: str


def load(lane: str, *, attention: str = "sdpa") -> Backbone:
    """A pocket model of its own: adapters are put into it."""
    backbone = load_backbone(preset("pocket").source(lane), device="cpu", kernels=False)  # merging changes weights
    backbone.model.set_attn_implementation(attention)
    return backbone


def loss_on(held: Sequence[Texts], backbone: Backbone, plan: StackPlan = BARE) -> float:
    """Nats a token over all reply tokens of these batches."""
    with torch.no_grad():
        sums = [functional.cross_entropy(reply_logits(backbone, texts, plan).float(), texts.targets, reduction="sum")
                for texts in held]
    return float(sum(sums)) / sum(int(texts.predicts.sum()) for texts in held)


@torch.no_grad()
def plan_of(base: Backbone, prefix: torch.Tensor) -> StackPlan:
    """The plan of a trained prefix [P, D] at strength 1."""
    return StackPlan.of((compile_prefix(base, prefix), 1.0))


# ours


def our_steps(data: Data, recipe: Recipe, work: Path) -> Iterator[Progress]:
    """PatchLab's own training on the shared files, loaded and started anew."""
    base = load("base", attention="eager")
    reference = load("reference", attention="eager") if recipe.reference == "preset" else None
    return train(Lab(base, reference, registry=Registry([])), recipe, read_prompts(data.prompts), work=data.give(work))


def train_ours(data: Data, recipe: Recipe, work: Path) -> Trained:
    """Train to the end; the prefix after each stage is in its file."""
    clock, began = Clock(), time.perf_counter()
    for progress in our_steps(data, recipe, work):
        if progress.stage == "sft":
            clock.tick()
    seconds = time.perf_counter() - began
    base = load("base")
    second = "on_policy" if recipe.own_steps else "dpo"
    stages = [load_file(work / f"{stage}.safetensors")["prefix"] for stage in ("sft", second)]
    after_sft, at_the_end = (plan_of(base, prefix) for prefix in stages)
    losses = (loss_on(data.held(), base, after_sft), loss_on(data.held(), base, at_the_end))
    held_to = f"KL weight {recipe.hold:g}, in DPO {recipe.hold_in_dpo or recipe.hold:g}" if recipe.hold else "no KL term"
    about = (f"P = {recipe.length}, targets {'of the reference' if recipe.distill else 'drawn'}, {held_to}"
             + (", on-policy in place of DPO" if recipe.own_steps else ""))
    return Trained(lambda: {"": (base, at_the_end)}, stages[1].numel(), recipe.sft_rate, losses,
                   clock.a_second(recipe.rows), seconds, about)


def pilot_ours(data: Data, rate: float, work: Path) -> float:
    """The loss a short SFT at this rate comes to."""
    for _ in our_steps(data, data.dials.plain(rate, sft_steps=data.dials.pilot_steps, dpo_steps=0), work):
        pass
    base = load("base")
    return loss_on(data.held(), base, plan_of(base, load_file(work / "sft.safetensors")["prefix"]))


# peft + trl


def lora(backbone: Backbone, *, rank: int, seed: int) -> Any:
    """The base with a LoRA of this rank on every linear layer."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    return get_peft_model(backbone.model, LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank,
                                                     target_modules="all-linear"))


def prompt_tuning(backbone: Backbone, recipe: Recipe) -> Any:
    """The base with peft's prompt tuning, started where ours starts."""
    from peft import PromptTuningConfig, get_peft_model

    wrapped = get_peft_model(backbone.model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=recipe.length))
    with torch.no_grad():
        wrapped.prompt_encoder["default"].embedding.weight.copy_(initial_prefix(backbone, recipe))
    return wrapped


def sft_trainer(wrapped: Any, backbone: Backbone, rows: Sequence[EncodedRow], *, recipe: Recipe, folder: Path,
                clock: Clock, others: Sequence[Texts] = ()) -> Any:
    """trl's SFTTrainer on rows that are in the order ours takes them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    given = Dataset.from_list([{"input_ids": each.prompt + each.reply, "labels": [-100] * len(each.prompt) + each.reply}
                               for each in rows])
    settings = _settings(backbone, folder, recipe.sft_steps, recipe.rows)
    trainer = held(SFTTrainer, others, recipe.hold)(wrapped, args=SFTConfig(**settings), train_dataset=given,
                                                    processing_class=backbone.tokenizer, callbacks=[_ticking(clock)])
    return _by_adam(trainer, recipe.sft_rate, recipe.sft_steps)


def dpo_trainer(wrapped: Any, backbone: Backbone, pairs: Sequence[EncodedRow], *, recipe: Recipe, folder: Path,
                clock: Clock, others: Sequence[Texts] = ()) -> Any:
    """trl's DPOTrainer on the same pairs as ours; its anchor is a copy of the adapter as SFT left it, as ours is."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Encoded(DPOTrainer):
        """Takes pairs that are token ids already: the same ones that ours reads."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    given = Dataset.from_list([{"prompt_ids": each.prompt, "chosen_ids": each.reply, "rejected_ids": each.rejected}
                               for each in pairs])
    settings = _settings(backbone, folder, recipe.dpo_steps, recipe.rows // 2)
    args = DPOConfig(**settings, beta=recipe.beta, loss_type=["sigmoid", "sft"], loss_weights=[1.0, recipe.sft_in_dpo])
    trainer = held(Encoded, others, recipe.hold)(wrapped, args=args, train_dataset=given, processing_class=backbone.tokenizer,
                                                 callbacks=[_ticking(clock)])
    return _by_adam(trainer, recipe.dpo_rate, recipe.dpo_steps)


def _settings(backbone: Backbone, folder: Path, steps: int, rows: int) -> dict[str, Any]:
    """What both trainers are told: our batches in our order, our precision, and nothing written or logged."""
    with precision(backbone):
        sixteen = torch.is_autocast_enabled("cpu")
    return {"output_dir": str(folder), "max_steps": steps, "per_device_train_batch_size": rows, "use_cpu": True,
            "bf16": sixteen, "train_sampling_strategy": "sequential", "activation_checkpointing": False, "max_grad_norm": 1.0,
            "max_length": None, "logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
            "dataloader_pin_memory": False}


def _by_adam(trainer: Any, rate: float, steps: int) -> Any:
    """Give a trainer the optimizer and schedule that ours has, and keep it from printing."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.optimizer = torch.optim.Adam([p for p in trainer.model.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.98))
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: decay(step, steps, 1.0))
    return trainer


def _ticking(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    return Ticking()


Wrap = Callable[[Backbone], Any]


def train_by_trl(data: Data, recipe: Recipe, wrap: Wrap, work: Path, about: str) -> Trained:
    """SFT and DPO of an adapter; LoRA can be read unmerged and merged."""
    began = time.perf_counter()
    base = load("base", attention="eager")
    wrapped, clock, others = wrap(base), Clock(), data.others() if recipe.hold else ()
    trainable = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    sft_trainer(wrapped, base, data.sft(recipe.sft_steps), recipe=recipe, folder=work, clock=clock, others=others).train()
    seconds = time.perf_counter() - began
    after_sft = loss_on(data.held(), *reading(wrapped, base))
    began = time.perf_counter()
    wrapped.train()
    dpo_trainer(wrapped, base, data.dpo(recipe.dpo_steps), recipe=recipe, folder=work, clock=Clock(), others=others).train()
    seconds += time.perf_counter() - began
    losses = (after_sft, loss_on(data.held(), *reading(wrapped, base)))
    return Trained(lambda: readings(wrapped, base), trainable, recipe.sft_rate, losses,
                   clock.a_second(recipe.rows), seconds, about)


def pilot_by_trl(data: Data, rate: float, wrap: Wrap, work: Path) -> float:
    """The loss a short SFT at this rate comes to."""
    recipe = data.dials.plain(rate, sft_steps=data.dials.pilot_steps, dpo_steps=0)
    base = load("base", attention="eager")
    wrapped = wrap(base)
    sft_trainer(wrapped, base, data.sft(recipe.sft_steps), recipe=recipe, folder=work, clock=Clock()).train()
    return loss_on(data.held(), *reading(wrapped, base))


def reading(wrapped: Any, base: Backbone) -> Reading:
    """An adapter as the engine reads it: peft's virtual tokens as a compiled patch (equal, by law), LoRA in its layers."""
    wrapped.eval()
    if hasattr(wrapped, "prompt_encoder"):
        return base, plan_of(base, wrapped.prompt_encoder["default"].embedding.weight)
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    backbone = Backbone(wrapped.get_base_model(), base.tokenizer, name="lora")  # freezes what it is given
    for parameter in trained:
        parameter.requires_grad_(True)
    return backbone, BARE


def readings(wrapped: Any, base: Backbone) -> dict[str, Reading]:
    """All ways to read a finished adapter: LoRA unmerged and merged, prompt tuning in its only one."""
    if hasattr(wrapped, "prompt_encoder"):
        return {"": reading(wrapped, base)}
    merged = Backbone(copy.deepcopy(wrapped).merge_and_unload(), base.tokenizer, name="merged")
    return {"unmerged": reading(wrapped, base), "merged": (merged, BARE)}


def libraries(name: str) -> None:
    """Import what a method will, so that memory counted from here on is its training's."""
    if name not in OURS:
        from trl import DPOTrainer, SFTTrainer  # noqa: F401


def method(name: str, data: Data, dials: Dials, work: Path) -> Trained:
    """Train one method by its name."""
    count = itertools.count()
    folder = lambda: work / f"{name}-{next(count)}"  # noqa: E731
    if name == "ours, recipe for a patch alone":
        return train_ours(data, dials.shipped, folder())
    if name == "ours":
        rate, tried = best_rate(lambda rate: pilot_ours(data, rate, folder()), dials.prefix_rates)
        return _with_rates(train_ours(data, dials.plain(rate), folder()), tried)
    hold, (kind, *_) = dials.shipped.hold if name.endswith(KL) else 0.0, name.split(KL)
    if kind == "prompt tuning (peft + trl)":
        rates, about = dials.prefix_rates, "P = 50, the start of ours"
        wrap: Wrap = lambda base: prompt_tuning(base, dials.plain(rates[0]))  # noqa: E731
    else:
        rank = int(kind.rsplit(" ", 1)[1])
        rates, about = dials.lora_rates, "every linear layer, alpha twice the rank"
        wrap = lambda base: lora(base, rank=rank, seed=dials.seed)  # noqa: E731
    about += f", KL weight {hold:g}" if hold else ""
    rate, tried = best_rate(lambda rate: pilot_by_trl(data, rate, wrap, folder()), rates)
    return _with_rates(train_by_trl(data, dials.plain(rate).with_(hold=hold), wrap, folder(), about), tried)


def _with_rates(trained: Trained, tried: Sequence[float]) -> Trained:
    return replace(trained, settings=f"{trained.settings}; rates tried {', '.join(f'{rate:.3g}' for rate in tried)}")
