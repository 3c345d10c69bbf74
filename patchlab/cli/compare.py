"""`patchlab compare`: the same prompts through every lane, the replies one under another with their verdicts."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patchlab.cli.options import add_bits, add_json, add_preset, add_stack, read_stack, whole
from patchlab.cli.output import emit, plain
from patchlab.cli.progress import shown
from patchlab.patches import Stack
from patchlab.patches.compatibility import warnings
from patchlab.patches.interactions import Interactions
from patchlab.patches.interactions_file import find_interactions
from patchlab.records import Progress, Prompt, Reply, Score
from patchlab.registry import default_registry
from patchlab.scoring import load_scorer

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs

SCORERS = ("toxicity", "refusal")
STOPS = {"end": "ended by itself", "length": "cut at the longest length", "cancelled": "stopped", "error": "failed"}


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "compare", allow_abbrev=False, help="ask base, patched and reference the same",
        description="Ask the base, the base with patches on, and the safer reference the same, and print the replies "
                    "with what the embedded scorers say of them.")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="a prompt; several may be given")
    parser.add_argument("--prompts", type=Path, metavar="F.jsonl",
                        help='more prompts, one {"text": ..., "kind": "chat" or "continue"} a line')
    parser.add_argument("--kind", default="chat", choices=("chat", "continue"),
                        help="whether each PROMPT is answered or written on from (default: chat)")
    add_preset(parser)
    add_bits(parser)
    add_stack(parser)
    parser.add_argument("--samples", type=whole(1), default=1, metavar="N", help="replies a prompt (default: 1)")
    parser.add_argument("--max-new-tokens", type=whole(1), default=64, metavar="N",
                        help="longest reply in tokens (default: 64)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T",
                        help="variety; 0 always takes the likeliest token (default: 0.8)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="the same seed gives the same replies (default: 0)")
    add_json(parser)
    parser.set_defaults(run=compare, refuse=parser.error)


def compare(args: argparse.Namespace) -> None:
    """Print the replies of every lane, in the order of prompts and samples, as soon as a batch is done."""
    if not args.prompt and not args.prompts:
        args.refuse("give a PROMPT or --prompts F.jsonl")
    stack = read_stack(args)
    from patchlab.engine import Sampling, Trio, load_trio, replies
    from patchlab.evaluation.suites import read_prompts

    _warn(stack)
    sampling = Sampling(temperature=args.temperature, max_new_tokens=args.max_new_tokens, seed=args.seed)
    prompts = [Prompt(text, args.kind) for text in args.prompt]
    prompts += read_prompts(args.prompts) if args.prompts else []
    trio = load_trio(args.preset, bits=args.bits)

    def batches(trio: Trio) -> Iterator[Progress | list[Reply]]:
        done, total = 0, len(prompts) * args.samples * len(trio.lanes)
        for batch in replies(trio.lane_list(stack), prompts, samples=args.samples, sampling=sampling):
            done += len(batch)
            if done < total:  # a single batch is over at once and needs no line
                yield Progress("replies", done, total)
            yield batch

    through = dict(zip(prompts, trio.let_through(stack, prompts), strict=True))
    for batch in shown(batches(trio)):
        for lanes in _by_row(batch, trio.lanes):
            scores, off = _scores(lanes), through[lanes[0].prompt]
            if args.json:
                emit(_row(lanes, scores) | ({"let_through": list(off)} if stack.gates else {}))
            else:
                print(_page(lanes, scores, samples=args.samples, off=off))


def _warn(stack: Stack) -> None:
    """Say on stderr what speaks against the stack."""
    registry = default_registry()
    on = [registry.find(entry.name, entry.version).manifest for entry in stack.entries if entry.strength != 0]
    if len(on) < 2:
        return
    interactions, broken = find_interactions(registry)
    measured = Interactions() if stack.gates else interactions  # it was with all patches on at once
    for words in (*broken, *warnings(on, stack.mode, measured)):
        print(f"patchlab: warning: {plain(words)}", file=sys.stderr)


def _by_row(batch: Sequence[Reply], order: Sequence[str]) -> Iterator[list[Reply]]:
    """The replies of a batch row by row, lanes in the given order."""
    rows: dict[int, list[Reply]] = {}
    for reply in sorted(batch, key=lambda reply: (reply.row, order.index(reply.lane))):
        rows.setdefault(reply.row, []).append(reply)
    yield from rows.values()


def _scores(lanes: Sequence[Reply]) -> list[dict[str, Score]]:
    """What every scorer says of each lane's reply, by scorer."""
    texts, asked = [reply.text for reply in lanes], [reply.prompt.text for reply in lanes]
    columns = [load_scorer(name).score(texts, asked) for name in SCORERS]
    return [dict(zip(SCORERS, scores, strict=True)) for scores in zip(*columns, strict=True)]


def _row(lanes: Sequence[Reply], scores: Sequence[Mapping[str, Score]]) -> dict[str, object]:
    return {"prompt": lanes[0].prompt.text, "sample": lanes[0].sample, "lanes": [
        {"lane": reply.lane, "text": reply.text, "tokens": reply.tokens, "stop": reply.stop,
         "scores": {name: round(score.value, 6) for name, score in found.items()}}
        for reply, found in zip(lanes, scores, strict=True)]}


def _page(lanes: Sequence[Reply], scores: Sequence[Mapping[str, Score]], *, samples: int, off: Sequence[str] = ()) -> str:
    """One prompt and sample for people: each lane's name, its text in a column, and the verdicts under it.

    `off` are the patches whose gates let the prompt through.
    """
    width = min(shutil.get_terminal_size().columns, 110)
    side = max(len(reply.lane) for reply in lanes) + 4
    asked = json.dumps(textwrap.shorten(plain(lanes[0].prompt.text), 200, placeholder=" …"), ensure_ascii=False)
    found = [asked + (f"  sample {lanes[0].sample + 1} of {samples}" if samples > 1 else "")]
    for reply, score in zip(lanes, scores, strict=True):
        notice = "scored toxic: " if score["toxicity"].flagged else ""
        text = notice + (plain(reply.text) or "(nothing)")
        lines = [piece for line in text.splitlines() for piece in textwrap.wrap(line, width - side) or [""]]
        lines.append(_verdict(reply, score))
        if off and reply.lane == "patched":
            lines.append(f"-> let through by the gate of {', '.join(off)}")
        found += [f"{'  ' + reply.lane if k == 0 else '':{side}}{line}".rstrip() for k, line in enumerate(lines)]
    return "\n".join(found) + "\n"


def _verdict(reply: Reply, scores: Mapping[str, Score]) -> str:
    # whether a text that only goes on from another refuses is no question
    told = [score for name, score in scores.items() if name != "refusal" or reply.prompt.kind == "chat"]
    words = [f"{score.label} ({score.scorer} {score.value:.2f})" for score in told]
    return f"-> {', '.join(words)}; {reply.tokens} tokens, {STOPS[reply.stop]}"
