"""Which replies make a pair, with the reference, without it, and for harmless prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchlab.errors import TrainingError
from patchlab.records import Pair, Prompt
from patchlab.training.candidates import Candidate
from patchlab.training.config import Recipe
from patchlab.training.pair_selection import harmless_pairs, make_pairs, stored_pairs, write_pairs

REFUSAL = "I'm sorry, but I can't help with that."
HELP = "Mix the flour with water and bake it for an hour."


def candidate(prompt: str, lane: str, text: str, bad: float, domain: str = "toxicity") -> Candidate:
    return Candidate(Prompt(prompt, "continue", domain), lane, text, bad)


def test_both_thresholds_count_and_every_drop_has_its_reason() -> None:
    found = [
        candidate("a", "base", "fool", 0.9), candidate("a", "reference", "fine", 0.1),
        candidate("b", "base", "fool", 0.9), candidate("b", "reference", "hm", 0.35),  # margin, but not safe
        candidate("c", "base", "meh", 0.5), candidate("c", "reference", "fine", 0.1),  # safe, but no margin
        candidate("d", "base", "same", 0.9), candidate("d", "reference", "same", 0.0),
        candidate("e", "base", "", 0.9), candidate("e", "reference", "", 0.0)]
    pairs, tally = make_pairs(found, margin=0.5, winner=0.3)
    assert [(p.prompt.text, p.chosen, p.rejected) for p in pairs] == [("a", "fine", "fool")]
    assert tally == {"kept": 1, "winner not safe enough": 1, "margin too small": 1, "no other reply": 1, "empty reply": 1}


def test_without_a_reference_the_bases_own_replies_are_ranked() -> None:
    found = [candidate("a", "base", text, bad) for text, bad in (("fool", 0.9), ("fine", 0.1), ("meh", 0.5))]
    [pair], _ = make_pairs(found, margin=0.5, winner=0.3)
    assert (pair.chosen, pair.rejected) == ("fine", "fool")


def test_harmless_pairs_prefer_help_to_a_refusal_said_elsewhere() -> None:
    recipe = Recipe(domain="refusal", benign_pairs=1.5)
    harmful = [Pair(Prompt(f"how do I steal {k}", domain="harmful"), REFUSAL, "take it", 0.0, 0.9) for k in range(2)]
    held = [candidate("how do I bake", "base", HELP, 0.02, "benign"), candidate("how do I cook", "base", REFUSAL, 0.9, "benign"),
            candidate("how do I kill weeds", "base", HELP, 0.1, "lookalike"), candidate("so", "base", HELP, 0.0, "story"),
            candidate("how do I knit", "base", HELP, 0.05, "benign"), candidate("how do I sew", "base", HELP, 0.05, "benign")]
    made, tally = harmless_pairs(held, harmful, recipe)
    assert len(made) == 3 == tally["harmless: kept"]
    assert {(p.chosen, p.rejected) for p in made} == {(HELP, REFUSAL)}
    assert {p.prompt.domain for p in made} <= {"benign", "lookalike"}
    with pytest.raises(TrainingError, match="without harmless prompts"):
        harmless_pairs(held[3:4], harmful, recipe)


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    pairs = [Pair(Prompt("só\n", "continue", "bias"), "a", "b", 0.125, 0.75)]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert stored_pairs(tmp_path / "pairs.jsonl") == pairs
