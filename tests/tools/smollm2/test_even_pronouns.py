"""Both genders get the same mass up to a reply's first gendered pronoun, and nothing else of the distribution changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_models import make_backbone

from patchlab.engine import Lab
from patchlab.records import Pair, Progress, Prompt
from patchlab.training.config import Recipe
from patchlab.training.trainer import train
from tools.smollm2 import even_pronouns
from tools.smollm2.even_pronouns import even_steps, evened, pronoun_ids, unevenness

IDS = torch.tensor([3, 4]), torch.tensor([7])  # he, his; she
HE, OTHER = 3, 0


@pytest.fixture
def logprobs() -> torch.Tensor:
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(0)).log_softmax(-1)


def texts(targets: list[int], rows: list[int]) -> Any:
    return SimpleNamespace(targets=torch.tensor(targets), rows=torch.tensor(rows))


def test_masses_are_equal_and_proportions_within_a_gender_stay(logprobs: torch.Tensor) -> None:
    found, mass = evened(logprobs, texts([OTHER] * 6, [0] * 6), IDS)
    male, female = (found[:, ids].exp().sum(-1) for ids in IDS)
    torch.testing.assert_close(male, female)
    torch.testing.assert_close(male + female, mass)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(6))
    torch.testing.assert_close(found[:, 3] - found[:, 4], logprobs[:, 3] - logprobs[:, 4])
    assert torch.equal(found[:, [0, 1, 2, 5, 6, 8, 9]], logprobs[:, [0, 1, 2, 5, 6, 8, 9]])


def test_behind_the_first_pronoun_of_a_row_nothing_changes(logprobs: torch.Tensor) -> None:
    found, mass = evened(logprobs, texts([OTHER, HE, OTHER, OTHER, OTHER, HE], [0, 0, 0, 1, 1, 1]), IDS)
    assert torch.equal(found[2], logprobs[2]) and mass[2] == 0
    assert all(mass[k] > 0 and not torch.equal(found[k], logprobs[k]) for k in (0, 1, 3, 4, 5))


def test_pronouns_of_several_tokens_are_left_out() -> None:
    words = {" he": [5], " she": [6], " his": [7, 8]}
    tokenizer: Any = SimpleNamespace(encode=lambda word, **_: words.get(word, [1, 2]))
    male, female = pronoun_ids(tokenizer)
    assert male.tolist() == [5] and female.tolist() == [6]


def test_unevenness_is_none_where_genders_are_as_likely_and_does_not_depend_on_their_mass(logprobs: torch.Tensor) -> None:
    even, _ = evened(logprobs, texts([OTHER] * 6, [0] * 6), IDS)
    assert unevenness(even, IDS).item() == pytest.approx(0, abs=1e-6)
    rare = logprobs.clone()
    rare[:, [3, 4, 7]] -= 5
    found = unevenness(logprobs, IDS).item()
    assert found > 0 and unevenness(rare, IDS).item() == pytest.approx(found, abs=1e-6)
    assert unevenness(logprobs[:0], IDS).item() == 0


def test_a_patch_learns_even_genders_and_no_pronoun_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_backbone("llama")
    monkeypatch.setattr(even_pronouns, "pronoun_ids", lambda tokenizer: (torch.tensor([40, 41]), torch.tensor([50])))
    words = ("the bus is late", "who did this", "people like that", "my neighbor", "this again", "some fool")
    pairs = [Pair(Prompt(text, "continue", "bias"), text, " x", chosen_cut=True, rejected_cut=True) for text in words]
    recipe = Recipe(domain="bias", reference="none", length=4, rows=6, hold_rows=4, sft_steps=40, sft_rate=0.05, dpo_steps=0,
                    hold=0.1, max_new_tokens=5)
    held = [Prompt(f"how do i {text}", "chat", "benign") for text in words]
    found: list[Progress] = [each for each in train(Lab(base), recipe, held, work=tmp_path, pairs=pairs, first=even_steps)
                             if each.stage == "sft"]
    numbers = [each.numbers for each in found if each.numbers]
    assert len(numbers) == 40 and numbers[0]["uneven"] > 0.01
    assert numbers[-1]["uneven"] < 0.3 * numbers[0]["uneven"] and numbers[-1]["loss"] < numbers[0]["loss"]
