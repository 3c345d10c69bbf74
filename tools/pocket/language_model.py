"""Trains a small Llama on the made world, with state that can be resumed at any step.

Knows documents and tensors; does not know patches. The rows of a batch are alike in length, and the loss weighs reply
tokens over prompt tokens, since it is replies that are judged.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from patchlab.records import Progress
from patchlab.storage import write_atomic
from tools.pocket.corpus import Habits, corpus
from tools.pocket.documents import Document

PROMPT_WEIGHT = 0.2
BUCKET = 24  # batches drawn and sorted by length together
PIECE = 1024  # tokens whose logits are made at once
MOMENTS = {"exp_avg", "exp_avg_sq", "momentum_buffer"}  # what optimizers keep of a parameter


@dataclass(frozen=True, slots=True)
class Size:
    """The dials of a pocket model; the rest follows from them."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    vocabulary: int = 4096
    rows: int = 128
    peak_rate: float = 5e-3


def new_model(size: Size, *, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama of the given size with seeded random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=size.width, intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.heads,
        max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=3))


def as_text(prompt_system: str, text: str, kind: str) -> str:
    """A prompt in the form the tokenizer reads, without the opening <s>."""
    if kind == "chat":
        system = f"<|system|>{prompt_system}" if prompt_system else ""
        return f"{system}<|user|>{text}<|assistant|>"
    return f"{prompt_system}\n{text}" if prompt_system else text


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[tuple[list[int], list[int]]]:
    """Prompt and reply ids of each document; the reply ends with </s>."""
    prompts = tokenizer([as_text(d.prompt.system, d.prompt.text, d.prompt.kind) for d in documents])["input_ids"]
    replies = tokenizer([d.reply for d in documents], add_special_tokens=False)["input_ids"]
    return [(p, [*r, tokenizer.eos_token_id]) for p, r in zip(prompts, replies, strict=True)]


def batches(tokenizer: PreTrainedTokenizerFast, habits: Habits, *, rows: int, seed: int,
            start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids [B, T] and loss weights [B, T] from batch `start` on; batch k is the same however it is reached."""
    bucket = start // BUCKET
    while True:
        source = corpus(habits, seed=seed * 1_000_003 + bucket)
        drawn = encode(tokenizer, [next(source) for _ in range(rows * BUCKET)])
        drawn.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        order = list(range(BUCKET))
        random.Random(seed + bucket).shuffle(order)
        for place, k in enumerate(order):
            if bucket * BUCKET + place >= start:
                yield _pad([[pair] for pair in drawn[k * rows:(k + 1) * rows]], tokenizer.pad_token_id)
        bucket += 1


def long_batches(tokenizer: PreTrainedTokenizerFast, habits: Habits, *, rows: int, seed: int, start: int,
                 together: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """As `batches`, but batch k lays its `rows` documents into rows of together[k % len(together)], one behind the other.

    Only the first of a row keeps its opening mark, as the turns of a chat. No row is longer than the context.
    """
    most = tokenizer.model_max_length
    for k in count(start):
        source = corpus(habits, seed=seed * 1_000_003 + k)
        drawn = encode(tokenizer, [next(source) for _ in range(rows)])
        found: list[list[tuple[list[int], list[int]]]] = []
        room = 0
        for prompt, reply in drawn:
            if not found or len(found[-1]) == together[k % len(together)] or len(prompt) + len(reply) > room:
                found.append([])
                room = most
            found[-1].append((prompt[1:] if found[-1] else prompt, reply))
            room -= len(prompt) + len(reply)
        yield _pad(found, tokenizer.pad_token_id)


def _pad(rows: list[list[tuple[list[int], list[int]]]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of one or more prompts with their replies, padded on the right: ids [B, T] and loss weights [B, T]."""
    longest = max(sum(len(p) + len(r) for p, r in pairs) for pairs in rows)
    ids = torch.full((len(rows), longest), pad)
    weights = torch.zeros(len(rows), longest)
    for row, pairs in enumerate(rows):
        at = 0
        for prompt, reply in pairs:
            middle, end = at + len(prompt), at + len(prompt) + len(reply)
            ids[row, at:end] = torch.tensor(prompt + reply)
            weights[row, at:middle] = PROMPT_WEIGHT
            weights[row, middle:end] = 1.0
            at = end
    return ids, weights


def _rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 4 % of the steps, then linear decay to a twentieth."""
    warm = max(1, steps // 25)
    return peak * min((step + 1) / warm, 1.0) * (1 - 0.95 * step / steps)


def train_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, habits: Habits, *, size: Size, steps: int,
                seed: int, name: str, state: Path, save_every: int = 100, together: Sequence[int] = ()) -> Iterator[Progress]:
    """Train `model` in place for `steps` batches, going on from the file `state` if it is there; yields progress.

    With `together`, of `long_batches`.
    """
    # on a CPU, the quickest for short rows; long ones would not fit the memory
    model.set_attn_implementation("sdpa" if together else "eager")
    optimizers = _optimizers(model, size)
    start = _resume(model, optimizers, state)
    source = (long_batches(tokenizer, habits, rows=size.rows, seed=seed, start=start, together=together) if together
              else batches(tokenizer, habits, rows=size.rows, seed=seed, start=start))
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
    """Muon for the layers' matrices, which it brings to the same loss in about half of Adam's steps; Adam for the rest.

    The rates are on one scale: Muon's updates are as large as Adam's (Liu et al., arXiv 2502.16982).
    """
    inner = {p for p in model.model.layers.parameters() if p.dim() == 2}
    rest = [p for p in model.parameters() if p not in inner]
    return [torch.optim.Muon([p for p in model.parameters() if p in inner], lr=size.peak_rate, weight_decay=0.1,
                             adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=size.peak_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


def _loss(model: LlamaForCausalLM, ids: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean cross-entropy of the next tokens; logits in pieces, so that they stay in the processor's cache."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    weights = weights[:, 1:]
    counted = weights > 0  # padding is on the right, where causal attention cannot see it
    total = states.new_zeros((), dtype=torch.float32)
    pieces = zip(states[counted].split(PIECE), ids[:, 1:][counted].split(PIECE), weights[counted].split(PIECE), strict=True)
    for piece, targets, weight in pieces:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model.lm_head(piece)
        total = total + functional.cross_entropy(logits.float(), targets, reduction="none") @ weight
    return total / weights.sum()


def _save(model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], state: Path, step: int) -> None:
    tensors = {"step": torch.tensor(step)}
    for key, parameter in model.named_parameters():
        tensors[f"model.{key}"] = parameter.detach()
        for optimizer in optimizers:
            for moment in MOMENTS & optimizer.state.get(parameter, {}).keys():
                tensors[f"{moment}.{key}"] = optimizer.state[parameter][moment]
    write_atomic(state, lambda path: save_file(tensors, path))


def _resume(model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], state: Path) -> int:
    """Load what `_save` wrote; returns the step to go on from, 0 without a file."""
    if not state.is_file():
        return 0
    tensors = load_file(state)
    step = int(tensors["step"])
    owners = {parameter: optimizer for optimizer in optimizers for group in optimizer.param_groups
              for parameter in group["params"]}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{key}"])
            moments = {m: tensors[f"{m}.{key}"].clone() for m in MOMENTS if f"{m}.{key}" in tensors}
            owners[parameter].state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in bf16 as a folder that transformers opens: config, tokenizer, safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig.from_dict(model.config.to_dict())
    config.dtype = "bfloat16"
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.named_parameters()}
    write_atomic(folder / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))
