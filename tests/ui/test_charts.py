"""Charts: figures that plotly accepts, a line a lane, and the same in words."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest
from made_views import text, view

from patchlab.ui.charts import figure

LANES = ["base", "patched", "reference", "fine_tuned"]


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("scorer", ["toxicity", "refusal"])
def test_a_figure_has_a_line_a_lane_and_is_valid(scorer: str, count: int) -> None:
    lanes = LANES[:count]
    drawn = figure(scorer, lanes, view({name: [text("hi there")] for name in lanes}))
    go.Figure(drawn["data"], drawn["layout"])  # refuses what plotly does not know
    assert [line["x"] for line in drawn["data"]] == [[1, 2]] * count
    assert len({json.dumps(line["line"]) for line in drawn["data"]}) == count
    assert json.loads(json.dumps(drawn)) == drawn


def test_lines_carry_the_scores_and_the_summary_says_the_last_ones() -> None:
    drawn = figure("toxicity", ["base"], view({"base": [text("hi there")]}))
    assert drawn["data"][0]["y"] == [0.2, 0.4]
    assert drawn["summary"] == "Toxicity score of the text so far: Unpatched 0.40."


def test_before_a_run_the_lines_are_empty() -> None:
    drawn = figure("refusal", LANES)
    assert [line["x"] for line in drawn["data"]] == [[]] * 4 and "no text yet" in drawn["summary"]


def test_a_frame_is_small() -> None:
    lanes = LANES[:3]
    assert len(json.dumps(figure("toxicity", lanes, view({name: [text("hi")] for name in lanes})))) < 3000
