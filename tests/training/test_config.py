"""A recipe that cannot be meant is refused, with what was found and the near name."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchlab.errors import InputError, NotFoundError
from patchlab.models.presets import ASSETS
from patchlab.training.config import Recipe, read_recipe, recipe_of


@pytest.mark.parametrize("path", sorted((ASSETS / "recipes").rglob("*.yaml")), ids=str)
def test_shipped_recipes_are_recipes(path: Path) -> None:
    assert read_recipe(path).patch_name == path.stem


def test_a_misspelt_key_names_its_neighbour() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'sft_steps'"):
        recipe_of({"domain": "toxicity", "sft_step": 3})


@pytest.mark.parametrize(("dials", "said"), [
    ({"domain": "toxicity", "length": 0}, "recipe length: 0; expected a number from 1 to 4096"),
    ({"domain": "toxicity", "length": "50"}, "recipe length: '50'; expected int"),
    ({"domain": "toxicity", "anchor": "self"}, "'sft' or 'reference' or 'base'"),
    ({"domain": "toxicity", "beta": float("nan")}, "recipe beta"),
    ({}, "without domain"),
    ({"domain": "style", "improves": ["chat"]}, "without init_text"),
    ({"domain": "style", "improves": ["chat"], "init": "random", "patience": 1}, "patience or a budget for domain style"),
])
def test_a_wrong_dial_says_found_and_expected(dials: dict, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        recipe_of(dials)


def test_the_digest_names_all_dials() -> None:
    assert Recipe(domain="bias").digest == Recipe(domain="bias").digest
    assert Recipe(domain="bias").digest != Recipe(domain="bias", seed=1).digest


def test_a_domain_of_ones_own_names_what_it_improves() -> None:
    mine = recipe_of({"domain": "style", "improves": ["chat", "story"], "init_text": "Be brief."})
    assert mine.improved == ("chat", "story") and Recipe(domain="refusal").improved == ("harmful",)
    with pytest.raises(NotFoundError, match="domain"):
        recipe_of({"domain": "style", "init_text": "Be brief."})


@pytest.mark.parametrize("text", ["- a list", "domain: [", ""])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError):
        read_recipe(path)
