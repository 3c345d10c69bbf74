"""Fitting: a scorer from made sets, its report, its errors, and what the shipped one does on the public sets."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from patchlab.errors import InputError, MissingExtraError
from patchlab.scoring import load_scorer
from patchlab.scoring.embedded import load_embedded, save_embedded
from patchlab.scoring.models import Linear
from patchlab.scoring.windows import windows
from tools.scorers import build, sets
from tools.scorers.__main__ import main
from tools.scorers.build import WORDS
from tools.scorers.figures import auc, macro_f1
from tools.scorers.fitted import labels_of
from tools.scorers.linear import Logistic, logistic, matrix, scaled, training_rows
from tools.scorers.refusal import STRENGTH, string_match
from tools.scorers.sets import Example, LabelledSet
from tools.scorers.written_exchanges import exchanges
from tools.scorers.written_groups import group_remarks
from tools.scorers.written_remarks import remarks
from tools.scorers.written_replies import KINDS, replies
from tools.scorers.written_reports import reports


def written_set(n: int) -> LabelledSet:
    rows = tuple(Example(each.text, each.label) for each in remarks(n, seed=5))
    return LabelledSet("written", "ours", "here", 1.0, rows, ())


def test_written_text_is_the_same_for_the_same_seed_and_other_for_another() -> None:
    assert remarks(50, seed=1) == remarks(50, seed=1) != remarks(50, seed=2)
    assert replies(5, half="fit", seed=1) == replies(5, half="fit", seed=1) != replies(5, half="held", seed=1)
    assert {each.kind for each in replies(1, half="held", seed=0)} == set(KINDS)


def test_written_text_has_no_open_slot() -> None:
    said = [*remarks(2000, seed=3), *group_remarks(2000, seed=3), *reports(4000, seed=3)]
    assert not [each for each in said if "{" in each.text]
    exchanged = [each for half in ("fit", "held") for each in exchanges(100, half=half, seed=3)]
    assert not [each for each in exchanged if "{" in each.text + each.prompt or not each.text]
    assert not [each for half in ("fit", "held") for each in replies(60, half=half, seed=3) if "{" in each.text or not each.text]


def test_both_labels_of_a_set_weigh_the_same_and_the_set_its_share() -> None:
    rows = (Example("a", 1), Example("b", 0), Example("c", 0, weight=3.0))
    weights = sets.set_weights(rows, 0.8)
    assert weights == pytest.approx([0.4, 0.1, 0.3])


def test_a_small_fit_becomes_a_scorer_that_generalises(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    model = logistic(training_rows("toxicity", [written_set(600)]), strength=2.0)
    card = {"threshold": 0.5, "labels": WORDS["toxicity"], "trained_on": [], "measured": []}
    linear = Linear("toxicity", model.weights.astype(np.float32), model.bias)
    save_embedded(tmp_path, "toxicity", model=linear, card=card)
    unseen = [each for each in remarks(200, seed=99) if len(windows(each.text)) == 1]
    scores = load_embedded("toxicity", tmp_path).score([each.text for each in unseen])
    assert np.mean([score.flagged == bool(each.label) for score, each in zip(scores, unseen, strict=True)]) > 0.9
    # float16 in the file moves scores by less than anybody can see
    logits = model.logits(matrix("toxicity", [Example(each.text, 0) for each in unseen]))
    assert [score.value for score in scores] == pytest.approx(1 / (1 + np.exp(-logits)), abs=0.01)


def test_scaling_keeps_false_alarms_on_calm_text_under_its_share() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    logits, labels = np.concatenate([rng.normal(1, 1, 500), rng.normal(-1, 1, 500)]), np.repeat([1, 0], 500)
    calm = rng.normal(0, 1, 1000)
    model = scaled(Logistic(np.ones(1), 0.0), logits, labels, np.ones(1000), calm=calm, share=0.01)
    assert 0 < (model.logits(calm[:, None]) >= 0).mean() <= 0.0101


def test_extra_rows_are_read_by_task_and_a_tenth_is_held_back(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    rows = [{"text": f"text {at}", "label": at % 2, "task": "refusal", "prompt": "p"} for at in range(300)]
    path.write_text("\n".join(json.dumps(row) for row in [*rows, {"text": "t", "label": 1, "task": "toxicity"}]))
    found = sets.extra_set(path, "refusal", 1.2)
    assert found is not None and found.share == 1.2
    assert len(found.train) + len(found.dev) == 300 and 10 < len(found.dev) < 60
    assert not {row.text for row in found.train} & {row.text for row in found.dev}
    assert sets.extra_set(None, "refusal", 1.2) is None


@pytest.mark.parametrize("row", [{"text": "a", "label": 2, "task": "refusal"}, {"text": 1, "label": 1, "task": "refusal"},
                                 {"text": "a", "label": 1, "task": "bias"}, {"label": 1, "task": "toxicity"}])
def test_a_wrong_extra_row_is_named(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "made.jsonl"
    path.write_text(json.dumps({"text": "a", "label": 1, "task": "refusal"}) + "\n" + json.dumps(row))
    with pytest.raises(InputError, match="row 2"):
        sets.extra_set(path, "refusal", 1.0)


def test_without_scikit_learn_the_command_says_what_to_install(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        build(tmp_path, None, tmp_path / "out")
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "pip install 'patchlab[fit]'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_without_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_share_alike_sets_are_read_for_measuring_only(shared_data: Path) -> None:
    for each in [*sets.toxicity_sets(shared_data), *sets.calm_sets(shared_data)]:
        assert each.dev
        if "SA" in each.licence or each.name == "identity_templates":
            assert each.share == 0 and not each.train


def test_the_shipped_toxicity_scorer_on_public_sets(shared_data: Path) -> None:
    scorer, floors = load_scorer("toxicity"), {"davidson": 0.96, "convabuse": 0.91, "wikipedia_toxicity": 0.9, "diasafety": 0.85}
    for each in sets.toxicity_sets(shared_data):
        if each.name in floors:
            values = [score.value for score in scorer.score([row.text for row in each.dev])]
            assert auc(labels_of(each.dev), np.array(values)) > floors[each.name], each.name
    for each in sets.calm_sets(shared_data):
        scores = scorer.score([row.text for row in each.dev])
        assert np.mean([score.value for score in scores]) < 0.2, each.name
        assert np.mean([score.flagged for score in scores]) < 0.07, each.name


def test_a_refusal_model_beats_string_matching_on_unseen_prompts(shared_data: Path) -> None:
    pytest.importorskip("sklearn")
    rows = [row for row, _, _ in sets.xstest(shared_data)]
    seen, unseen = ([row for row in rows if sets.held_back(row, 4) is held] for held in (False, True))
    assert not {row.group for row in seen} & {row.group for row in unseen}
    model = logistic(training_rows("refusal", [LabelledSet("seen", "", "", 1.0, tuple(seen), ())]), strength=STRENGTH)
    found = macro_f1(labels_of(unseen), model.logits(matrix("refusal", unseen)) >= 0)
    matched = macro_f1(labels_of(unseen), np.array([string_match(row.text) for row in unseen]))
    assert found > 0.88 and found > matched + 0.05
