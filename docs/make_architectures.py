"""Write docs/architectures.md by holding the laws on a tiny model of every family: `python docs/make_architectures.py`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from patchlab.storage import write_text

PAGE = Path(__file__).with_name("architectures.md")
TESTS = [Path(__file__).parents[1] / "tests" / room for room in ("engine", "models")]
HOLDS, FAILS, NONE = "yes", "**no**", "-"

# the tests that are laws of an architecture, and what each says
LAWS = {
    "test_a_row_in_any_batch_is_the_row_alone_and_the_full_forward":
        "a row alone = the row in any batch, padded and among other stacks = one forward without cache or bank",
    "test_no_patch_is_the_base_bit_for_bit":
        "no patch = the stock model, bit for bit (beyond a sliding window: with a cache that hides what another forgets)",
    "test_strength_zero_is_off_and_one_is_as_trained":
        "strength 0 = off, 1 = as compiled, in between = log(strength) on the scores",
    "test_a_stack_of_one_is_its_embeddings_prepended": "a stack of one = its embeddings prepended",
    "test_a_stack_of_one_is_pefts_forward": "a stack of one = PEFT's forward",
    "test_parallel_stacks_are_equal_in_any_order": "parallel stacks: any order, equal logits",
    "test_a_sequence_is_its_embeddings_concatenated": "a sequential stack = its embeddings concatenated",
    "test_any_order_gives_equal_chances": "blends: any order, equal log-probabilities",
    "test_a_blend_of_one_at_strength_one_is_that_patch": "a blend of one patch at strength 1 = that patch",
    "test_changes_are_added_to_the_base_by_hand": "a blend = the changes of its patches added to the base, capped",
    "test_compiled_is_recomputed": "a patch compiled = compiled again",
    "test_dropping_finished_rows_changes_no_other": "rows that leave change no other",
    "test_rows_that_join_and_leave_at_random_have_the_logits_they_have_alone": "rows that join late = the rows alone",
    "test_prompts_read_in_pieces_have_the_logits_of_prompts_read_at_once": "a prompt read in pieces = the prompt read at once",
    "test_far_beyond_the_window_the_bank_stays_and_text_leaves": "sliding windows: text leaves, a patch stays",
    "test_given_replies_have_the_logits_of_decoding": "likelihoods of given replies = those of decoding",
    "test_gradients_reach_the_prefix_as_through_full_embeddings": "gradients of a patch = those through full embeddings",
    "test_sixteen_bits_lose_with_patches_no_more_than_without":
        "bfloat16 and float16: the mean error with patches, in a mixed batch, is within twice that of the stock rows",
    "test_a_stream_never_changes_a_weight": "a stream changes no weight",
    "test_a_row_is_what_it_is_alone_and_close_to_the_full_base":
        "8 and 4 bits: a row alone = the row in any batch to a rounding of activations, strength 0 = off, all near the full base "
        "(width 64)",
    "test_embedded_ids_are_the_ids": "token ids given as embeddings = token ids",
}

Outcomes = dict[tuple[str, str], bool]  # (family, law) -> whether every test of it passed


class Watch:
    """A pytest plugin that remembers how the laws went, family by family."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[str, str]] = {}
        self.outcomes: Outcomes = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what is no law of a family."""
        for item in items:
            given = getattr(getattr(item, "callspec", None), "params", {})
            law = getattr(item, "originalname", "")
            if law in LAWS and ("backbone" in given or "family" in given):
                self.places[item.nodeid] = given.get("backbone") or given["family"], law
        items[:] = [item for item in items if item.nodeid in self.places]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A law holds where every phase of every test of it passes; one that is skipped does not."""
        place = self.places[report.nodeid]
        self.outcomes[place] = self.outcomes.get(place, True) and report.passed


def measured() -> Outcomes:
    """Run the laws."""
    watch = Watch()
    pytest.main([*map(str, TESTS), "-q", "-p", "no:cacheprovider"], plugins=[watch])
    return watch.outcomes


def page(outcomes: Outcomes) -> str:
    """The page as Markdown: the laws by number, then a row a family."""
    from patchlab.models.architectures import TESTED  # not before the tests run: pytest wants to see libraries imported

    def cell(family: str, law: str) -> str:
        return NONE if (family, law) not in outcomes else HOLDS if outcomes[family, law] else FAILS

    laws = [f"{number}. {words}" for number, words in enumerate(LAWS.values(), start=1)]
    rows = [f"| {family} | {' | '.join(cell(family, law) for law in LAWS)} |" for family in TESTED]
    head = [f"| family | {' | '.join(str(k) for k in range(1, len(LAWS) + 1))} |", "|---" * (len(LAWS) + 1) + "|"]
    made = f"Made with transformers {version('transformers')}, torch {version('torch')} and PEFT {version('peft')}."
    return "\n\n".join([_INTRODUCTION, made, "\n".join(laws), "\n".join([*head, *rows]), _REFUSED]) + "\n"


_INTRODUCTION = f"""# Architectures

Written by `python docs/make_architectures.py`, which holds the laws below on a seeded model of every family, built from
its own config: two layers, width 32, float32. They are the tests in `tests/engine` and `tests/models`; logits are
compared to 1e-5 unless a law says otherwise. They say that a patch is computed rightly, not that a patch trained on such a
model is any good.

`{HOLDS}` holds, `{FAILS}` does not, `{NONE}` has no meaning for the family."""

_REFUSED = """Names are those of `model_type` in a model's `config.json`. Falcon is held with one head of keys, with groups
and with all.

Everything else is refused with a `ModelError` when it is loaded: families that are not in the table; ALiBi (Bloom, MPT,
Falcon with `alibi`), where the place of a key is in the mask and a patch cannot have places of its own; layers that are
not attention over keys (state-space, recurrent) or that forget them by chunks."""


if __name__ == "__main__":
    write_text(PAGE, page(measured()))
