"""The table of scorers, and Hub classifiers read by the names of their labels, on tiny models made here."""

from pathlib import Path

import pytest

from patchlab.errors import InputError, ModelError, NotFoundError
from patchlab.scoring import load_scorer, scorer_names, table
from patchlab.scoring.hub import HUB, HubModel, HubScorer
from patchlab.scoring.table import COARSE, ENCODER, claim_of, coarse_note, judge_set

TEXTS = ["the river runs to the sea", "a", "", "the sea the sea the sea " * 40]


def make(folder: Path, labels: list[str], *, kind: str = "bert", problem: str | None = None) -> Path:
    """A random classifier of a few thousand weights with a word tokenizer, saved as safetensors."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    words = ["<pad>", "<unk>", "the", "river", "runs", "to", "sea", "a"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(3)
    config_class, model_class = {"bert": (BertConfig, BertForSequenceClassification),
                                 "roberta": (RobertaConfig, RobertaForSequenceClassification)}[kind]
    config = config_class(vocab_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                          max_position_embeddings=34, pad_token_id=0, type_vocab_size=2, initializer_range=0.6,
                          id2label=dict(enumerate(labels)), label2id={label: at for at, label in enumerate(labels)},
                          problem_type=problem)
    model_class(config).save_pretrained(folder)
    return folder


def by_hand(folder: Path, text: str) -> list[float]:
    """The logits of one text alone, without the scorer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=32)
    with torch.inference_mode():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        return model(**encoded).logits[0].tolist()


@pytest.mark.parametrize("labels", [["toxic", "neutral"], ["neutral", "toxic"]])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_label_counts_and_not_its_place(tmp_path: Path, labels: list[str], kind: str) -> None:
    import numpy as np

    make(tmp_path, labels, kind=kind)
    scores = HubScorer.of(str(tmp_path)).score(TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        if text:
            powers = np.exp(by_hand(tmp_path, text))
            assert score.value == pytest.approx(powers[labels.index("toxic")] / powers.sum(), abs=1e-5)
    assert scores[2].value == 0.0 and not scores[2].flagged
    assert [score.label for score in scores] == [("flagged" if score.value >= 0.5 else "clear") if text else "empty"
                                                 for text, score in zip(TEXTS, scores, strict=True)]


def test_overlapping_labels_are_each_a_probability_of_their_own(tmp_path: Path) -> None:
    import numpy as np

    make(tmp_path, ["toxicity", "insult", "male"])
    [score] = HubScorer(HubModel(str(tmp_path), ("toxicity",))).score([TEXTS[0]])
    assert score.value == pytest.approx(1 / (1 + np.exp(-by_hand(tmp_path, TEXTS[0])[0])), abs=1e-5)


def test_unnamed_labels_need_a_name(tmp_path: Path) -> None:
    make(tmp_path, ["LABEL_0", "LABEL_1"])
    with pytest.raises(ModelError, match=r"hub:.*#LABEL"):
        HubScorer.of(str(tmp_path)).score(["the sea"])
    [score] = HubScorer.of(f"{tmp_path}#LABEL_1").score(["the sea"])
    [other] = HubScorer.of(f"{tmp_path}#LABEL_0").score(["the sea"])
    assert score.value + other.value == pytest.approx(1, abs=1e-5)


def test_the_digest_follows_the_weights(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a", ["toxic", "ok"]), make(tmp_path / "b", ["toxic", "ok"], kind="roberta")
    assert HubScorer.of(str(first)).digest == HubScorer.of(str(first)).digest != HubScorer.of(str(second)).digest


def test_a_classifier_with_pickled_weights_only_is_not_loaded(tmp_path: Path) -> None:
    make(tmp_path, ["toxic", "ok"])
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        HubScorer.of(str(tmp_path)).score(["the sea"])


def test_a_model_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        HubScorer.of(str(tmp_path / "none")).score(["a"])


def test_names_lead_to_scorers_and_are_kept() -> None:
    assert load_scorer("toxicity") is load_scorer("toxicity")
    assert scorer_names() == ["toxicity", "refusal", "toxicity-2", "refusal-2", "toxicity-encoder", "refusal-encoder",
                              "granite-hap", "unbiased-toxic-roberta", "rejection"]
    for name in HUB:
        assert load_scorer(name).name == name
    assert load_scorer("hub:some/model").name == "hub:some/model"


def test_one_place_decides_which_judges_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "encoder_folder", lambda: None)
    assert judge_set() is COARSE and "pip install" in coarse_note(COARSE)
    monkeypatch.setattr(table, "encoder_folder", lambda: Path("here"))
    assert judge_set() is ENCODER and judge_set("coarse") is COARSE and judge_set("encoder") is ENCODER
    assert coarse_note(ENCODER) == "" and coarse_note(COARSE) == COARSE.note
    with pytest.raises(NotFoundError, match="did you mean 'coarse'"):
        judge_set("coars")
    for judges in (COARSE, ENCODER):
        for claim, first in judges.first.items():
            assert [claim_of(name) for name in judges.of(claim)] == [claim, claim] and judges.of(claim)[0] == first
            assert len({*judges.of(claim)}) == 2 and {*judges.of(claim)} <= {*scorer_names()}, "two judges a claim, always"
    assert claim_of("hub:a/b") == "hub:a/b"


@pytest.mark.parametrize(("name", "words"), [
    ("toxicty", "did you mean 'toxicity'"), ("refusal2", "did you mean 'refusal-2'"),
    ("hub:", "unknown scorer"), ("", "unknown scorer")])
def test_an_unknown_name_gets_the_nearest(name: str, words: str) -> None:
    with pytest.raises(NotFoundError, match=words):
        load_scorer(name)


def test_thresholds_and_arguments_are_checked() -> None:
    with pytest.raises(InputError, match="threshold"):
        HubScorer(HubModel("a/b", ("toxic",), threshold=1.0))
    with pytest.raises(InputError, match="one string"):
        HubScorer.of("a/b").score("text")
