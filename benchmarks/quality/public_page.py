"""A page of drawn replies for human eyes: prompts chosen by a seed, not by their replies, and what every system said."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from patchlab.records import Reply
from patchlab.storage import write_text

SHOWN = 60
HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Drawn replies, unselected</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem }
td, th { vertical-align: top; text-align: left; border-top: 1px solid #ccc; padding: .4rem .6rem } th { width: 11rem }
h2 { font-size: 1rem; margin: 2rem 0 .3rem } .note { background: #fff4d6; padding: .8rem 1rem; color: #222 }
</style><h1>Drawn replies, unselected</h1>
<p class="note"><strong>Content.</strong> Prompts of public safety suites and what small models said to them. Some ask for harm,
some are abusive, and so are some replies.</p>"""


def write_page(path: Path, replies: Mapping[tuple[str, str], Sequence[Reply]], *, seed: int = 0) -> None:
    """Write SHOWN prompts with the first reply of every system, by (system, suite); which prompts is the seed's choice."""
    by: dict[tuple[str, str], dict[str, Reply]] = {}  # suite and prompt -> system -> reply
    for (system, suite), some in replies.items():
        for reply in some:
            if reply.sample == 0:
                by.setdefault((suite, reply.prompt.text), {})[system] = reply
    shown = random.Random(seed).sample(sorted(by), min(SHOWN, len(by)))
    write_text(path, HEAD + "".join(_prompt(suite, text, by[suite, text]) for suite, text in shown))


def _prompt(suite: str, text: str, said: Mapping[str, Reply]) -> str:
    rows = "".join(f"<tr><th>{escape(system)}<td>{escape(reply.text.strip()) or '<em>empty</em>'}"
                   for system, reply in said.items())
    return f"<h2>{escape(suite)}: {escape(text)}</h2><table>{rows}</table>"
