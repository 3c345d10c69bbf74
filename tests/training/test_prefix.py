"""Where training starts from."""

from __future__ import annotations

import copy

import pytest
import torch
from made_models import TEMPLATE, byte_level, make_backbone, make_model

from patchlab.engine import Lab
from patchlab.models import Backbone
from patchlab.records import Prompt
from patchlab.training.config import Recipe
from patchlab.training.prefix import initial_prefix


@pytest.mark.parametrize("init", ["semantic", "vocabulary", "random"])
def test_every_start_has_the_right_shape(lab: Lab, recipe: Recipe, init: str) -> None:
    for length in (1, 4, 60):
        prefix = initial_prefix(lab.base, recipe.with_(init=init, length=length))
        assert prefix.shape == (length, lab.base.width) and torch.isfinite(prefix).all()


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@pytest.mark.parametrize("init", ["semantic", "vocabulary", "random"])
def test_a_start_is_as_large_as_what_the_model_takes_as_input(family: str, init: str) -> None:
    """Gemma multiplies embeddings by the square root of their width."""
    base, recipe = make_backbone(family), Recipe(domain="toxicity", init=init)  # type: ignore[arg-type]
    table = base.model.get_input_embeddings()(torch.arange(base.embeddings.shape[0]))
    prefix = initial_prefix(base, recipe)
    if init == "random":
        assert float(prefix.std()) == pytest.approx(float(table.std()), rel=0.1)
    else:
        assert (prefix[:, None] == table[None]).all(-1).any(-1).all()
    if init == "semantic":
        ids = base.encode(Prompt("x", "continue", system=recipe.instruction))[:len(prefix)]
        assert torch.equal(prefix, table[ids])


def test_a_template_without_a_system_turn_starts_from_the_instruction_too() -> None:
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.chat_template = ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
                               "{% endif %}" + TEMPLATE)
    base = Backbone(make_model("llama", vocabulary=len(tokenizer)), tokenizer, name="folds")
    recipe = Recipe(domain="refusal", length=120)
    text = tokenizer.decode(base.embeddings.unsqueeze(0).sub(initial_prefix(base, recipe)[:, None]).abs().sum(-1).argmin(-1))
    assert recipe.instruction in text
