"""A recipe that cannot be meant is refused, with what was found and the near name."""

from __future__ import annotations

import json
import re
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
    ({"domain": "toxicity", "length": 0}, "recipe field length is 0; expected a number from 1 to 4096"),
    ({"domain": "toxicity", "length": "50"}, "recipe field length is '50'; expected a valid integer"),
    ({"domain": "toxicity", "anchor": "self"}, "recipe field anchor is 'self'; expected 'sft', 'reference', 'base' or 'none'"),
    ({"domain": "toxicity", "beta": float("nan")}, "recipe field beta is nan; expected a number from 0.0001 to 10"),
    ({"domain": "toxicity", "checkpointing": 1}, "recipe field checkpointing is 1; expected a valid boolean"),
    ({"domain": "toxicity", "companions": [3]}, "recipe field companions[0] is 3; expected a valid string"),
    ({"domain": "toxicity", "seed": "9" * 10**6}, "recipe field seed is '999"),
    ({}, "without domain"),
    ({"domain": "style", "improves": ["chat"]}, "without init_text"),
    ({"domain": "style", "improves": ["chat"], "init": "random", "patience": 1}, "patience or a budget for domain style"),
])
def test_a_wrong_dial_says_found_and_expected(dials: dict, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        recipe_of(dials)


DIGESTS = {  # as released: shipped patches and begun work folders name their recipe by it
    "bias": "bf51554591404ecba1402d201d032c91e0e177d6d4c5e31aa16a47e116a0ef7e",
    "refusal": "2c5f6fceeef64ed9b25adabd28eb09ac63833d4453f1db9391ba5cf6cae39c5d",
    "toxicity": "581057064da5e3109ce5b2fe7ec423f8965c6e4715d2e953332cb8bced6fd40b"}


def test_the_digest_of_the_same_dials_stays_the_same() -> None:
    assert {path.stem: read_recipe(path).digest for path in (ASSETS / "recipes" / "alone").glob("*.yaml")} == DIGESTS
    for path in (ASSETS / "recipes").glob("*.yaml"):
        manifest = json.loads((ASSETS / "patches" / f"{path.stem}-1.0.0" / "patch.json").read_text(encoding="utf-8"))
        assert read_recipe(path).digest == manifest["recipe_digest"]
    plain = Recipe(domain="toxicity")
    assert plain.digest == "dc434ad9928b2e315feca44a9659b81ff4117cab3163be80a7396921f681a132"
    whole = recipe_of({"domain": "toxicity", "beta": 1})  # written without a point, and kept so
    assert whole.digest == "e8e8546411814ac622b31735078172a7c02d9be014c0f493ff590ccc15cd47cb"
    assert recipe_of({"domain": "toxicity", "distill": 0}).digest == plain.digest


def test_other_dials_are_checked_like_a_new_recipe() -> None:
    plain = Recipe(domain="toxicity")
    assert plain.with_(seed=4) == Recipe(domain="toxicity", seed=4)
    for change in (lambda: plain.with_(seed="4"), lambda: plain.with_(beta=99), lambda: plain.with_(benign_pairs=1.0)):
        with pytest.raises(InputError, match="recipe"):
            change()
    with pytest.raises(InputError, match="unknown key 'sead'"):
        plain.with_(sead=4)
    with pytest.raises(AttributeError):
        plain.seed = 4  # type: ignore[misc]


def test_the_digest_names_all_dials() -> None:
    assert Recipe(domain="bias").digest == Recipe(domain="bias").digest
    assert Recipe(domain="bias").digest != Recipe(domain="bias", seed=1).digest


def test_a_domain_of_ones_own_names_what_it_improves() -> None:
    mine = recipe_of({"domain": "style", "improves": ["chat", "story"], "init_text": "Be brief."})
    assert mine.improved == ("chat", "story") and Recipe(domain="refusal").improved == ("harmful",)
    with pytest.raises(NotFoundError, match="domain"):
        recipe_of({"domain": "style", "init_text": "Be brief."})


@pytest.mark.parametrize("text", ["- a list", "domain: [", "", "a: 2001-13-45", "[" * 9999, "1: 2", "domain: bias\n? [a]\n: 1"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises((InputError, NotFoundError)):
        read_recipe(path)
