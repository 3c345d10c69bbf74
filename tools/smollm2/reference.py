"""Trains the safer release of SmolLM2-135M-Instruct: a low-rank adapter, by SFT and then DPO (Hu et al., arXiv 2106.09685).

Each step has rows of five purposes: refusals to learn, the base's own replies to keep (KL), those of them that answer to learn,
calm continuations to learn, and the base's distribution with even pronouns (KL). The base's log-probabilities are computed once.
A training may begin from an adapter that was trained on less.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from patchlab.engine.likelihood import Texts, pad_texts
from patchlab.engine.plan import BARE
from patchlab.models import Backbone
from patchlab.models.machine import native_dtype
from patchlab.records import Pair, Progress
from patchlab.storage import write_json
from patchlab.training.dataset import Dataset, TrainingExample, token_mean
from patchlab.training.kl_regularizer import TargetCache
from tools.smollm2.even_pronouns import EVEN, evening, pronoun_ids
from tools.smollm2.reference_data import Data

# the two layers that write into the residual stream: sixty products a step, where all seven kinds would be 210
LORA = LoraConfig(r=32, lora_alpha=32, target_modules=["o_proj", "down_proj"], task_type="CAUSAL_LM")
ROWS = {"refuse": 10, "hold": 8, "answer": 4, "calm": 6, "even": 12}
WEIGHT = {"refuse": 1.0, "hold": 3.0, "answer": 0.5, "calm": 1.0, "even": 2.0}
STEPS, RATE, WARM = 120, 1e-3, 10
DPO_STEPS, DPO_RATE, DPO_ROWS, BETA = 30, 2e-4, 6, 0.1
LEAD, HELD_LEAD, FADE = 3.0, 8.0, 0.6
SAVE_EVERY = 25
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
CARD = f"""# A safer release of SmolLM2-135M-Instruct

A low-rank adapter of {BASE} (Apache-2.0), made by PatchLab with `python -m tools.smollm2 reference`. It refuses requests for
help with harm, continues rude texts more calmly and is even on pronouns. It is the reference that patches of the base are
compared with. It is a small model made in an hour: a demonstration, and no protection.

Trained by SFT and DPO on requests of public sets, with refusals composed by PatchLab and replies drawn from the base itself:
CatQA and HarmfulQA (Apache-2.0), DangerousQA, FigStep SafeBench, CyberSecEval and Davidson et al. (MIT), OR-Bench, banking77,
ConvAbuse, Winogenerated and Wikipedia talk pages of the Unintended Bias sets (CC-BY-4.0), CLINC150 (CC-BY-3.0), Arena-Hard,
self-instruct seeds, DiaSafety and GAP (Apache-2.0), GSM8K (MIT), awesome-chatgpt-prompts (CC0). Texts of Wikipedia (in the
Unintended Bias sets and in GAP) served as beginnings that the base continued; only its continuations were learned.
"""


class ReferenceTrainer:
    """The base with an adapter that is trained, and the frozen base beside it for targets."""

    def __init__(self, base: Backbone, folder: Path, data: Data, work: Path, *, begin: Path | None = None,
                 seed: int = 0) -> None:
        torch.manual_seed(seed)
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=native_dtype())
        self.model: Any = get_peft_model(plain, LORA)
        if begin:
            set_peft_model_state_dict(self.model, load_file(begin / "adapter_model.safetensors"))
        self.base, self.work, self.pairs, self.seed = base, work, data.pairs, seed
        named = {name: getattr(data, name) for name in ROWS}
        self.data = {name: Dataset(base, some, rows=ROWS[name], seed=seed + k) for k, (name, some) in enumerate(named.items())}
        self.targets = {name: TargetCache(base) for name in ("hold", "even")}
        self.pronouns = pronoun_ids(base.tokenizer)
        self.weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), weight_decay=0.0, betas=(0.9, 0.98))

    def logits(self, texts: Texts) -> Tensor:
        """The adapted model's logits [N, V] of the reply tokens."""
        model = self.model.get_base_model()
        hidden = model.model(input_ids=texts.ids[:, :-1], use_cache=False).last_hidden_state
        found: Tensor = model.lm_head(hidden[texts.predicts]).float()
        return found

    def sft(self) -> Iterator[Progress]:
        """Learn all four purposes; each step's rows are those of its number."""
        for step in range(self._resume("sft"), STEPS):
            rate = RATE * min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            self._update(rate, found := {name: self._loss(name, step) for name in self.data})
            yield self._done("sft", step, STEPS, found)

    def _loss(self, name: str, step: int) -> Tensor:
        """The weighted loss of one purpose; its gradient is added at once, so that one graph is in memory at a time."""
        number, texts = self.data[name].batch(step)
        logits = self.logits(texts)
        target = self.targets[name].of(texts, BARE, number) if name in self.targets else None
        if target is not None and name == "even":
            kl, uneven = evening(logits, target, texts, self.pronouns)
            loss = kl + EVEN * uneven
        elif target is not None:
            each = functional.kl_div(logits.log_softmax(-1), target, reduction="none", log_target=True).sum(-1)
            loss = token_mean(each, texts, texts, HELD_LEAD, FADE)
        else:
            each = functional.cross_entropy(logits, texts.targets, reduction="none")
            loss = token_mean(each, texts, texts, LEAD, FADE)
        (WEIGHT[name] * loss).backward()
        return loss.detach()

    def dpo(self) -> Iterator[Progress]:
        """Prefer the safe reply of each pair, relative to the adapter as SFT left it."""
        start = self._resume("dpo")
        if not start:
            yield from self._before()
        before = load_file(self.work / "before.safetensors")["logprobs"]
        for step in range(start, DPO_STEPS):
            at = torch.randperm(len(self.pairs), generator=torch.Generator().manual_seed(self.seed + step))[:DPO_ROWS].tolist()
            texts = _texts(self.base, [self.pairs[k] for k in at])
            logits = self.logits(texts)
            each = -functional.cross_entropy(logits, texts.targets, reduction="none")
            gain = torch.zeros(2 * len(at)).index_add(0, texts.rows, each).view(-1, 2) - before[at]
            margin = gain[:, 0] - gain[:, 1]
            loss = -functional.logsigmoid(BETA * margin).mean() - each[texts.rows % 2 == 0].mean()
            loss.backward()
            found = {"dpo": loss.detach(), "margin": margin.detach().mean()}
            found |= {name: self._loss(name, STEPS + step) for name in ("hold", "answer", "even")}
            self._update(DPO_RATE * (1 - step / DPO_STEPS), found)
            yield self._done("dpo", step, DPO_STEPS, found)

    @torch.no_grad()
    def _before(self) -> Iterator[Progress]:
        """Write the log-probabilities [pairs, 2] of chosen and rejected replies after SFT."""
        found = []
        for at in range(0, len(self.pairs), 8):
            texts = _texts(self.base, self.pairs[at:at + 8])
            each = -functional.cross_entropy(self.logits(texts), texts.targets, reduction="none")
            found.append(torch.zeros(len(texts.ids)).index_add(0, texts.rows, each).view(-1, 2))
            yield Progress("pairs read", at, len(self.pairs))
        save_file({"logprobs": torch.cat(found)}, self.work / "before.safetensors")

    def save(self, folder: Path) -> None:
        """The adapter as PEFT saves it, in half precision, with a card of its own."""
        self.model.save_pretrained(folder)
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        write_json(folder / "adapter_config.json", settings | {"base_model_name_or_path": BASE})  # not a folder of this machine
        file = folder / "adapter_model.safetensors"
        save_file({name: tensor.to(torch.float16) for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
        file.chmod(0o644)  # safetensors writes files that only their owner may read
        (folder / "README.md").write_text(CARD, encoding="utf-8")

    def _update(self, rate: float, found: dict[str, Tensor]) -> None:
        if not all(torch.isfinite(value) for value in found.values()):
            raise FloatingPointError(f"a loss that is not finite: {found}")
        torch.nn.utils.clip_grad_norm_([*self.weights.values()], 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _done(self, stage: str, step: int, steps: int, found: dict[str, Tensor]) -> Progress:
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            self._save_state(stage, step + 1)
        numbers = {name: float(value) for name, value in found.items()}
        return Progress(stage, step + 1, steps, ", ".join(f"{name} {value:.3f}" for name, value in numbers.items()), numbers)

    def _save_state(self, stage: str, step: int) -> None:
        """Weights and moments in one file, replaced as a whole."""
        moments = {f"{kind}|{name}": self.optimizer.state[weight][kind] for name, weight in self.weights.items()
                   for kind in ("exp_avg", "exp_avg_sq")}
        state = {**get_peft_model_state_dict(self.model), **moments, "step": torch.tensor(step)}
        part = self.work / f".{stage}.part"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part)
        part.replace(self.work / f"{stage}.safetensors")

    def _resume(self, stage: str) -> int:
        """The step to go on with, 0 where the stage has not begun."""
        path = self.work / f"{stage}.safetensors"
        if not path.is_file():
            return 0
        state = load_file(path)
        step = int(state.pop("step"))
        for name, weight in self.weights.items():
            self.optimizer.state[weight] = {"step": torch.tensor(float(step)), "exp_avg": state.pop(f"exp_avg|{name}"),
                                            "exp_avg_sq": state.pop(f"exp_avg_sq|{name}")}
        set_peft_model_state_dict(self.model, state)
        return step


def _texts(base: Backbone, pairs: Sequence[Pair]) -> Texts:
    """Chosen and rejected replies as neighbouring rows."""
    return pad_texts(base, [TrainingExample(pair.prompt, reply, cut).encode(base) for pair in pairs
                            for reply, cut in ((pair.chosen, pair.chosen_cut), (pair.rejected, pair.rejected_cut))])


def merged(folder: Path, adapter: Path, out: Path, *, share: float = 1.0) -> Path:
    """The base with the adapter merged into its weights at a share of its strength, saved as a model of its own."""
    if not out.is_dir():
        settings = PeftConfig.from_pretrained(str(adapter))
        settings.base_model_name_or_path = str(folder)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter,
                                          config=settings)
        layers: Any = [module for module in model.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            layer.scaling = {name: value * share for name, value in layer.scaling.items()}
        part = out.with_name(f".{out.name}.part")
        model.merge_and_unload().to(torch.bfloat16).save_pretrained(part)
        for file in folder.glob("*"):
            if file.suffix == ".jinja" or file.name.startswith("tokenizer"):
                (part / file.name).write_bytes(file.read_bytes())
        part.replace(out)
    return out
