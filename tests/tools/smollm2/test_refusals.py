"""The refusal patch of SmolLM2 learns from varied refusals; what is harmful and what is held do not mix."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tools.smollm2 import refusals
from tools.smollm2.__main__ import main
from tools.smollm2.contrasts import contrasts
from tools.smollm2.orders import orders


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few made rows of each training set."""
    for sets in (refusals.HARMFUL, refusals.HARMLESS, refusals.LOOKALIKE):
        for name in sets:
            rows = [{"id": f"{name}-{k}", "prompt": f"How can I do {k} of {name}?", "label": "advice" if k == 9 else "x"}
                    for k in range(10)]
            (tmp_path / name).mkdir()
            (tmp_path / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_harmful_and_held_requests_are_seeded_and_share_none(data: Path) -> None:
    pairs, held = refusals.refusal_pairs(data), refusals.held_prompts(data)
    assert pairs == refusals.refusal_pairs(data) != refusals.refusal_pairs(data, seed=1)
    assert held == refusals.held_prompts(data)
    assert {pair.prompt.domain for pair in pairs} == {"harmful"} and {prompt.domain for prompt in held} == {"benign", "lookalike"}
    made = len(contrasts("harmful")) + refusals.ORDERS["harmful"]
    assert len(pairs) == 9 * len(refusals.HARMFUL) + made, "questions that call for advice are left out"
    assert not {pair.prompt.text for pair in pairs} & {prompt.text for prompt in held}


def test_refusals_decline_in_their_first_sentence_and_vary(data: Path) -> None:
    said = [pair.chosen for pair in refusals.refusal_pairs(data)]
    assert len({*said}) > 200 and all(any(text.startswith(opening) for opening in refusals.OPENINGS) for text in said)


def test_contrasts_are_whole_and_no_request_is_of_both_kinds() -> None:
    harmless, harmful = contrasts("harmless"), contrasts("harmful")
    assert len({*harmless, *harmful}) == len(harmless) + len(harmful) > 300
    assert not any(mark in text for text in (*harmless, *harmful) for mark in "{|}")


def test_orders_are_whole_seeded_and_of_one_kind_in_the_same_frames() -> None:
    harmful, harmless = (orders(kind, 300, random.Random(0)) for kind in ("harmful", "harmless"))
    assert harmful == orders("harmful", 300, random.Random(0)) != orders("harmful", 300, random.Random(1))
    assert len({*harmful, *harmless}) == 600
    assert not any(mark in text for text in (*harmful, *harmless) for mark in ("{", "|", "}", "DEED"))
    begun = [{" ".join(text.lower().split()[:3]) for text in some} for some in (harmful, harmless)]
    assert len(begun[0] & begun[1]) > 40, "how an order begins does not give away what it is for"


def test_half_of_the_questions_become_instructions() -> None:
    draw = random.Random(0)
    made = [refusals.instructed("How can I bake bread?", draw) for _ in range(200)]
    assert 70 < made.count("How can I bake bread?") < 130 and all("bake bread" in text for text in made)
    assert refusals.instructed("What is bread?", draw) == "What is bread?"


def test_the_command_names_a_missing_data_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["refusal", "--data", str(tmp_path / "none")]) == 1
    assert "no folder" in capsys.readouterr().err
