"""The heat map: figures that plotly accepts, the same in sentences, for any mode and any number of patches."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import plotly.graph_objects as go
import pytest

from patchlab.patches import BaseIdentity, Manifest
from patchlab.patches.interactions import Cell, Change, InteractionRow, Interactions, Labels, label
from patchlab.patches.stack import Mode
from patchlab.ui.evaluate import interaction_heatmap

BASE = BaseIdentity(id="base", revision="", fingerprint="f" * 16, tokenizer_digest="a" * 64, template_digest="")
NAMES = ("Refuse harm", "Calm comments", "Even pronouns", "Politeness", "Brevity", "House <b>style")
OWN = {"refuse-harm": ("refusal", "refusal_rate"), "calm-comments": ("toxicity", "toxic_rate")}


def manifests(count: int) -> list[Manifest]:
    return [Manifest(name="-".join("".join(c if c.isalnum() else " " for c in title).lower().split()), version="1.0.0",
                     title=title, summary="A made patch.", domain="refusal", base=BASE, reference="none", length=3, width=8,
                     licence="Apache-2.0", files={"patch.json": "1" * 64}) for title in NAMES[:count]]


def cell(suite: str, metric: str, patch: str = "", change: float | None = None, against: str = "") -> Cell:
    unit = "nats" if suite == "drift" else "points"
    than = None if change is None else Change((against,), change, change - 3, change + 3, 50, unit)  # type: ignore[arg-type]
    return Cell(suite, metric, patch, 0.5, 0.4, 0.6, 2, "refusal", "d" * 64, (0.0, 1.0), than)


def rows(some: Sequence[Manifest], mode: Mode, losses: dict[Labels, float]) -> Iterator[InteractionRow]:
    """Every row of these patches; a pair named in `losses` costs its first patch so many points."""
    for one in some:
        own = OWN.get(one.name, ("refusal", "refusal_rate"))
        cells = cell(*own, label(one)), cell("overrefusal", "refusal_rate")
        yield InteractionRow(BASE.fingerprint, (label(one),), mode, {}, cells)
    for pair in permutations(some, 2) if mode == "sequential" else combinations(some, 2):
        names = tuple(map(label, pair))
        cells = [cell(*OWN.get(one.name, ("refusal", "refusal_rate")), label(one), -losses.get(names, 0.0) if k == 0 else 1.0,
                      label(one)) for k, one in enumerate(pair)]
        yield InteractionRow(BASE.fingerprint, names, mode, {}, (*cells, cell("drift", "kl_to_base", "", -0.02, names[0]),
                                                      cell("overrefusal", "refusal_rate", "", 0.0, names[0])))


def known(some: Sequence[Manifest], mode: Mode, losses: dict[Labels, float] | None = None) -> Interactions:
    return Interactions(tuple(rows(some, mode, losses or {})), {label(one): one.digest for one in some})


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("mode", ["parallel", "sequential", "blend"])
@pytest.mark.parametrize("shown", list(interaction_heatmap.SHOWN))
def test_a_figure_has_a_square_for_every_two_and_is_valid(count: int, mode: Mode, shown: str) -> None:
    some = manifests(count)
    drawn = interaction_heatmap.figure(known(some, mode), some, mode, shown)
    figure = go.Figure(drawn["data"], drawn["layout"])  # refuses what plotly does not know
    assert len(figure.data[0].z) == count and all(len(line) == count for line in figure.data[0].z)
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn
    for at, line in enumerate(drawn["data"][0]["z"]):
        assert all(value is not None for k, value in enumerate(line) if k != at)
    assert "<b>style" not in json.dumps(drawn["layout"])


def test_a_loss_is_red_bold_and_said() -> None:
    some = manifests(3)
    pair = (label(some[0]), label(some[1]))
    drawn = interaction_heatmap.figure(known(some, "parallel", {pair: 11.0}), some, "parallel", "own")
    trace = drawn["data"][0]
    assert trace["z"][0][1] == pytest.approx(-11 / interaction_heatmap.SHOWN["own"].full)
    assert trace["z"][1][0] > 0 == trace["z"][0][2]
    assert trace["text"][0][1] == "<b>−11.0</b><br><b>fights</b>" and "alone" in trace["text"][0][0]
    assert "95 % interval 40 % to 60 %, n = 2, scorer refusal" in trace["customdata"][0][1]
    assert "1 of 3 pairs measured side by side is known to fight: Refuse harm with Calm comments." in drawn["summary"]
    assert ("The most that a patch loses of its own effect is 11.0 points: Refuse harm with Calm comments "
            "(95 % interval 8.0 to 14.0, n = 50).") in drawn["summary"]


def test_a_sequence_tells_both_orders_in_one_square() -> None:
    some = manifests(2)
    first, second = map(label, some)
    drawn = interaction_heatmap.figure(known(some, "sequential", {(first, second): 9.0}), some, "sequential", "own")
    assert drawn["data"][0]["text"][0][1] == "1st <b>−9.0</b><br>2nd +1.0"
    assert drawn["data"][0]["z"][0][1] == pytest.approx(-9 / 20), "the worse of the two"
    assert "Refuse harm then Calm comments" in drawn["summary"]


def test_where_nothing_is_known_there_is_one_sentence_on_how_to_measure() -> None:
    some = manifests(3)
    for interactions, mode in ((Interactions(), "parallel"), (known(some, "parallel"), "blend")):
        words = interaction_heatmap.summary(interactions, some, mode)  # type: ignore[arg-type]
        assert words.endswith("`patchlab patches matrix" + ("` does it." if mode == "parallel" else " --mode blend` does it."))
        assert words.count(".") == 1 and not interaction_heatmap.measured(interactions, some, mode)  # type: ignore[arg-type]
    words = interaction_heatmap.summary(known(some[:2], "parallel"), some, "parallel")
    assert "The one pair measured side by side is not known to fight." in words and "2 are not measured yet" in words
    assert interaction_heatmap.counted(Interactions(), some, "parallel") == ""


def test_a_figure_without_numbers_is_an_empty_square() -> None:
    some = manifests(2)
    nan = math.nan
    none = Cell("refusal", "refusal_rate", label(some[0]), nan, nan, nan, 0, "refusal", "d" * 64, (None,))
    row = InteractionRow(BASE.fingerprint, (label(some[0]), label(some[1])), "parallel", {}, (none,))
    drawn = interaction_heatmap.figure(Interactions((row,), {label(one): one.digest for one in some}), some, "parallel", "own")
    assert drawn["data"][0]["z"] == [[None, None], [None, None]]
    json.dumps(drawn, allow_nan=False)
