"""The batches of this server, the judged replies of one with the votes on them, and the files that are made of it."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.errors import InputError
from patchlab.evaluation.judged_replies import judged, questions
from patchlab.evaluation.metrics import Verdicts
from patchlab.storage import write_text
from patchlab.ui.batch import batch_export, batch_table, batch_words
from patchlab.ui.batch.batch_store import ACTIVE, REPORT_FILE, Batches, BatchState
from patchlab.ui.batch.batch_table import PromptRow
from patchlab.ui.batch.votes import voted

if TYPE_CHECKING:
    from patchlab.engine import Lab

BATCHES = Batches()


def judged_rows(lab: Lab, state: BatchState) -> tuple[PromptRow, ...]:
    """The prompts of a batch for which every lane has replied, judged, with the votes as they are now."""
    return voted(rows_of(lab, state.key, state.done), BATCHES.votes(state.key))


@lru_cache(maxsize=8)
def rows_of(lab: Lab, key: str, done: int) -> tuple[PromptRow, ...]:
    """The prompts of a batch for which every lane has replied, judged; `done` replies tell this state of it from earlier ones."""
    prompts, lanes = BATCHES.prompts(key), BATCHES.state(key).settings.lanes
    replies = {(reply.lane, reply.prompt.key): reply for reply in BATCHES.replies(key)}
    whole = [prompt for prompt in prompts if all((lane, prompt.key) in replies for lane in lanes)]
    found = judged([replies[lane, prompt.key] for prompt in whole for lane in lanes], Verdicts(lab.judges), questions(whole))
    return tuple(PromptRow(prompt, tuple(found[k * len(lanes):(k + 1) * len(lanes)])) for k, prompt in enumerate(whole))


def exported(lab: Lab, state: BatchState, name: str, shown: str) -> Path:
    """A file of a batch's replies in a folder of its own. Raises InputError where there is nothing to write."""
    rows = batch_table.filtered(judged_rows(lab, state), shown) if state.status not in ACTIVE else []
    target = exports(state.key)
    report = BATCHES.folder(state.key) / REPORT_FILE
    if name == "html" and report.is_file():
        write_text(target / "batch.html", report.read_text(encoding="utf-8"))
        return target / "batch.html"
    if name not in batch_export.FORMATS or not rows:
        raise InputError(batch_words.NOTHING_TO_EXPORT, expected="a batch that is done, or stopped for the tables",
                         do="run one, or show all prompts")
    suffix, write = batch_export.FORMATS[name]
    text = write(rows, lab.judges)
    if not text:
        raise InputError(batch_words.NO_PAIRS, expected="one such vote", do="vote in the table")
    write_text(target / f"batch-{name}.{suffix}", text)
    return target / f"batch-{name}.{suffix}"


def exports(key: str) -> Path:
    """The folder of the files that are made of a batch, where gradio may serve files from."""
    return Path(tempfile.gettempdir()) / f"patchlab-batch-{key}"
