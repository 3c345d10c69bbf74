"""The words of the Evaluate tab."""

from __future__ import annotations

TITLE = "What was measured"
NOTE = ("Figures of the patches that fit this model, as their makers recorded them: the share or number, its 95 % interval, on "
        "how many prompts, and by which scorer. Your own: `patchlab evaluate --stack refusal --out runs/report`.")
NO_PATCHES = "No patch that fits this model is installed, so nothing was measured of one."
COMPARE_NOTE = "The charts below follow the strengths and the mode that are set on the Compare tab."
PUBLISHED_TITLE = "Published results"
PUBLISHED_NOTE = "Written by `{command}` on {date}. Missed goals stay in the list. Explained in docs/results.md."
GOALS, OTHERS = "Figures with a goal: {met} of {goals} are met", "Figures without a goal ({count})"
GOAL_MET, GOAL_MISSED = "met", "missed"
COLUMNS = ("What", "Figure", "95 % interval", "Prompts", "Goal")
NOTHING = "no reply to count"
