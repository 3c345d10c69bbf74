"""Runs that the browser keeps: written as JSON when a run ends, read again when a visitor wants one back.

The server keeps none of them. What comes back has been in a visitor's hands, so it is checked like any upload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from patchlab.errors import InputError, PatchLabError
from patchlab.patches.stack import Entry
from patchlab.ui.compare.history import KEPT, SHOWN, PastRun
from patchlab.ui.compare.sample_bars import MOST_SAMPLES
from patchlab.ui.session import MOST_TURNS, OtherStack, RunRequest, View
from patchlab.ui.share.link_codec import LinkPatch, LinkSettings

MAX_RECORD, MAX_ROWS, MAX_REPLY, MAX_KEY = 400_000, 100_000, 8000, 40  # characters
OTHERS = ("patched 2", "patched 3")  # lanes of further columns
MAX_LABEL = 400  # characters


class Ran(NamedTuple):
    """A visitor's run that ended: what was asked, and its last view."""

    request: RunRequest
    view: View

    def without(self, lane: str) -> Ran:
        """The run without a further column."""
        others = tuple(each for each in self.request.others if each.lane != lane)
        labels = {name: label for name, label in self.view.labels.items() if name != lane}
        lanes = tuple(each for each in self.view.lanes if each.name != lane)
        return Ran(replace(self.request, others=others), replace(self.view, lanes=lanes, labels=labels))


_RAN = TypeAdapter(Ran)
_ROW, _ROWS = TypeAdapter(PastRun), TypeAdapter(list[PastRun])


def record(ran: Ran, row: PastRun) -> str:
    """A run for the browser to keep: key and row of the list, and as one string what `recalled` reads."""
    once = ran._replace(request=replace(ran.request, turns=()))  # the view has the earlier turns too
    whole = json.dumps(_RAN.dump_python(once, mode="json"), ensure_ascii=False, separators=(",", ":"))
    return json.dumps({"key": row.key, "row": _ROW.dump_python(row, mode="json"), "record": whole}, ensure_ascii=False)


def recalled(text: str, lanes: Sequence[str]) -> Ran:
    """A kept run. Raises InputError for what is none, or has other columns than `lanes`."""
    try:
        if len(text) > MAX_RECORD:
            raise ValueError("too long")
        ran = _RAN.validate_json(text)
        turns = ran.view.turns
        if len(turns) >= MOST_TURNS or any(turn.turns or len(lane.replies) != 1 for turn in turns for lane in turn.lanes):
            raise ValueError("not a conversation of this page")
        for view in (*turns, ran.view):
            _check(view)
    except (ValueError, RecursionError, PatchLabError, ValidationError):
        raise InputError("a kept run that cannot be read", expected="one that this page kept",
                         do="run the prompt again") from None
    others = [each.lane for each in ran.request.others]
    if not others_fit(ran.request.others) or [lane.name for lane in ran.view.lanes] != [*lanes, *others] or not all(
            {*lanes, *others} <= {lane.name for lane in turn.lanes} <= {*lanes, *OTHERS} for turn in turns):
        raise InputError("a kept run with other columns", expected=", ".join(lanes), do="run the prompt again")
    return ran._replace(request=replace(ran.request, turns=turns))


def others_fit(others: Sequence[OtherStack]) -> bool:
    """Whether a page has room for these further columns and for what is said of them."""
    names = [each.lane for each in others]
    return len({*names}) == len(names) and {*names} <= {*OTHERS} and all(len(each.label) <= MAX_LABEL for each in others)


def _check(view: View) -> None:
    """Raise ValueError for a view of a run that none of this page's can be."""
    replies = [reply for lane in view.lanes for reply in lane.replies]
    points = [number for lane in view.lanes for line in lane.lines.values() for point in line for number in point]
    scores = [score.value for reply in replies for score in reply.scores.values() if score.known]
    widths = {len(lane.replies) for lane in view.lanes}
    if (view.running or len(widths) != 1 or not 1 <= max(widths) <= MOST_SAMPLES
            or not {*view.labels} <= {*OTHERS} or any(len(label) > 3 * MAX_LABEL for label in view.labels.values())
            or any(len(reply.text) > MAX_REPLY or reply.stop is None for reply in replies)
            or not all(map(math.isfinite, [*scores, *points, *view.thresholds.values()]))):
        raise ValueError("not a run of this page")


def listed(text: str) -> list[PastRun]:
    """The rows of a browser's list, newest first; empty where it holds anything else."""
    try:
        rows = _ROWS.validate_json(text) if len(text) <= MAX_ROWS else []
    except ValidationError:
        return []
    return [row for row in rows if len(row.prompt) <= SHOWN and len(row.key) <= MAX_KEY and len(row.lanes) <= MOST_SAMPLES][:KEPT]


def settings_of(request: RunRequest) -> LinkSettings:
    """What a run was asked with, as a link says it."""
    prompt, stack, sampling = request.prompt, request.stack, request.sampling
    one = stack.mode == "sequential"  # a strength of all of them
    return LinkSettings(
        prompt.text, prompt.kind, prompt.system,
        tuple(LinkPatch(Entry(each.name, None if one else each.strength)) for each in stack.entries), stack.mode,
        next((each.strength for each in stack.entries if one), None), stack.gates, sampling.temperature,
        sampling.max_new_tokens, str(sampling.seed), request.samples)
