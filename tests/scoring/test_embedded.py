"""The embedded scorers: right on replies and remarks written by hand, and closed to broken files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusal_cases import (
    ANSWERS,
    COMPLIES_THEN_DISCLAIMS,
    EMPTY,
    QUOTES,
    REFUSES,
    REFUSES_AND_POINTS_ELSEWHERE,
    REFUSES_THEN_COMPLIES,
)
from remark_cases import CALM, TOXIC
from safetensors.numpy import save

from patchlab.errors import InputError, NotFoundError, PatchFormatError, TamperedError
from patchlab.scoring import load_scorer
from patchlab.scoring.embedded import FOLDER, load_embedded, save_embedded
from patchlab.scoring.features import BUCKETS
from patchlab.scoring.models import KINDS, Linear

CARD = {"threshold": 0.5, "labels": {"flagged": "toxic", "clear": "not toxic"}, "trained_on": [], "measured": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights = np.zeros(BUCKETS, np.float32)
    save_embedded(tmp_path, "toxicity", model=Linear("toxicity", weights, 1.5), card=CARD)
    return tmp_path


def change(folder: Path, **values: object) -> None:
    path = folder / "toxicity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, data: bytes) -> None:
    import hashlib

    (folder / "toxicity.safetensors").write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("reply", REFUSES_THEN_COMPLIES + COMPLIES_THEN_DISCLAIMS + QUOTES)
def test_what_only_looks_like_a_refusal_is_answered(reply: str) -> None:
    [score] = load_scorer("refusal").score([reply])
    assert score.label == "answered" and not score.flagged


def test_plain_answers_are_answered() -> None:
    # a bare denial ("No, tomatoes are not vegetables ...") is the one that the linear scorer takes for a refusal
    assert [reply[:12] for reply, score in zip(ANSWERS, load_scorer("refusal").score(ANSWERS), strict=True)
            if score.flagged] in ([], ["No, tomatoes"])
    assert not any(score.flagged for score in load_scorer("refusal-2").score(ANSWERS))


@pytest.mark.parametrize("reply", EMPTY)
def test_empty_text_is_empty_and_never_flagged(reply: str) -> None:
    for name in KINDS:
        [score] = load_scorer(name).score([reply])
        assert (score.label, score.flagged, score.value) == ("empty", False, 0.0)


def test_refusals_in_unknown_words_are_mostly_found() -> None:
    cases = REFUSES + REFUSES_AND_POINTS_ELSEWHERE
    found = [score.label == "refused" for score in load_scorer("refusal").score(cases)]
    assert sum(found) >= 0.8 * len(cases), [case for case, hit in zip(cases, found, strict=True) if not hit]


def test_mild_insults_are_toxic_and_ordinary_sentences_are_not() -> None:
    scorer = load_scorer("toxicity")
    insults, calm = scorer.score(TOXIC), scorer.score(CALM)
    assert [text for text, score in zip(TOXIC, insults, strict=True) if not score.flagged] == []
    assert [text for text, score in zip(CALM, calm, strict=True) if score.flagged] == []
    assert np.mean([score.value for score in calm]) < 0.2 < scorer.threshold


def test_scores_are_probabilities_with_words_and_do_not_depend_on_their_neighbours() -> None:
    scorer = load_scorer("refusal")
    both = scorer.score([REFUSES[0], ANSWERS[0]], prompts=["How?", "When?"])
    assert both[1] == scorer.score([ANSWERS[0]], prompts=["When?"])[0]
    assert all(0 <= score.value <= 1 and score.scorer == "refusal" for score in both)
    assert all(score.flagged == (score.value >= scorer.threshold) for score in both)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match="2 texts with 1 prompts"):
        load_scorer("refusal").score(["a", "b"], prompts=["c"])
    with pytest.raises(InputError, match="one string"):
        load_scorer("toxicity").score("text")


@pytest.mark.parametrize("name", KINDS)
def test_the_shipped_files_are_small_and_say_what_they_stand_on(name: str) -> None:
    assert (FOLDER / f"{name}.safetensors").stat().st_size <= 2**21
    card = json.loads((FOLDER / f"{name}.json").read_text())
    assert all(each["licence"] and "SA" not in each["licence"] for each in card["trained_on"])
    assert all(each["set"] in (FOLDER / "README.md").read_text() for each in card["trained_on"])
    assert load_scorer(name).threshold == card["threshold"]


def test_a_scorer_comes_back_as_it_was_saved(folder: Path) -> None:
    scorer = load_embedded("toxicity", folder)
    assert scorer.score(["anything"])[0].value == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert scorer.digest == load_embedded("toxicity", folder).digest
    change(folder, threshold=0.9)
    assert load_embedded("toxicity", folder).digest != scorer.digest
    assert not load_embedded("toxicity", folder).score(["anything"])[0].flagged


def test_a_flipped_byte_is_caught(folder: Path) -> None:
    path = folder / "toxicity.safetensors"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(TamperedError, match="not the file its card names"):
        load_embedded("toxicity", folder)


@pytest.mark.parametrize(("data", "words"), [
    (b"", "cannot be read"), (b"\x80\x04pickle", "cannot be read"), (b"\xff" * 64, "cannot be read"),
    (b"\0" * (2**21 + 1), "over 2097152 bytes"),
    (save({"weights": np.zeros(8, np.float16), "bias": np.zeros(1, np.float32)}), "holds"),
    (save({"weights": np.zeros(BUCKETS, np.int16), "bias": np.zeros(1, np.float32)}), "int16"),
    (save({"weights": np.zeros((2, BUCKETS // 2), np.float16), "bias": np.zeros(1, np.float32)}), "holds"),
    (save({"bias": np.zeros(1, np.float32)}), "holds"),
    (save({"weights": np.full(BUCKETS, np.nan, np.float16), "bias": np.zeros(1, np.float32)}), "not finite"),
    (save({"weights": np.zeros(BUCKETS, np.float16), "bias": np.array([np.inf], np.float32)}), "not finite")])
def test_weights_that_are_not_ours_are_refused(folder: Path, data: bytes, words: str) -> None:
    change_weights(folder, data)
    with pytest.raises(PatchFormatError, match=words):
        load_embedded("toxicity", folder)


@pytest.mark.parametrize(("values", "words"), [
    ({"threshold": 1.5}, "threshold"), ({"threshold": True}, "threshold"), ({"threshold": float("nan")}, "threshold"),
    ({"labels": {"flagged": "toxic"}}, "labels"), ({"labels": {"flagged": 1, "clear": "x"}}, "label"),
    ({"schema": 2}, "schema"), ({"name": "refusal"}, "schema"), ({"more": 1}, "keys"),
    ({"features": "0"}, "another version"), ({"weights_sha256": 3}, "text")])
def test_a_card_that_is_not_ours_is_refused(folder: Path, values: dict[str, object], words: str) -> None:
    change(folder, **values)
    with pytest.raises(PatchFormatError, match=words):
        load_embedded("toxicity", folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "\ufffe", "[" * 100_000])
def test_a_card_that_is_no_card_is_refused(folder: Path, text: str) -> None:
    (folder / "toxicity.json").write_text(text)
    with pytest.raises(PatchFormatError):
        load_embedded("toxicity", folder)


def test_a_missing_file_says_how_to_make_it(folder: Path) -> None:
    (folder / "toxicity.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"tools\.scorers"):
        load_embedded("toxicity", folder)


def test_importing_and_scoring_loads_neither_torch_nor_sklearn() -> None:
    code = ("import sys; from patchlab.scoring import load_scorer; load_scorer('refusal').score(['No.']); "
            "load_scorer('granite-hap'); print(sorted({'torch', 'transformers', 'sklearn', 'scipy'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ,
                          cwd=FOLDER.parents[1])
    assert done.stdout.strip() == "[]"
