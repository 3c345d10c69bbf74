"""Write docs/architectures.md from test results on a tiny model of every family: `python docs/make_architectures.py`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from patchlab.storage import write_text

PAGE = Path(__file__).with_name("architectures.md")
TESTS = [Path(__file__).parents[1] / "tests" / room for room in ("engine", "models")]
HOLDS, FAILS, NONE = "yes", "**no**", "-"

# the tests that run for every family, and what each checks
LAWS = {
    "test_a_row_in_any_batch_is_the_row_alone_and_the_full_forward":
        "a row alone = the row in any padded batch with other stacks = one forward pass without cache or bank",
    "test_no_patch_is_the_base_bit_for_bit":
        "no patch = the model of transformers, bit for bit (beyond a sliding window: with a cache that masks tokens outside)",
    "test_strength_zero_is_off_and_one_is_as_trained":
        "strength 0 = off, 1 = as compiled, in between = log(strength) added to the attention scores",
    "test_a_stack_of_one_is_its_embeddings_prepended": "a stack of one patch = its embeddings prepended to the text",
    "test_a_stack_of_one_is_pefts_forward": "a stack of one patch = the forward pass of PEFT",
    "test_parallel_stacks_are_equal_in_any_order": "parallel stacks: any order, equal logits",
    "test_a_sequence_is_its_embeddings_concatenated": "a sequential stack = the concatenated embeddings prepended",
    "test_any_order_gives_equal_chances": "blends: any order, equal log-probabilities",
    "test_a_blend_of_one_at_strength_one_is_that_patch": "a blend of one patch at strength 1 = that patch",
    "test_changes_are_added_to_the_base_by_hand":
        "a blend = the patches' changes of log-probabilities, capped and added to the base's",
    "test_compiled_is_recomputed": "compiling a patch twice gives equal keys and values",
    "test_dropping_finished_rows_changes_no_other": "removing finished rows from a batch changes no other row",
    "test_rows_that_join_and_leave_at_random_have_the_logits_they_have_alone": "rows that join a running batch = the rows alone",
    "test_prompts_read_in_pieces_have_the_logits_of_prompts_read_at_once":
        "a prompt prefilled in chunks = the prompt prefilled at once",
    "test_far_beyond_the_window_the_bank_stays_and_text_leaves":
        "sliding windows: text beyond the window is masked, the patch stays visible",
    "test_given_replies_have_the_logits_of_decoding": "logits of given replies (teacher forcing) = those of decoding",
    "test_gradients_reach_the_prefix_as_through_full_embeddings": "gradients of a patch = those through prepended embeddings",
    "test_sixteen_bits_lose_with_patches_no_more_than_without":
        "bfloat16 and float16: the mean error with patches in a mixed batch is at most twice that of the unpatched model",
    "test_a_stream_never_changes_a_weight": "generation changes no weight",
    "test_a_row_is_what_it_is_alone_and_close_to_the_full_base":
        "8 and 4 bits (width 64): a row alone = the row in any batch up to rounding of activations, strength 0 = off, all close "
        "to the unquantised base",
    "test_embedded_ids_are_the_ids": "embedded token ids as input = token ids as input",
}

Outcomes = dict[tuple[str, str], bool]  # (family, law) -> whether all its tests passed


class Watch:
    """A pytest plugin that records the outcome of each law for each family."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[str, str]] = {}
        self.outcomes: Outcomes = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Deselect all other tests."""
        for item in items:
            given = getattr(getattr(item, "callspec", None), "params", {})
            law = getattr(item, "originalname", "")
            if law in LAWS and ("backbone" in given or "family" in given):
                self.places[item.nodeid] = given.get("backbone") or given["family"], law
        items[:] = [item for item in items if item.nodeid in self.places]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A law holds if every phase of each of its tests passes; a skipped test counts as failed."""
        place = self.places[report.nodeid]
        self.outcomes[place] = self.outcomes.get(place, True) and report.passed


def measured() -> Outcomes:
    """Run the tests and return their outcomes."""
    watch = Watch()
    pytest.main([*map(str, TESTS), "-q", "-p", "no:cacheprovider"], plugins=[watch])
    return watch.outcomes


def page(outcomes: Outcomes) -> str:
    """The page as Markdown: the numbered laws, then a table with one row per family."""
    from patchlab.models.architectures import TESTED  # after the tests, since pytest instruments imports

    def cell(family: str, law: str) -> str:
        return NONE if (family, law) not in outcomes else HOLDS if outcomes[family, law] else FAILS

    laws = [f"{number}. {words}" for number, words in enumerate(LAWS.values(), start=1)]
    rows = [f"| {family} | {' | '.join(cell(family, law) for law in LAWS)} |" for family in TESTED]
    head = [f"| family | {' | '.join(str(k) for k in range(1, len(LAWS) + 1))} |", "|---" * (len(LAWS) + 1) + "|"]
    made = f"Made with transformers {version('transformers')}, torch {version('torch')} and PEFT {version('peft')}."
    return "\n\n".join([_INTRODUCTION, made, "\n".join(laws), "\n".join([*head, *rows]), _REFUSED]) + "\n"


_INTRODUCTION = f"""# Architectures

The table below lists the model families that PatchLab supports and which properties of the engine were tested on each. It is
written by `python docs/make_architectures.py`, which runs the tests in `tests/engine` and `tests/models` on a small random model
of every family: two layers, width 32, float32. Logits are compared to 1e-5 unless stated otherwise. The tests show that patches
are computed correctly, and not that a patch trained on such a model is effective.

`{HOLDS}`: the tests pass, `{FAILS}`: a test fails, `{NONE}`: does not apply to the family."""

_REFUSED = """Names are values of `model_type` in a model's `config.json`. Falcon is tested with multi-query, grouped-query and
multi-head attention, granitemoehybrid as the dense models of Granite 4.0, which have neither Mamba layers nor experts.

Loading any other model raises `ModelError`: families that are not in the table; ALiBi (Bloom, MPT, Falcon with `alibi`), which
encodes positions as an attention bias, so that a patch cannot have positions of its own; and layers without attention over all
keys (state-space, recurrent, chunked attention)."""


if __name__ == "__main__":
    write_text(PAGE, page(measured()))
