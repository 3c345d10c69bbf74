"""The second scorers: other models over other features, fitted the same each time, closed to broken files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from refusal_cases import ANSWERS, COMPLIES_THEN_DISCLAIMS, QUOTES, REFUSES, REFUSES_THEN_COMPLIES
from remark_cases import CALM, TOXIC
from safetensors.numpy import load, save

from patchlab.errors import PatchFormatError
from patchlab.scoring import features, hashed_ngrams, refusal_features, toxicity_features
from patchlab.scoring.convolution import FILTERS, WIDTH, WINDOW, Convolution, layout
from patchlab.scoring.embedded import load_embedded, save_embedded
from patchlab.scoring.models import KINDS, PIECES, Model
from patchlab.scoring.refusal_features import COLUMNS
from patchlab.scoring.trees import DEPTH, TREES, Trees
from tools.scorers.boosting import grow, numbers
from tools.scorers.network import train
from tools.scorers.written_groups import group_remarks
from tools.scorers.written_replies import replies

pytestmark = pytest.mark.xdist_group("second")  # one process, so that what its tests share is made once

CARD = {"threshold": 0.5, "labels": {"flagged": "yes", "clear": "no"}, "trained_on": [], "measured": []}
ODD = ["", " ", "\u200b", "a\ud800b \x00", "😀😀", "１２３ Größe", "“", "'" * 50, "no " * 3000, "\n1.\n2.\n", "É́"]


def toy_convolution(seed: int = 0) -> Convolution:
    made = group_remarks(150, seed=3)
    return train([each.text for each in made], np.array([each.label for each in made]), np.ones(len(made)), rows=PIECES,
                 steps=150, seed=seed)


@pytest.fixture(scope="module")
def convolution() -> Convolution:
    return toy_convolution()


@pytest.fixture(scope="module")
def trees() -> Trees:
    pytest.importorskip("sklearn")
    made = replies(12, half="fit", seed=4)
    return grow(numbers(made, prompts=False), np.array([each.label for each in made]), np.ones(len(made)))


@pytest.fixture(params=["toxicity-2", "refusal-2"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    model: Model = request.getfixturevalue("convolution" if request.param == "toxicity-2" else "trees")
    save_embedded(tmp_path, request.param, model=model, card=CARD)
    return tmp_path, request.param


def test_fitting_again_gives_the_same_bytes(convolution: Convolution, trees: Trees) -> None:
    assert save(toy_convolution().tensors()) == save(convolution.tensors()) != save(toy_convolution(seed=1).tensors())
    made = replies(12, half="fit", seed=4)
    again = grow(numbers(made, prompts=False), np.array([each.label for each in made]), np.ones(len(made)))
    assert save(again.tensors()) == save(trees.tensors())


def test_what_was_fitted_generalises(convolution: Convolution, trees: Trees) -> None:
    unseen = group_remarks(100, seed=77)
    assert np.mean([(convolution.logit(each.text) > 0) == bool(each.label) for each in unseen]) > 0.8
    others = replies(12, half="fit", seed=5)
    assert np.mean([(trees.logit(each.text) > 0) == bool(each.label) for each in others]) > 0.9


def test_trees_are_those_that_scikit_learn_grew() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 9, (300, COLUMNS)).astype(np.float32)
    labels = (rows[:, 3] + rows[:, 9] > 8).astype(int)
    model = ensemble.GradientBoostingClassifier(
        init="zero", n_estimators=TREES, learning_rate=0.1, max_depth=DEPTH, subsample=0.6, max_features="sqrt",
        min_samples_leaf=5, random_state=0).fit(rows, labels)
    assert grow(rows, labels, np.ones(300)).sums(rows) == pytest.approx(model.decision_function(rows), abs=1e-4)


def test_a_convolution_is_its_windows_one_by_one() -> None:
    rng = np.random.default_rng(2)
    model = Convolution.of({name: rng.normal(0, 0.3, shape).astype(kind) for name, (kind, shape) in layout(64).items()})
    rows, places = hashed_ngrams.pieces("You are kind. “Go away”, he said.", 64)
    vectors = [model.table[row].sum(0) + model.places[place] for row, place in zip(rows, places, strict=True)]
    edge = [np.zeros(WIDTH, np.float32)]
    padded = edge + vectors + edge
    hits = [np.maximum(np.concatenate(padded[k:k + WINDOW]) @ model.kernel + model.floor, 0) for k in range(len(vectors))]
    pooled = np.concatenate([np.max(hits, 0), np.sum(hits, 0) / len(hits) ** 0.5])
    assert pooled.shape == (2 * FILTERS,)
    by_hand = float(pooled @ model.out + model.bias[0])
    assert model.logit("You are kind. “Go away”, he said.") == pytest.approx(by_hand, abs=1e-4)


def test_scaling_scales_log_odds(convolution: Convolution, trees: Trees) -> None:
    for model in (convolution, trees):
        assert model.scaled(0.5, -1.0).logit(REFUSES[0]) == pytest.approx(0.5 * model.logit(REFUSES[0]) - 1, abs=1e-4)


def test_groups_cannot_be_told_apart(convolution: Convolution) -> None:
    texts = [f"My {group} neighbour is a fool." for group in ("deaf", "Sikh", "Canadian", "older")]
    assert len({convolution.logit(text) for text in texts}) == 1
    assert convolution.logit("My purple neighbour is a fool.") != convolution.logit(texts[0])


def test_words_know_their_sentence_and_their_quotation() -> None:
    found = dict(hashed_ngrams.words("Hello there. He said “go home” twice.\n3 more"))
    places = [found[word] for word in ("hello", "he", "go", "twice", hashed_ngrams.NUMBER)]
    assert places == [0, 1, hashed_ngrams.QUOTED_PLACE, 1, 2]
    assert all(place < hashed_ngrams.QUOTED_PLACE for _, place in hashed_ngrams.words("“All of it is quoted.”"))
    assert len(hashed_ngrams.pieces("word " * 5000, 64)[1]) == hashed_ngrams.LONGEST


def test_the_two_scorers_of_a_claim_share_no_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: dict[str, set[bytes]] = {"first": set(), "second": set()}
    for name, module in (("first", features), ("second", hashed_ngrams)):
        monkeypatch.setattr(module, "crc32", lambda data, name=name: hashed[name].add(data) or 0)
    text = " ".join((*TOXIC, *CALM)) + " zyxwv"
    features._cached_grams.cache_clear()
    hashed_ngrams._rows.cache_clear()
    try:
        KINDS["toxicity"].probe(), toxicity_features.toxicity_features(text), hashed_ngrams.pieces(text, 64)
    finally:
        features._cached_grams.cache_clear()
        hashed_ngrams._rows.cache_clear()
    assert min(map(len, hashed.values())) > 200 and not hashed["first"] & hashed["second"]
    assert not hasattr(refusal_features, "crc32")  # refusal-2 hashes nothing


def test_cues_are_finite_and_few() -> None:
    for text in [*ODD, *REFUSES, *QUOTES]:
        found = refusal_features.cues(text)
        assert found.shape == (COLUMNS,) and found.dtype == np.float32 and np.isfinite(found).all()


def test_any_text_has_a_score_and_a_batch_is_one_by_one(saved: tuple[Path, str]) -> None:
    scorer = load_embedded(saved[1], saved[0])
    texts = [*ODD, *REFUSES_THEN_COMPLIES, *ANSWERS, *COMPLIES_THEN_DISCLAIMS]
    together = scorer.score(texts)
    assert together == [scorer.score([text])[0] for text in texts]
    assert all(0 <= each.value <= 1 for each in together) and not together[0].flagged and together[0].value == 0


def test_a_file_comes_back_as_it_was_saved(saved: tuple[Path, str], convolution: Convolution, trees: Trees) -> None:
    folder, name = saved
    model = convolution if name == "toxicity-2" else trees
    logits = np.array([max(map(model.logit, KINDS[name].divide(text))) for text in ANSWERS])
    values = [score.value for score in load_embedded(name, folder).score(ANSWERS)]
    assert values == pytest.approx(1 / (1 + np.exp(-logits)), abs=0.01)


@pytest.mark.parametrize("wrong", ["shape", "missing", "type", "nan", "pickle", "big"])
def test_a_file_that_is_not_ours_is_refused(saved: tuple[Path, str], wrong: str) -> None:
    folder, name = saved
    path, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    tensors = load(path.read_bytes())
    first = "kernel" if name == "toxicity-2" else "leaf"
    changed = {"shape": tensors[first][:-1], "type": tensors[first].astype(np.int32),
               "nan": np.full_like(tensors[first], np.nan)}.get(wrong)
    rest = {key: value for key, value in tensors.items() if key != first}
    data = {"pickle": b"\x80\x04pickle", "big": b"\0" * (2**21 + 1)}.get(wrong) or save(
        rest if changed is None else {**rest, first: changed})
    path.write_bytes(data)
    card.write_text(json.dumps(json.loads(card.read_text()) | {"weights_sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(PatchFormatError):
        load_embedded(name, folder)


def test_a_tree_that_looks_at_no_column_is_refused(trees: Trees, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"of {COLUMNS}"):
        Trees(np.full_like(trees.column, 255), trees.cut, trees.leaf, trees.bias)
