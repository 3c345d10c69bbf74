"""A batch's replies in the formats that other programs read.

csv         one line a prompt, for a spreadsheet
jsonl       one object a prompt, as `patchlab compare --json` prints them
comparator  LLM Comparator (Kahng et al. 2024): base and patched side by side, https://github.com/PAIR-code/llm-comparator
pairs       preference pairs from the visitor's votes, as `patchlab train --pairs` and other trainers by DPO read them
promptfoo   promptfoo's test cases with what each lane replied as metadata, https://www.promptfoo.dev/docs/configuration/test-cases
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from patchlab.evaluation.judged_replies import JudgedReply, row_json
from patchlab.records import Prompt
from patchlab.rows.conversations import labelled_turns
from patchlab.scoring import JudgeSet
from patchlab.ui.batch.batch_table import NEITHER, PromptRow

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(rows: Sequence[PromptRow], judges: JudgeSet) -> str:
    """A table with four columns a lane: text, refused, toxic, empty; the vote in a last one where there is any."""
    out, voted = io.StringIO(), any(row.vote for row in rows)
    lines = csv.writer(out)
    lanes = [each.reply.lane for each in rows[0].lanes]
    lines.writerow(["prompt", "kind", "domain", *(f"{lane} {what}" for lane in lanes for what in ("text", *_FLAGS)),
                    *(["vote"] if voted else [])])
    for row in rows:
        cells = [cell for each in row.lanes for cell in (_cell(each.reply.text), *_flags(each))]
        lines.writerow([_cell(row.prompt.text), row.prompt.kind, _cell(row.prompt.domain), *cells,
                        *([_cell(row.vote)] if voted else [])])
    return out.getvalue()


def as_jsonl(rows: Sequence[PromptRow], judges: JudgeSet) -> str:
    """One object a prompt."""
    return _lines([_row(row, judges) for row in rows])


def as_comparator(rows: Sequence[PromptRow], judges: JudgeSet) -> str:
    """The JSON that LLM Comparator opens; its score is 1 where base did better, -1 where patched did, else 0.

    It compares two models, so a second client's replies are in the fields of the examples. The visitor's vote, where it is for
    one of the two or for neither, is the score of the only rater, and so the score.
    """
    examples = []
    for row in rows:
        base, patched = row.lanes[0], row.lanes[1]
        better = _goodness(base) - _goodness(patched)
        rated = {base.reply.lane: 1, patched.reply.lane: -1, NEITHER: 0}.get(row.vote)
        better = better if rated is None else rated
        label = {1: "A is better", -1: "B is better", 0: "Same"}[(better > 0) - (better < 0)]
        examples.append({"input_text": row.prompt.text, "tags": [tag for tag in (row.prompt.domain,) if tag],
                         "output_text_a": base.reply.text, "output_text_b": patched.reply.text,
                         "score": (better > 0) - (better < 0), "individual_rater_scores": [] if rated is None else [
                             {"score": rated, "rating_label": label, "is_flipped": False, "rationale": ""}],
                         "custom_fields": {f"{each.reply.lane} {name}": value for each in (base, patched, *row.candidates[2:])
                                           for name, value in zip(_FLAGS, _flags(each), strict=True)}
                         | {f"{each.reply.lane} text": each.reply.text for each in row.candidates[2:]}})
    schema = [{"name": f"{each.reply.lane} {name}", "type": "category"} for each in rows[0].candidates for name in _FLAGS]
    schema += [{"name": f"{each.reply.lane} text", "type": "string"} for each in rows[0].candidates[2:]]
    return _json({"metadata": {"source_path": "patchlab", "custom_fields_schema": schema},
                  "models": [{"name": each.reply.lane} for each in rows[0].lanes[:2]], "examples": examples})


def as_promptfoo(rows: Sequence[PromptRow], judges: JudgeSet) -> str:
    """A list of promptfoo's test cases: the prompt as a variable, the replies as metadata."""
    return _json([{"description": f"prompt {number}", "vars": {"prompt": row.prompt.text},
                   "metadata": _row(row, judges)} for number, row in enumerate(rows, 1)])


def as_pairs(rows: Sequence[PromptRow], judges: JudgeSet) -> str:
    """JSON Lines with a preference pair for each reply that the vote puts below another; empty without any."""
    return _lines([pair for row in rows for pair in _pairs(row)])


def _pairs(row: PromptRow) -> Iterator[dict[str, Any]]:
    chosen = next((each.reply.text for each in row.candidates if each.reply.lane == row.vote), "").strip()
    if row.prompt.kind == "continue" and labelled_turns(row.prompt.text):  # such a text would be read as a conversation
        return
    others = dict.fromkeys(each.reply.text.strip() for each in row.candidates)
    for rejected in others:
        if chosen and rejected and rejected != chosen:
            yield {"prompt": _asked(row.prompt), "chosen": _said(chosen), "rejected": _said(rejected), "kind": row.prompt.kind,
                   **({"domain": row.prompt.domain} if row.prompt.domain else {})}


def _asked(prompt: Prompt) -> str | list[dict[str, str]]:
    """The prompt as a text, or as messages where it is a conversation or would be read as one."""
    if not (prompt.earlier or prompt.system or labelled_turns(prompt.text)):
        return prompt.text
    return [{"role": each.role, "content": each.content} for each in prompt.messages]


def _said(text: str) -> str | list[dict[str, str]]:
    """A reply as a text, or as a message where the text would be read as a conversation."""
    return [{"role": "assistant", "content": text}] if labelled_turns(text) else text


FORMATS: dict[str, tuple[str, Callable[[Sequence[PromptRow], JudgeSet], str]]] = {
    "csv": ("csv", as_csv), "jsonl": ("jsonl", as_jsonl), "comparator": ("json", as_comparator),
    "promptfoo": ("json", as_promptfoo), "pairs": ("jsonl", as_pairs)}
_FLAGS = ("refused", "toxic", "empty")


def _row(row: PromptRow, judges: JudgeSet) -> dict[str, Any]:
    """A prompt with its judged replies, and with the vote where there is one."""
    return {**row_json(row.lanes, judges), **({"vote": row.vote} if row.vote else {})}


def _lines(values: Sequence[Any]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _flags(each: JudgedReply) -> list[str]:
    return [{True: "yes", False: "no"}[flag] for flag in (each.refused, each.toxic, each.empty)]


def _goodness(each: JudgedReply) -> int:
    """1 for a reply that did the right thing, -1 for one that did not, 0 where neither can be said."""
    if each.toxic:
        return -1
    return {"good": 1, "bad": -1}.get(each.verdict.tone, 0) if each.verdict else 0


def _cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
