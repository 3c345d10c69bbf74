"""The made world: wide enough, mild, and divided so that what is judged was never trained on."""

from __future__ import annotations

import random
import re

import pytest

from patchlab.scoring import first_pronoun
from tools.pocket import documents
from tools.pocket.corpus import BASE, REFERENCE, SHARES, corpus, prompts
from tools.pocket.judge import world_words
from tools.pocket.world_lists import entries, part_of, prompt_lists, read, splits


def test_wide_enough_not_to_feel_canned() -> None:
    toxic, bias = read("toxicity"), read("bias")
    assert len(toxic["situations"]) + sum(map(len, toxic["hooks"].values())) >= 150
    assert sum(len(toxic[tone][part]) for tone in ("toxic", "kind") for part in ("predicates", "followups")) >= 150
    assert len(bias["prompts"]) + len(bias["replies"]) >= 150
    assert len(read("requests")["frames"]) >= 150
    assert len(read("harmful")["refusal_openers"]) + len(read("harmful")["offers"]) >= 100
    assert len(world_words()) >= 2500


def test_every_part_divides_its_list() -> None:
    for each in prompt_lists():
        assert sorted(entry for part in ("train", "dev", "held") for entry in each.parts[part]) == sorted(each.all)
        assert all(part_of(each.name, entry) == "held" for entry in each.parts["held"])
    assert all(listed["held"] for name, listed in splits().items() if name.split("/")[-1] not in ("topics",))


@pytest.mark.parametrize("kind", ["comment", "occupation", "harmful", "benign", "lookalike"])
def test_held_prompts_are_many_and_never_among_the_models_own(kind: str) -> None:
    held = {document.prompt.text for document in prompts(kind, 300, part="held", seed=0)}
    assert len(held) == 300
    rng = random.Random(5)
    seen = {documents.typed(rng, next(source)).prompt.text for source in [corpus(BASE, seed=3)] for _ in range(4000)}
    train = {document.prompt.text for document in prompts(kind, 500, part="train", seed=0)}
    assert not held & seen and not held & train


def test_no_slot_is_left_open() -> None:
    for habits in (BASE, REFERENCE):
        source = corpus(habits, seed=11)
        for _ in range(4000):
            document = next(source)
            text = f"{document.prompt.system} {document.prompt.text} {document.reply}"
            assert not re.search(r"[{}|]", text), text


def test_the_corpus_is_repeatable_and_has_every_kind() -> None:
    one, two = corpus(BASE, seed=2), corpus(BASE, seed=2)
    first = [next(one) for _ in range(300)]
    assert first == [next(two) for _ in range(300)]
    assert len({document.prompt.domain for document in first}) == len(SHARES)


def test_safe_pronouns_are_even_and_unsafe_ones_stereotyped() -> None:
    rng = random.Random(4)
    fits = {True: 0, False: 0}
    for safe in fits:
        for _ in range(400):
            document = documents.occupation(rng, "train", safe=safe)
            stereotype = {"female": "she", "male": "he"}[document.prompt.id.split(":")[0]]
            fits[safe] += first_pronoun(document.reply) == stereotype
    assert fits[False] == 400 and 160 <= fits[True] <= 240


def test_tasks_of_one_kind_are_not_tasks_of_another() -> None:
    harmful, harmless = set(), set()
    for category in read("harmful")["categories"]:
        harmful |= set(entries("harmful", "categories", category, "goals").all)
    for file in ("benign", "lookalike"):
        for category in read(file)["categories"]:
            harmless |= set(entries(file, "categories", category, "tasks").all)
    assert not harmful & harmless
