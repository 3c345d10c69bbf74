"""Likelihoods of given replies: those of decoding, with gradients that reach the patch, whatever is recomputed on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from made_batches import ATOL, assert_near, decoded, prefix_of, segment_of
from made_models import FALCON_HEADS, falcon, full_forward, make_patch, some_ids
from torch import Tensor

from patchlab.engine import StackPlan, compile_prefix
from patchlab.engine.decode import BatchRow
from patchlab.engine.likelihood import Texts, encode_texts, pad_texts, reply_logits, reply_logprobs
from patchlab.models import Backbone
from patchlab.records import Prompt


@torch.no_grad()
def test_given_replies_have_the_logits_of_decoding(backbone: Backbone) -> None:
    """`reply_logits`, padded right, equals the batch, padded left, and the full forward."""
    prefix, other = prefix_of(backbone, "a", 5), prefix_of(backbone, "b", 11)
    parts = [(compile_prefix(backbone, prefix), 0.5), (compile_prefix(backbone, other), 1.0)]
    pairs = [(some_ids(n, seed=n), some_ids(m, seed=n + 50)) for n, m in ((13, 4), (3, 9), (8, 1))]
    for on, full in ((parts, [(prefix, 0.5), (other, 1.0)]), ([(parts[0][0], 0.0)], []), ([], [])):
        texts = pad_texts(backbone, pairs)
        plan = StackPlan.of(*on)
        logits = reply_logits(backbone, texts, plan)
        for k, (prompt, reply) in enumerate(pairs):
            mine = logits[texts.rows == k]
            near = 2e-5 if backbone.model.config.model_type == "granitemoehybrid" else 1e-5  # its multipliers round more
            assert_near(mine, full_forward(backbone, [*prompt, *reply], full)[len(prompt) - 1:-1], atol=near)
            assert_near(mine, decoded(backbone, [BatchRow(prompt, plan)], reply[:-1])[:, 0], atol=near)
        if not full:
            assert torch.equal(logits, reply_logits(backbone, texts))  # off is off to the bit
        assert texts.targets.tolist() == [token for _, reply in pairs for token in reply]
        summed = [logits[texts.rows == k].log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum()
                  for k, (_, reply) in enumerate(pairs)]
        assert_near(reply_logprobs(logits, texts), torch.stack(summed), atol=1e-4)


def test_gradients_reach_the_prefix_as_through_full_embeddings(backbone: Backbone,
                                                               weights: Callable[[Backbone], str]) -> None:
    before = weights(backbone)
    pairs = [(some_ids(n, seed=n), some_ids(6, seed=n + 50)) for n in (11, 4)]
    texts = pad_texts(backbone, pairs)
    frozen = segment_of(backbone, "b", 7)
    through_bank = prefix_of(backbone, "a", 5).requires_grad_()
    logits = reply_logits(backbone, texts, StackPlan.of((compile_prefix(backbone, through_bank), 0.5), (frozen, 1.0)))
    (-reply_logprobs(logits, texts).mean() / 6).backward()

    through_text = prefix_of(backbone, "a", 5).requires_grad_()
    losses = []
    for prompt, reply in pairs:
        full = full_forward(backbone, [*prompt, *reply], [(through_text, 0.5), (prefix_of(backbone, "b", 7), 1.0)])
        losses.append(torch.nn.functional.cross_entropy(full[len(prompt) - 1:-1], torch.tensor(reply)))
    torch.stack(losses).mean().backward()
    assert through_bank.grad is not None and through_text.grad is not None
    assert float(through_bank.grad.abs().max()) > 100 * ATOL
    assert_near(through_bank.grad, through_text.grad)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert weights(backbone) == before


@pytest.mark.parametrize("heads", FALCON_HEADS)
def test_falcons_other_heads_hold_too(heads: str) -> None:
    test_given_replies_have_the_logits_of_decoding(falcon(heads))


def test_a_reply_that_was_cut_has_no_end_mark(llama: Backbone) -> None:
    """A model that learned from cut replies with one would stop in mid-sentence."""
    prompts, replies = [Prompt("so"), Prompt("so")], ["it is said", "it is said"]
    texts = encode_texts(llama, prompts, replies, cut=[False, True])
    whole, cut = (texts.targets[texts.rows == row].tolist() for row in (0, 1))
    assert whole[:-1] == cut and whole[-1] in llama.stops and not llama.stops & {*cut}


def gradient(backbone: Backbone, texts: Texts, *, checkpointing: bool) -> tuple[Tensor, int]:
    """The gradient [P, D] of the replies' likelihood, and how many numbers were kept for it."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    prefix = torch.tensor(make_patch(backbone, "a", length=5).prefix, requires_grad=True)
    segment = compile_prefix(backbone, prefix)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = reply_logits(backbone, texts, StackPlan.of((segment, 1.0)), checkpointing=checkpointing)
        loss = reply_logprobs(logits, texts).sum()
    loss.backward()
    assert prefix.grad is not None
    return prefix.grad, kept


def test_checkpointing_changes_memory_only(backbone: Backbone) -> None:
    texts = pad_texts(backbone, [(some_ids(n, seed=n), some_ids(m, seed=m)) for n, m in ((3, 5), (9, 2), (6, 7))])
    whole, much = gradient(backbone, texts, checkpointing=False)
    again, little = gradient(backbone, texts, checkpointing=True)
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-4)
    assert whole.abs().max() > 1e-3 and little < 0.7 * much
    assert not any("forward" in vars(module) for module in backbone.model.modules())
