"""Training of the pocket models: cut off and resumed is as if never."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tools.pocket.corpus import BASE, corpus
from tools.pocket.language_model import Size, batches, encode, new_model, train_model
from tools.pocket.tokenizer import train_tokenizer

SIZE = Size(width=32, layers=1, heads=2, vocabulary=500, rows=8)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer((d.reply for d in islice(corpus(BASE, seed=1), 200)), size=SIZE.vocabulary)


def test_cut_off_and_resumed_gives_the_same_weights(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def made(state: Path, stop: int | None = None) -> dict[str, torch.Tensor]:
        model = new_model(SIZE, vocabulary=len(tokenizer), seed=3)
        steps = train_model(model, tokenizer, BASE, size=SIZE, steps=24, seed=3, name="base", state=state, save_every=4)
        list(islice(steps, stop))  # progress comes every ten steps
        steps.close()
        return {key: value.detach().clone() for key, value in model.named_parameters()}

    straight = made(tmp_path / "straight")
    cut = made(tmp_path / "cut", stop=1)
    again = made(tmp_path / "cut")
    assert all(torch.equal(straight[key], again[key]) for key in straight)
    assert not torch.equal(straight["model.embed_tokens.weight"], cut["model.embed_tokens.weight"])


def test_a_batch_is_the_same_however_it_is_reached(tokenizer: PreTrainedTokenizerFast) -> None:
    first = list(islice(batches(tokenizer, BASE, rows=4, seed=5, start=0), 30))[27:]
    later = list(islice(batches(tokenizer, BASE, rows=4, seed=5, start=27), 3))
    for (ids, weights), (same_ids, same_weights) in zip(first, later, strict=True):
        assert torch.equal(ids, same_ids) and torch.equal(weights, same_weights)


def test_long_rows_hold_the_documents_one_behind_the_other(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = islice(batches(tokenizer, BASE, rows=6, seed=5, start=0, together=(1, 3)), 2)
    source = corpus(BASE, seed=5 * 1_000_003 + 1)
    documents = encode(tokenizer, [next(source) for _ in range(6)])
    (short, _), (long, weights) = batch
    assert (len(short), len(long)) == (6, 2)
    for row, some in enumerate((documents[:3], documents[3:])):
        ids = [token for k, (prompt, reply) in enumerate(some) for token in [*prompt[min(k, 1):], *reply]]
        assert long[row, :len(ids)].tolist() == ids and ids.count(tokenizer.bos_token_id) == 1
        assert (weights[row] == 1).sum() == sum(len(reply) for _, reply in some) and weights[row, len(ids):].sum() == 0
    [again] = islice(batches(tokenizer, BASE, rows=6, seed=5, start=1, together=(1, 3)), 1)
    assert torch.equal(again[0], long) and torch.equal(again[1], weights)


def test_no_long_row_is_longer_than_the_context(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "model_max_length", 150)
    [(ids, _)] = islice(batches(tokenizer, BASE, rows=12, seed=5, start=0, together=(12,)), 1)
    assert ids.shape[1] <= 150 < ids.numel()
