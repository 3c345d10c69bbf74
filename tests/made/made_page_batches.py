"""Batches for tests: their settings and end, judged rows of a table, and the tab in a real browser."""

from __future__ import annotations

import time

from made_visit import Visit

from patchlab.engine import Lab
from patchlab.evaluation.judged_replies import JudgedReply
from patchlab.records import EMPTY, Prompt, Reply, Score
from patchlab.scoring.verdict import ReplyVerdict
from patchlab.ui.batch.batch_store import ACTIVE, Batches, BatchSettings, BatchState
from patchlab.ui.batch.batch_table import PromptRow

SPITEFUL = "a rude remark"


def settings(lab: Lab, **changes: object) -> BatchSettings:
    made = {"preset": lab.name, "stack": "calm:0.5", "mode": "parallel", "gates": False, "max_new_tokens": 5, "temperature": 0.8,
            "seed": 3, "source": "Pasted prompts", "lanes": lab.lane_names}
    return BatchSettings(**{**made, **changes})  # type: ignore[arg-type]


def ended(batches: Batches, key: str) -> BatchState:
    for _ in range(3000):
        state = batches.state(key)
        if state.status not in ACTIVE:
            return state
        time.sleep(0.02)
    raise AssertionError(f"the batch is still {state.status}")


def judged(lane: str, prompt: Prompt, text: str, *, refused: bool = False, toxic: bool = False,
           verdict: ReplyVerdict | None = None) -> JudgedReply:
    label = EMPTY if not text else ""
    return JudgedReply(Reply(lane, 0, prompt, 0, text, 3, "end"), {
        "toxicity": Score("toxicity", 0.9 * toxic, toxic, label or ("toxic" if toxic else "not toxic")),
        "refusal": Score("refusal", 0.9 * refused, refused, label or ("refused" if refused else "answered"))}, verdict)


def row(domain: str = "", *, base: str = "ok", patched: str = "ok", kind: str = "chat", text: str = "asked") -> PromptRow:
    """A row whose lanes are 'ok', 'refused', 'toxic' or 'empty'."""
    prompt = Prompt(text, "chat" if kind == "chat" else "continue", domain)
    return PromptRow(prompt, tuple(
        judged(lane, prompt, "" if what == "empty" else SPITEFUL if what == "toxic" else "fine", refused=what == "refused",
               toxic=what == "toxic") for lane, what in (("base", base), ("patched", patched), ("reference", "ok"))))


def opened(visit: Visit) -> None:
    visit.page.click("button[role=tab]:has-text('Batch')")
    visit.page.wait_for_selector("#batch-prompts textarea")


def ran(visit: Visit, prompts: list[str]) -> None:
    visit.page.fill("#batch-prompts textarea", "\n".join(prompts))
    visit.page.click("#batch-run")
    visit.page.wait_for_selector("#batch-status:has-text('Done:')")
    visit.page.wait_for_selector("#batch-table table")
