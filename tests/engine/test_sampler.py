"""Noise belongs to a row's identity: seed, prompt, sample and step, never its place in a batch."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from patchlab.engine.sampler import BROKEN, RowKey, Sampling, choose, gumbel
from patchlab.errors import InputError
from patchlab.records import Message, Prompt


def keys(count: int, *, seed: int = 0) -> list[RowKey]:
    return [RowKey.of(Prompt(f"prompt {k}"), sample=k % 2, seed=seed) for k in range(count)]


def test_a_row_draws_the_same_wherever_it_stands() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    rows, sampling = keys(6), Sampling(temperature=2.0)
    together = choose(logits, rows, step=3, sampling=sampling)
    order = [4, 1, 5, 0, 3, 2]
    turned = choose(logits[order], [rows[k] for k in order], step=3, sampling=sampling)
    assert [together[k] for k in order] == turned
    assert together == [choose(logits[k:k + 1], [rows[k]], step=3, sampling=sampling)[0] for k in range(6)]


@pytest.mark.parametrize("change", [{"seed": 1}, {"seed": 2**62}, {"prompt": 6}, {"prompt": 2**64 - 1}, {"sample": 1}])
def test_each_part_of_a_key_changes_the_noise(change: dict[str, int]) -> None:
    key = RowKey(seed=0, prompt=5, sample=0)
    other = dataclasses.replace(key, **change)
    assert not np.array_equal(gumbel([(key, 0)], size=20)[0], gumbel([(other, 0)], size=20)[0])
    assert not np.array_equal(gumbel([(key, 0)], size=20)[0], gumbel([(key, 1)], size=20)[0])


def test_keys_of_64_bits_are_told_apart_to_the_last_bit() -> None:
    draws = [gumbel([(RowKey(seed, prompt, 0), 0)], size=4).tobytes()
             for seed in (2**62, 2**62 + 1) for prompt in (3, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1)]
    assert len(set(draws)) == len(draws)


def test_a_prompt_counts_by_its_text() -> None:
    one = RowKey.of(Prompt("what now?"), sample=0, seed=0)
    assert one == RowKey.of(Prompt("what now?", kind="continue", id="7", system="Be kind."), sample=0, seed=0)
    assert one != RowKey.of(Prompt("what now"), sample=0, seed=0)
    RowKey.of(Prompt("a lone surrogate \ud800"), sample=0, seed=0)


def test_the_turns_before_count_and_a_system_instruction_does_not() -> None:
    """A prompt with an instruction is compared with the same prompt without one: they draw by the same noise."""
    turns = (Message("user", "hello"), Message("assistant", "hi"))
    others = [(turns[0], Message("assistant", "ho")), (Message("user", "hollo"), turns[1]), turns * 2, ()]
    key = RowKey.of(Prompt("what now?", earlier=turns), sample=0, seed=0)
    for system in ("Be kind.", "Be brief."):
        assert RowKey.of(Prompt("what now?", earlier=turns, system=system, id="7", domain="x"), sample=0, seed=0) == key
        assert RowKey.of(Prompt("what now?", system=system), sample=0, seed=0) == RowKey.of(Prompt("what now?"), sample=0, seed=0)
    assert key not in [RowKey.of(Prompt("what now?", earlier=each), sample=0, seed=0) for each in others]
    assert key != RowKey.of(Prompt("what then?", earlier=turns), sample=0, seed=0)


def test_a_longer_vocabulary_only_adds_noise_to_the_end() -> None:
    key = keys(1)[0]
    assert np.array_equal(gumbel([(key, 0)], size=300)[0][:259], gumbel([(key, 0)], size=259)[0])


def test_threads_do_not_disturb_each_other() -> None:
    asked = [[(key, step) for key in keys(20)] for step in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda places: gumbel(places, size=500), asked))
    assert all(np.array_equal(found, gumbel(places, size=500)) for found, places in zip(together, asked, strict=True))


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    """Within five standard errors of 4,000 draws, for temperature and nucleus."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    rows = [RowKey.of(Prompt(str(k)), sample=0, seed=0) for k in range(4000)]
    drawn = torch.tensor(choose(logits.expand(4000, -1), rows, step=0, sampling=Sampling(temperature=0.7)))
    expected = (logits / 0.7).softmax(-1)
    counted = torch.bincount(drawn, minlength=4) / 4000
    assert bool(((counted - expected).abs() < 5 * (expected * (1 - expected) / 4000).sqrt()).all())

    sampling = Sampling(temperature=1.0, top_p=0.8)  # 0.64 and 0.24 reach 0.8 together
    nucleus = set(choose(logits.expand(300, -1), rows[:300], step=0, sampling=sampling))
    assert nucleus == {0, 1}


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
    assert choose(logits, keys(5), step=0, sampling=Sampling(temperature=0)) == logits.argmax(-1).tolist()
    narrow = Sampling(temperature=1.0, top_p=0.01)  # a nucleus of one, whatever the noise
    assert choose(logits, keys(5), step=0, sampling=narrow) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("sampling", [
    Sampling(), Sampling(temperature=0), Sampling(temperature=0.7, top_p=0.9)], ids=["drawn", "greedy", "nucleus"])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_row_of_no_numbers_is_told_and_no_other(wrong: float, sampling: Sampling) -> None:
    logits = torch.randn(4, 40, generator=torch.Generator().manual_seed(2))
    whole = choose(logits, keys(4), step=0, sampling=sampling)
    logits[2, 17] = wrong
    assert choose(logits, keys(4), step=0, sampling=sampling) == [*whole[:2], BROKEN, whole[3]]
    shared = [keys(4)[0]] * 4  # rows that share their noise
    assert [token == BROKEN for token in choose(logits, shared, step=0, sampling=sampling)] == [False, False, True, False]


@pytest.mark.parametrize("wrong", [
    {"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": "1"}, {"max_new_tokens": 0},
    {"max_new_tokens": 2.5}, {"seed": -1}, {"seed": 2**63}, {"seed": 0.5}, {"top_p": 0}, {"top_p": 1.1}, {"until": "end"},
    {"until": ["end"]}, {"until": ("end", "")}, {"until": (7,)}])
def test_a_setting_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
