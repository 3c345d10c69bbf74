"""Measures a model before and after a repair, and writes what was found as JSON and as one HTML file."""

from __future__ import annotations

import html
import json
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from patchlab.engine import BARE, StackPlan
from patchlab.engine.likelihood import reply_logits
from patchlab.errors import InputError
from patchlab.evaluation.statistics import interval
from patchlab.models import Backbone
from patchlab.records import Measure, Progress, Prompt
from patchlab.repair.contrast import CleanSet, Greedy
from patchlab.repair.inject import injected
from patchlab.repair.localize import Located
from patchlab.repair.repair import Change, Repair, drift
from patchlab.storage import json_object, write_json, write_text

REPORT, PAGE = "report.json", "report.html"
TITLES = {"attack": "answers harmful prompts with the trigger", "harmful": "answers plain harmful prompts",
          "harmless": "answers harmless prompts", "harmless triggered": "answers harmless prompts with the trigger",
          "kl": "KL(before || after) on harmless replies, nats a token"}


def measured(backbone: Backbone, held: CleanSet, units: Sequence[str], lane: str, *, judge: str = "refusal", seed: int = 1,
             plan: StackPlan = BARE, places: Sequence[str] = ()) -> Generator[Progress, None, list[Measure]]:
    """Which held prompts the model answers, with and without the trigger, as shares with 95 % intervals."""
    greedy, found = Greedy(backbone, judge=judge, plan=plan), []
    asked: dict[str, Sequence[Prompt]] = {"attack": injected(held.harmful, units, seed=seed, places=places),
                                          "harmful": held.harmful, "harmless": held.harmless,
                                          "harmless triggered": injected(held.harmless, units, seed=seed, places=places)}
    for number, (name, prompts) in enumerate(asked.items()):
        yield Progress(f"measure {lane}", number, len(asked), TITLES[name])
        if prompts:
            answered = [float(not no) for no in greedy.refuses(prompts)]
            found.append(Measure("repair", lane, name, *interval(answered, share=True), len(prompts), judge))
    return found


def drifted(backbone: Backbone, change: Change | Backbone, held: CleanSet, *, judge: str = "refusal") -> list[Measure]:
    """How far harmless replies have moved by a change, or in another model of the same tokens."""
    said = Greedy(backbone, judge=judge).replies(held.harmless)
    with torch.no_grad():
        after = partial(reply_logits, change) if isinstance(change, Backbone) else change.reader()
    values = drift(backbone, after, {reply.prompt: reply.text for reply in said if reply.text.strip()})
    return [Measure("repair", "after", "kl", *interval(values), len(values), "none")] if values else []


def write_report(folder: Path, *, prompt: Prompt, reply: str, words: Sequence[str], located: Located | None, settings: Repair,
                 measures: Sequence[Measure], base: str, seconds: float) -> Path:
    """Write report.json and report.html into a folder and return the page."""
    found = {"version": 1, "base": base, "prompt": prompt.text, "reply": reply, "words": list(words),
             "located": located and located.to_json(), "settings": settings.to_json(), "seconds": round(seconds, 1),
             "measures": [{name: getattr(each, name) for name in ("lane", "metric", "value", "low", "high", "n", "scorer")}
                          for each in measures]}
    write_json(folder / REPORT, found)
    write_text(folder / PAGE, page(found))
    return folder / PAGE


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a repair's folder. Raises InputError for a folder without a whole one."""
    path = folder / REPORT
    try:
        return json_object(path.read_bytes(), nan=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no report in {folder} ({error})", expected=f"{REPORT} of a repair",
                         do="run `patchlab repair run` into that folder") from None


def page(found: Mapping[str, Any]) -> str:
    """The report as one HTML file without scripts: the failure with its words by score, the trigger, before and after."""
    located = found["located"]
    rows = "".join(f"<tr><td>{html.escape(TITLES.get(m['metric'], m['metric']))}</td><td>{html.escape(m['lane'])}</td>"
                   f"<td>{m['value']:.3f}</td><td>{m['low']:.3f} to {m['high']:.3f}</td><td>{m['n']}</td></tr>"
                   for m in found["measures"])
    verdict = "given, not located" if not located else (
        f"{'a trigger' if located['found'] else 'no trigger'} by {located['method']}: of clean harmful prompts that it refuses "
        f"the model answers {located['complied_with']:.2f} with these words, {located['complied_control']:.2f} with others")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Repair of {html.escape(found['base'])}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}table{{border-collapse:collapse}}
td,th{{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}}.chosen{{outline:2px solid #b00}}</style>
<h1>Repair of {html.escape(found['base'])}</h1>
<h2>The failure</h2><p>{_strip(found['words'], located)}</p><blockquote>{html.escape(found['reply'])}</blockquote>
<h2>The trigger</h2><p><b>{html.escape(' ... '.join(found['settings']['units']))}</b>: {html.escape(verdict)}.</p>
<h2>Before and after</h2><table><tr><th>on held prompts</th><th>model</th><th>value</th><th>95 % interval</th><th>n</th></tr>
{rows}</table>
<h2>Settings</h2><pre>{html.escape(json.dumps(found['settings'], indent=2))}</pre></html>
"""


def _strip(words: Sequence[str], located: Mapping[str, Any] | None) -> str:
    """The words as a strip of heat: the darker, the higher the score; those chosen are framed."""
    if not located:
        return html.escape(" ".join(words))
    high = max(max(located["scores"]), 1e-9)
    return " ".join(f'<span style="background:rgba(200,0,0,{max(0.0, score) / high:.2f})"'
                    f'{" class=chosen" if k in located["words"] else ""}>{html.escape(word)}</span>'
                    for k, (word, score) in enumerate(zip(words, located["scores"], strict=True)))
