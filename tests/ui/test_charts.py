"""Charts: figures that plotly accepts, a line a lane, and the same in words."""

from __future__ import annotations

import json
from dataclasses import replace

import plotly.graph_objects as go
import pytest
from made_views import text, view

from patchlab.ui.charts import HELD, figure, steady

LANES = ["base", "patched", "reference", "fine_tuned"]


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("scorer", ["toxicity", "refusal"])
def test_a_figure_has_a_line_a_lane_and_is_valid(scorer: str, count: int) -> None:
    lanes = LANES[:count]
    drawn = figure(scorer, lanes, view({name: [text("hi there")] for name in lanes}))
    go.Figure(drawn["data"], drawn["layout"])  # refuses what plotly does not know
    assert [line["x"] for line in drawn["data"]] == [[2]] * count
    assert len({json.dumps(line["line"]) for line in drawn["data"]}) == count
    assert json.loads(json.dumps(drawn)) == drawn


def test_lines_carry_the_scores_and_the_summary_says_the_last_ones() -> None:
    drawn = figure("toxicity", ["base"], view({"base": [text("hi there")]}))
    assert drawn["data"][0]["y"] == [0.4]
    assert drawn["summary"] == "Toxicity score of the text so far: Unpatched 0.40."


def test_before_a_run_the_lines_are_empty() -> None:
    drawn = figure("refusal", LANES)
    assert [line["x"] for line in drawn["data"]] == [[]] * 4 and "no text yet" in drawn["summary"]


def test_a_frame_is_small() -> None:
    lanes = LANES[:3]
    assert len(json.dumps(figure("toxicity", lanes, view({name: [text("hi")] for name in lanes})))) < 3000


def test_a_line_begins_late_is_smooth_and_ends_at_the_score_itself() -> None:
    points = [(tokens, float(tokens % 2)) for tokens in range(1, 21)]
    growing = steady(points, writing=True)
    assert [tokens for tokens, _ in growing] == list(range(HELD, 21))
    assert all(0.4 < score < 0.6 for _, score in growing)
    assert steady(points, writing=False)[:-1] == growing[:-1] and steady(points, writing=False)[-1] == points[-1]
    assert steady(points[:3], writing=True) == [] and steady(points[:3], writing=False) == [points[2]]
    assert steady([], writing=False) == []


def test_the_axis_does_not_move_while_the_models_write() -> None:
    written = replace(view({"base": [text("hi there")]}), longest=48)
    assert figure("toxicity", ["base"], replace(written, running=True))["layout"]["xaxis"]["range"] == [0, 48]
    assert figure("toxicity", ["base"], written)["layout"]["xaxis"]["range"] == [0, 12]
