"""A run as files to take along: JSON with all of it, CSV with a line a reply. Where a reply is toxic both say so."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from patchlab import __version__
from patchlab.ui import copy
from patchlab.ui.compare.kept_runs import Ran
from patchlab.ui.compare.verdict_sentence import clauses, outcome
from patchlab.ui.session import LaneView, ReplyView, View

CONTENT_NOTE = "This file holds model replies that were scored toxic."
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is a formula to a spreadsheet
_COLUMNS = ("lane", "sample", "text", "tokens", "ended", "verdict", "toxicity", "refusal", "content note")


def toxic(reply: ReplyView) -> bool:
    """Whether a reply was scored toxic."""
    return "toxicity" in reply.scores and reply.scores["toxicity"].flagged


def as_json(ran: Ran) -> str:
    """The run as one object: what was asked, with which stack and sampling, the verdict, and every reply with its scores."""
    request, view = ran
    prompt, sampling = request.prompt, request.sampling
    noted = any(toxic(reply) for lane in view.lanes for reply in lane.replies)
    made: dict[str, Any] = {
        "made_with": f"PatchLab {__version__}", **({"content_note": CONTENT_NOTE} if noted else {}),
        "prompt": {"kind": prompt.kind, "messages": [{"role": each.role, "content": each.content} for each in prompt.messages]},
        "stack": {"patches": dict(view.patches), "mode": view.mode, "gates": request.stack.gates,
                  "skipped_by_gate": list(view.skipped_by_gate)},
        "sampling": {"temperature": sampling.temperature, "max_new_tokens": sampling.max_new_tokens, "seed": sampling.seed,
                     "top_p": sampling.top_p, "samples": request.samples},
        "thresholds": dict(view.thresholds), "verdict": [each.words for each in clauses(view)],
        "lanes": [{"lane": lane.name, **_stack_of(lane.name, ran), "replies": [_reply(reply, view) for reply in lane.replies],
                   "scores_by_tokens": {claim: [list(point) for point in line] for claim, line in lane.lines.items()}}
                  for lane in view.lanes]}
    return json.dumps(made, ensure_ascii=False, indent=2) + "\n"


def _stack_of(lane: str, ran: Ran) -> dict[str, Any]:
    """The stack on a further column."""
    return next(({"label": ran.view.labels.get(lane, each.label), "stack": str(each.stack), "mode": each.stack.mode,
                  "gates": each.stack.gates} for each in ran.request.others if each.lane == lane), {})


def _reply(reply: ReplyView, view: View) -> dict[str, Any]:
    scores = {claim: {"value": score.value if score.known else None, "flagged": score.flagged}
              for claim, score in reply.scores.items()}
    return {"text": reply.text, "tokens": reply.tokens, "ended": reply.stop, "scores": scores,
            "verdict": outcome(reply, view.prompt, view.asked).short}


def as_csv(ran: Ran) -> str:
    """The run as a table with a line a reply."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(["prompt", *_COLUMNS])
    for lane in ran.view.lanes:
        for number, reply in enumerate(lane.replies, 1):
            lines.writerow([_cell(ran.view.prompt.text), *_line(lane, number, reply, ran.view)])
    return out.getvalue()


def _line(lane: LaneView, number: int, reply: ReplyView, view: View) -> list[Any]:
    scores = [round(reply.scores[claim].value, 4) if claim in reply.scores and reply.scores[claim].known else ""
              for claim in ("toxicity", "refusal")]
    title, label = copy.lane_words(lane.name).title, view.labels.get(lane.name)
    return [f"{title} ({label})" if label else title, number, _cell(reply.text), reply.tokens, reply.stop,
            outcome(reply, view.prompt, view.asked).short, *scores, copy.TOXIC_NOTICE if toxic(reply) else ""]


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
