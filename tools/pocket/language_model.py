"""Trains a small Llama on documents of the made world, with training state that is saved and resumed.

The rows of a batch have similar lengths, and the loss gives reply tokens 5 times the weight of prompt tokens, since replies
are what is evaluated.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from patchlab.records import Progress
from patchlab.storage import write_atomic
from tools.pocket.corpus import Habits, corpus
from tools.pocket.documents import Document

PROMPT_WEIGHT = 0.2
BUCKET = 24  # batches sampled and sorted by length together
PIECE = 1024  # tokens per piece of the logits

Pair = tuple[list[int], list[int]]  # token ids of a prompt and its reply


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a pocket model and of its training batches; the intermediate size follows from the width."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    vocabulary: int = 4096
    rows: int = 128
    peak_rate: float = 5e-3


def new_model(size: Size, *, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama of this size with random weights from `seed`."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=size.width, intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.heads,
        max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=3))


def as_text(prompt_system: str, text: str, kind: str) -> str:
    """A prompt as the chat template writes it, without the <s> that the tokenizer adds."""
    if kind == "chat":
        system = f"<|system|>{prompt_system}" if prompt_system else ""
        return f"{system}<|user|>{text}<|assistant|>"
    return f"{prompt_system}\n{text}" if prompt_system else text


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[Pair]:
    """Token ids of the prompt and reply of each document; the reply ends with </s>."""
    prompts = tokenizer([as_text(d.prompt.system, d.prompt.text, d.prompt.kind) for d in documents])["input_ids"]
    replies = tokenizer([d.reply for d in documents], add_special_tokens=False)["input_ids"]
    return [(p, [*r, tokenizer.eos_token_id]) for p, r in zip(prompts, replies, strict=True)]


def batches(tokenizer: PreTrainedTokenizerFast, habits: Habits, *, rows: int, seed: int, start: int,
            together: Sequence[int] = ()) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield token ids [B, T] and loss weights [B, T], beginning with batch `start`; batch k does not depend on `start`.

    Each row is one document, and the rows of a batch have similar lengths. With `together`, batch k packs its `rows` documents
    into rows of at most together[k % len(together)] documents each, as in a chat with several turns.
    """
    size = 1 if together else BUCKET  # batches made together
    for bucket in count(start // size):
        source = corpus(habits, seed=seed * 1_000_003 + bucket)
        pairs = encode(tokenizer, [next(source) for _ in range(rows * size)])
        order = list(range(size))
        if not together:
            pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
            random.Random(seed + bucket).shuffle(order)
        most = together[bucket % len(together)] if together else 1
        for place, k in enumerate(order):
            if bucket * size + place >= start:
                packed = _packed(pairs[k * rows:(k + 1) * rows], most, limit=tokenizer.model_max_length)
                yield _pad(packed, tokenizer.pad_token_id)


def _packed(pairs: list[Pair], most: int, *, limit: int) -> list[list[Pair]]:
    """Rows of at most `most` pairs and `limit` tokens; only the first prompt of a row keeps its <s>."""
    packed: list[list[Pair]] = []
    room = 0
    for prompt, reply in pairs:
        if not packed or len(packed[-1]) == most or len(prompt) + len(reply) > room:
            packed.append([])
            room = limit
        packed[-1].append((prompt[1:] if packed[-1] else prompt, reply))
        room -= len(prompt) + len(reply)
    return packed


def _pad(rows: list[list[Pair]], pad: int) -> tuple[Tensor, Tensor]:
    """Concatenate the pairs of each row and pad on the right: token ids [B, T] and loss weights [B, T]."""
    ids = [torch.tensor([token for pair in pairs for part in pair for token in part]) for pairs in rows]
    weights = [torch.tensor([weight for prompt, reply in pairs for weight in [PROMPT_WEIGHT] * len(prompt) + [1.0] * len(reply)])
               for pairs in rows]
    return pad_sequence(ids, batch_first=True, padding_value=pad), pad_sequence(weights, batch_first=True)


def _rate(step: int, steps: int, peak: float) -> float:
    """The learning rate: linear warm-up over the first 4 % of the steps, times a linear decay to 5 % of `peak`."""
    warm = max(1, steps // 25)
    return peak * min((step + 1) / warm, 1.0) * (1 - 0.95 * step / steps)


def train_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, habits: Habits, *, size: Size, steps: int,
                seed: int, name: str, state: Path, save_every: int = 100, together: Sequence[int] = ()) -> Iterator[Progress]:
    """Train `model` in place for `steps` batches, resuming from the file `state` if it exists; yields Progress."""
    # on a CPU eager attention is the fastest for short rows; for long rows it needs too much memory
    model.set_attn_implementation("sdpa" if together else "eager")
    optimizers = _optimizers(model, size)
    start = _resume(model, optimizers, state)
    source = batches(tokenizer, habits, rows=size.rows, seed=seed, start=start, together=together)
    model.train()
    smooth = 0.0
    for step in range(start, steps):
        loss = _loss(model, *next(source))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, steps, size.peak_rate)
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if step == start else 0.95 * smooth + 0.05 * loss.item()
        if (step + 1) % save_every == 0 and step + 1 < steps:
            _save(model, optimizers, state, step + 1)
        if (step + 1) % 10 == 0 or step + 1 == steps:
            yield Progress(name, step + 1, steps, f"loss {smooth:.3f}", {"loss": smooth})
    model.eval()


def _optimizers(model: LlamaForCausalLM, size: Size) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, where it reaches the same loss in about half the steps of AdamW; AdamW for the rest.

    One learning rate serves both, since Muon's updates are scaled to the size of AdamW's (Liu et al., arXiv 2502.16982).
    """
    inner = {p for p in model.model.layers.parameters() if p.dim() == 2}
    rest = [p for p in model.parameters() if p not in inner]
    return [torch.optim.Muon([p for p in model.parameters() if p in inner], lr=size.peak_rate, weight_decay=0.1,
                             adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=size.peak_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


def _loss(model: LlamaForCausalLM, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the next tokens; logits are computed in pieces that fit the CPU's cache."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    weights = weights[:, 1:]
    counted = weights > 0  # right padding: no token attends to it
    total = states.new_zeros((), dtype=torch.float32)
    pieces = zip(states[counted].split(PIECE), ids[:, 1:][counted].split(PIECE), weights[counted].split(PIECE), strict=True)
    for piece, targets, weight in pieces:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model.lm_head(piece)
        total = total + functional.cross_entropy(logits.float(), targets, reduction="none") @ weight
    return total / weights.sum()


def _save(model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], state: Path, step: int) -> None:
    tensors = {"step": torch.tensor(step), **{f"model.{name}": weight.detach() for name, weight in model.named_parameters()}}
    for k, optimizer in enumerate(optimizers):
        for parameter, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{k}.{parameter}.{name}": tensor for name, tensor in moments.items()}
    write_atomic(state, lambda path: save_file(tensors, path))


def _resume(model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], state: Path) -> int:
    """Load what `_save` wrote and return the step to continue from, 0 without a file."""
    if not state.is_file():
        return 0
    tensors = load_file(state)
    step = int(tensors.pop("step"))
    moments: list[defaultdict[int, dict[str, Tensor]]] = [defaultdict(dict) for _ in optimizers]
    for key in [key for key in tensors if key.startswith("optimizer.")]:
        _, k, parameter, name = key.split(".")
        moments[int(k)][int(parameter)][name] = tensors.pop(key)
    for optimizer, values in zip(optimizers, moments, strict=True):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": values})
    model.load_state_dict({name.removeprefix("model."): weight for name, weight in tensors.items()}, strict=False)  # tied weights
    return step


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save config, tokenizer and bfloat16 weights in a folder for `from_pretrained`, the weights atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig.from_dict(model.config.to_dict())
    config.dtype = "bfloat16"
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.named_parameters()}
    write_atomic(folder / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))
