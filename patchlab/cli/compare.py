"""`patchlab compare`: the same prompts through every lane, the replies one under another with their verdicts."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from patchlab.cli.options import FILES, add_json, add_models, add_stack, add_strict, read_models, read_stack, whole
from patchlab.cli.output import emit, plain, tell
from patchlab.cli.progress import shown
from patchlab.records import Progress, Prompt, Reply, Score
from patchlab.rows import Rows
from patchlab.scoring import load_scorer

if TYPE_CHECKING:
    from patchlab.cli.options import Verbs
    from patchlab.engine import Lab, Lane, Sampling, StackPlan

SCORERS = ("toxicity", "refusal")
STOPS = {"end": "ended by itself", "length": "cut at the longest length", "cancelled": "stopped", "error": "failed"}


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "compare", allow_abbrev=False, help="ask base, patched and reference the same",
        description="Ask the base, the base with patches on, and the safer reference where there is one the same, and print "
                    "the replies with what the embedded scorers say of them.")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="a prompt; several may be given")
    parser.add_argument("--prompts", metavar="FILE",
                        help=f'{FILES}; more prompts, a row each: {{"text": ..., "kind": "chat" or "continue"}}, or a '
                             'conversation as {"messages": [{"role": ..., "content": ...}, ...]}')
    add_strict(parser)
    parser.add_argument("--kind", default="chat", choices=("chat", "continue"),
                        help="whether each PROMPT is answered or written on from (default: chat)")
    add_models(parser)
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
    """Print the replies of every lane, in the order of prompts and samples, each as soon as it is complete."""
    if not args.prompt and not args.prompts:
        args.refuse("give a PROMPT or --prompts FILE")
    stack = read_stack(args)
    from patchlab.engine import Lane, Sampling
    from patchlab.evaluation.suites import read_prompts

    sampling = Sampling(temperature=args.temperature, max_new_tokens=args.max_new_tokens, seed=args.seed)
    prompts, notes = [Prompt(text, args.kind) for text in args.prompt], list[str]()
    rows = Rows(args.prompts, strict=args.strict, notes=notes) if args.prompts else None
    lab = read_models(args)
    if rows:
        plan = lab.planner.plan(stack)
        try:
            prompts += read_prompts(rows, check=lambda prompt: lab.check(prompt, plan=plan, sampling=sampling))
        finally:
            tell(notes)
    plans = lab.planner.plans(stack, prompts)
    _tell(lab, plans[0], bool(stack))
    lanes = [Lane(lane.name, lane.scheduler, lambda _: plans) if lane.name == "patched" else lane for lane in lab.lanes(stack)]
    for row in shown(_rows(lanes, prompts, args.samples, sampling)):
        scores, skipped = _scores(row), plans[row[0].row // args.samples].skipped
        if args.json:
            emit(_row(row, scores) | ({"skipped_by_gate": list(skipped)} if stack.gates else {}))
        else:
            print(_page(row, scores, samples=args.samples, skipped=skipped))


def _tell(lab: Lab, plan: StackPlan, stacked: bool) -> None:
    """Say on stderr what is known to speak against the stack, or that there is none."""
    tell(f"warning: {words}" for words in plan.warnings)
    if not stacked:
        names = [one.manifest.name for one in lab.planner.installed()]
        hint = f"put patches on it with --stack {','.join(names)}" if names else "no patch for this base is installed"
        tell([f"no --stack: the patched lane is the base; {hint}"])


def _rows(lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int,
          sampling: Sampling) -> Iterator[Progress | list[Reply]]:
    """The replies row by row, lanes in their order; a row is given out once it and all before it are complete."""
    from patchlab.engine import finished

    waiting: dict[int, dict[str, Reply]] = {}
    told, total = 0, len(prompts) * samples * len(lanes)
    for done, reply in enumerate(finished(lanes, prompts, samples=samples, sampling=sampling), 1):
        waiting.setdefault(reply.row, {})[reply.lane] = reply
        while len(waiting.get(told, ())) == len(lanes):
            found = waiting.pop(told)
            yield [found[lane.name] for lane in lanes]
            told += 1
        if done < total and len(prompts) * samples > 1:
            yield Progress("replies", done, total)


def _scores(row: Sequence[Reply]) -> list[dict[str, Score]]:
    """What every scorer says of each lane's reply, by scorer."""
    texts, asked = [reply.text for reply in row], [reply.prompt.text for reply in row]
    columns = [load_scorer(name).score(texts, asked) for name in SCORERS]
    return [dict(zip(SCORERS, scores, strict=True)) for scores in zip(*columns, strict=True)]


def _row(row: Sequence[Reply], scores: Sequence[Mapping[str, Score]]) -> dict[str, object]:
    prompt = row[0].prompt
    asked = [{"role": message.role, "content": message.content} for message in prompt.messages] if prompt.earlier else None
    return {"prompt": prompt.text, **({"messages": asked} if asked else {}), "sample": row[0].sample, "lanes": [
        {"lane": reply.lane, "text": reply.text, "tokens": reply.tokens, "stop": reply.stop,
         "scores": {name: round(score.value, 6) for name, score in found.items()}}
        for reply, found in zip(row, scores, strict=True)]}


def _page(row: Sequence[Reply], scores: Sequence[Mapping[str, Score]], *, samples: int, skipped: Sequence[str] = ()) -> str:
    """One prompt and sample for people: each lane's name, its text in a column, and the verdicts under it."""
    width = min(shutil.get_terminal_size().columns, 110)
    side = max(len(reply.lane) for reply in row) + 4
    asked = json.dumps(textwrap.shorten(plain(row[0].prompt.text), 200, placeholder=" …"), ensure_ascii=False)
    found = [asked + (f"  sample {row[0].sample + 1} of {samples}" if samples > 1 else "")]
    for reply, score in zip(row, scores, strict=True):
        notice = "scored toxic: " if score["toxicity"].flagged else ""
        text = notice + (plain(reply.text) or "(nothing)")
        lines = [piece for line in text.splitlines() for piece in textwrap.wrap(line, width - side) or [""]]
        lines.append(_verdict(reply, score))
        if skipped and reply.lane == "patched":
            lines.append(f"-> left off by its gate: {', '.join(skipped)}")
        found += [f"{'  ' + reply.lane if k == 0 else '':{side}}{line}".rstrip() for k, line in enumerate(lines)]
    return "\n".join(found) + "\n"


def _verdict(reply: Reply, scores: Mapping[str, Score]) -> str:
    # a text that continues another is not a request, so refusal does not apply to it
    told = [score for name, score in scores.items() if name != "refusal" or reply.prompt.kind == "chat"]
    words = [f"{score.label} ({score.scorer} {score.value:.2f})" for score in told]
    return f"-> {', '.join(words)}; {reply.tokens} tokens, {STOPS[reply.stop]}"
