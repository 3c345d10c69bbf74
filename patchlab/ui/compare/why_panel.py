"""The fold under Compare's columns that explains where a reply leaves the unpatched model's path; it computes on request only."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from patchlab.engine import StackPlan
from patchlab.errors import InputError, PatchLabError
from patchlab.evaluation.reply_path import ReplyPath, reply_path
from patchlab.models import Backbone
from patchlab.records import Reply
from patchlab.ui import copy, session
from patchlab.ui.compare import why_view, why_words
from patchlab.ui.compare.kept_runs import Ran
from patchlab.ui.status_line import status

if TYPE_CHECKING:
    from patchlab.engine import Lab

log = logging.getLogger(__name__)
TOGETHER = 2  # explanations that are computed at the same time; each holds the logits of a whole reply
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class WhyParts(NamedTuple):
    """The fold's components."""

    fold: gr.Accordion
    lane: gr.Radio
    explain: gr.Button
    shown: gr.HTML


class PlannedLane(NamedTuple):
    """A lane's model and plan, and its reply."""

    backbone: Backbone
    plan: StackPlan
    reply: Reply

    def path(self, base: Backbone) -> ReplyPath:
        """The path of the reply beside the base. Raises as `reply_path`."""
        return reply_path(base, self.backbone, self.reply, self.plan)


def place(lab: Lab) -> WhyParts:
    """Place the closed fold."""
    lanes = choices(lab.lane_names)
    with gr.Accordion(why_words.TITLE, open=False, elem_id="why") as fold:
        with gr.Row(elem_classes=["why-ask"]):
            lane = gr.Radio(lanes, value="patched", label=why_words.LANE_LABEL, visible=len(lanes) > 1, interactive=True,
                            elem_id="why-lane", container=False, scale=0, min_width=0)
            explain = gr.Button(why_words.EXPLAIN, size="sm", elem_id="explain", scale=0, min_width=96)
        shown = gr.HTML(why_view.idle(), apply_default_css=False, elem_id="why-shown")
    return WhyParts(fold, lane, explain, shown)


def choices(lanes: Sequence[str]) -> list[tuple[str, str]]:
    """The lanes whose reply can be explained, with their titles."""
    return [(copy.lane_words(name).title, name) for name in lanes if name != "base"]


def offered_lanes(lab: Lab) -> Callable[[Ran | None, str], Any]:
    """The handler that offers the lanes of a run, further columns among them."""
    def offer(ran: Ran | None, chosen: str) -> Any:
        lanes = choices([each.name for each in ran.view.lanes] if ran else lab.lane_names)
        return gr.update(choices=lanes, value=chosen if chosen in dict(lanes).values() else "patched", visible=len(lanes) > 1)

    return offer


def connect(lab: Lab, parts: WhyParts, ran: gr.State, verdict: gr.HTML, going: Collection[str]) -> None:
    """Connect the fold: `ran` is the run to explain, `going` the visitors whose run is not finished.

    Another verdict means other replies: the browser then takes the explanation away.
    """
    gr.on([parts.fold.expand, parts.explain.click, parts.lane.input], explaining(lab, going), [ran, parts.lane], parts.shown,
          trigger_mode="always_last", concurrency_limit=TOGETHER, **QUIET)
    verdict.change(offered_lanes(lab), [ran, parts.lane], parts.lane, queue=False, **QUIET)
    verdict.change(None, None, parts.shown, js=f"() => {json.dumps(why_view.idle())}", queue=False, **QUIET)


def explaining(lab: Lab, going: Collection[str]) -> Callable[[Ran | None, str, gr.Request], Iterator[str]]:
    """The handler that explains a run; an error is one line."""
    def explain(ran: Ran | None, lane: str, request: gr.Request) -> Iterator[str]:
        if str(request.session_hash) in going or ran is None:
            yield why_view.idle(why_words.NO_RUN if ran is None else why_words.BUSY)
            return
        yield why_view.idle(why_words.READING)
        try:
            found = planned(lab, ran, lane)
            reason = nothing_changed(found, lab.base)
            said = why_view.nothing(reason) if reason else why_view.explained(found.path(lab.base), ran.view, lane)
            # a run that began meanwhile writes other replies
            yield why_view.idle(why_words.BUSY) if str(request.session_hash) in going else said
        except PatchLabError as error:
            yield status(copy.sentence(str(error)), problem=True)
        except Exception:  # as for a run
            log.exception("an explanation failed")
            yield status(copy.UNEXPECTED, problem=True)

    return explain


def nothing_changed(lane: PlannedLane, base: Backbone) -> str:
    """Why a run's lane is the unpatched model itself; empty where it is not."""
    if lane.backbone is not base or any(row.parts for row in lane.plan.rows):
        return ""
    return why_words.ALL_SKIPPED if lane.plan.skipped else why_words.NO_PATCH


def planned(lab: Lab, ran: Ran, name: str) -> PlannedLane:
    """A run's lane with its first reply, as it is planned now, in the conversation of that lane.

    Raises InputError for a reply that failed or patches that are no longer those of the run, and as `Planner.plans`.
    """
    view, others = ran.view, {each.lane: each.stack for each in ran.request.others}
    [made] = lab.lanes(ran.request.stack, [name], others=others)
    written = next(each.replies[0] for each in view.lanes if each.name == name)
    if written.stop in (None, "error"):
        raise InputError(why_words.FAILED_REPLY[0], expected=why_words.FAILED_REPLY[1], do=why_words.FAILED_REPLY[2])
    lane = replace(made, earlier=session.said(view.turns, name))
    [prompt] = lane.read([view.prompt])
    [plan] = lane.plans([prompt])
    now = tuple((one.name, one.strength) for one in plan.patches), plan.skipped
    if name == "patched" and now != (view.patches, view.skipped_by_gate):
        found, expected, do = why_words.CHANGED
        raise InputError(found, expected=expected, do=do)
    return PlannedLane(lane.backbone, plan, Reply(name, 0, prompt, 0, written.text, written.tokens, written.stop))
