"""`patchlab compare`: the replies of every lane to the same prompts, one below the other, with their scores."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from patchlab.cli.options import FILES, Verbs, add_json, add_models, add_stack, add_strict, read_models, read_stack, whole
from patchlab.cli.output import emit, plain, tell
from patchlab.cli.progress import shown
from patchlab.records import Progress, Prompt, Reply, Score
from patchlab.rows import Rows
from patchlab.scoring.crisis import ANSWER
from patchlab.scoring.prompt_judge import PromptScore
from patchlab.scoring.table import Claim, coarse_note

if TYPE_CHECKING:
    from patchlab.engine import Lab, Lane, Sampling, StackPlan
    from patchlab.evaluation.judged_replies import JudgedReply

STOPS = {"end": "ended by the model", "length": "cut at the token limit", "cancelled": "cancelled", "error": "failed"}


def add(verbs: Verbs) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "compare", allow_abbrev=False, help="compare replies of base, patched base and reference",
        description="Generate replies to the same prompts with the base, the base with patches, and the safer reference if there "
                    "is one, and print them with their toxicity and refusal scores.")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="a prompt; several may be given")
    parser.add_argument("--prompts", metavar="FILE",
                        help=f'more prompts, one per row: {{"text": ..., "kind": "chat" or "continue"}}, or a conversation: '
                             f'{{"messages": [{{"role": ..., "content": ...}}, ...]}}; {FILES}')
    add_strict(parser)
    parser.add_argument("--drop-oldest", action="store_true",
                        help="leave out the oldest exchanges of a conversation that is longer than the model's context (default: "
                             "such a conversation is an error)")
    parser.add_argument("--kind", default="chat", choices=("chat", "continue"),
                        help="chat: apply the chat template to each PROMPT; continue: complete it as plain text (default: chat)")
    add_models(parser)
    add_stack(parser)
    parser.add_argument("--samples", type=whole(1), default=1, metavar="N", help="replies per prompt and lane (default: 1)")
    parser.add_argument("--max-new-tokens", type=whole(1), default=64, metavar="N",
                        help="maximum length of a reply in tokens (default: 64)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T",
                        help="sampling temperature; 0 is greedy decoding (default: 0.8)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S",
                        help="random seed; the same seed reproduces the same replies (default: 0)")
    add_json(parser)
    parser.set_defaults(run=compare, refuse=parser.error)


def compare(args: argparse.Namespace) -> None:
    """Print the replies of every lane in the order of prompts and samples, each row of lanes as soon as it is complete."""
    if not args.prompt and not args.prompts:
        args.refuse("give a PROMPT or --prompts FILE")
    stack = read_stack(args)
    from patchlab.engine import Lane, Sampling
    from patchlab.evaluation.judged_replies import judged, row_json
    from patchlab.evaluation.metrics import Verdicts
    from patchlab.evaluation.suites import read_prompts

    sampling = Sampling(temperature=args.temperature, max_new_tokens=args.max_new_tokens, seed=args.seed)
    prompts, notes = [Prompt(text, args.kind) for text in args.prompt], list[str]()
    rows = Rows(args.prompts, strict=args.strict, notes=notes) if args.prompts else None
    lab = read_models(args)
    if rows:
        plan = lab.planner.plan(stack)
        check = lab.fitted if args.drop_oldest else lab.check
        try:
            read = read_prompts(rows, check=lambda prompt: check(prompt, plan=plan, sampling=sampling))
        finally:
            tell(notes)
        used = [lab.fitted(prompt, plan=plan, sampling=sampling) for prompt in read] if args.drop_oldest else read
        _print_dropped(read, used)
        prompts += used
    plans = lab.planner.plans(stack, prompts)
    _print_notes(lab, plans, bool(stack))
    lanes = [Lane(lane.name, lane.scheduler, lambda _: plans) if lane.name == "patched" else lane for lane in lab.lanes(stack)]
    found = _questions(lab, prompts)
    for replies in shown(_rows(lanes, prompts, args.samples, sampling)):
        row, skipped = judged(replies, Verdicts(lab.judges), found), plans[replies[0].row // args.samples].skipped
        if args.json:
            emit(row_json(row, lab.judges) | ({"skipped_by_gate": list(skipped)} if stack.gates else {}))
        else:
            print(_page(row, samples=args.samples, skipped=skipped))


def _questions(lab: Lab, prompts: Sequence[Prompt]) -> dict[str, PromptScore]:
    """What each prompt asks for, by its key; and help lines on stderr, once, for a crisis.

    Also prints what is to be known about coarse judges.
    """
    from patchlab.evaluation.judged_replies import questions

    found = questions(prompts)
    tell(filter(None, [coarse_note(lab.judges), ANSWER if "crisis" in {each.label for each in found.values()} else ""]))
    return found


def _print_dropped(read: Sequence[Prompt], used: Sequence[Prompt]) -> None:
    """Say how many exchanges were left out of conversations."""
    dropped = [len(before.earlier) - len(after.earlier) for before, after in zip(read, used, strict=True)]
    if any(dropped):
        tell([f"conversations longer than the context: {sum(map(bool, dropped))}; "
              f"oldest exchanges left out: {sum(dropped) // 2}"])


def _print_notes(lab: Lab, plans: Sequence[StackPlan], stacked: bool) -> None:
    """Print the plans' warnings on stderr, and without --stack which patches could be used."""
    tell(f"warning: {warning}" for warning in dict.fromkeys(warning for plan in plans for warning in plan.warnings))
    if not stacked:
        names = [one.manifest.name for one in lab.planner.installed()]
        hint = f"apply patches with --stack {','.join(names)}" if names else "no patch for this base is installed"
        tell([f"without --stack the patched lane equals the base; {hint}"])


def _rows(lanes: Sequence[Lane], prompts: Sequence[Prompt], samples: int,
          sampling: Sampling) -> Iterator[Progress | list[Reply]]:
    """The replies row by row, one per lane in lane order; a row is yielded when it and all rows before it are complete."""
    from patchlab.engine import finished

    waiting: dict[int, dict[str, Reply]] = {}
    following, total = 0, len(prompts) * samples * len(lanes)
    for done, reply in enumerate(finished(lanes, prompts, samples=samples, sampling=sampling), 1):
        waiting.setdefault(reply.row, {})[reply.lane] = reply
        while len(waiting.get(following, ())) == len(lanes):
            by_lane = waiting.pop(following)
            yield [by_lane[lane.name] for lane in lanes]
            following += 1
        if done < total and len(prompts) * samples > 1:
            yield Progress("replies", done, total)


def _page(row: Sequence[JudgedReply], *, samples: int, skipped: Sequence[str] = ()) -> str:
    """A row as text for a terminal: the prompt, then each lane's name, reply and scores."""
    width = min(shutil.get_terminal_size().columns, 110)
    side = max(len(each.reply.lane) for each in row) + 4
    first = row[0].reply
    prompt = json.dumps(textwrap.shorten(plain(first.prompt.text), 200, placeholder=" …"), ensure_ascii=False)
    page = [prompt + (f"  sample {first.sample + 1} of {samples}" if samples > 1 else "")]
    for each in row:
        text = ("scored toxic: " if each.toxic else "") + (plain(each.reply.text) or "(empty)")
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width - side) or [""]]
        lines += [f"-> {each.verdict.words}"] if each.verdict else []
        lines.append(_labels(each.reply, each.scores))
        if skipped and each.reply.lane == "patched":
            lines.append(f"-> left off by its gate: {', '.join(skipped)}")
        page += [f"{'  ' + each.reply.lane if k == 0 else '':{side}}{line}".rstrip() for k, line in enumerate(lines)]
    return "\n".join(page) + "\n"


def _labels(reply: Reply, scores: Mapping[Claim, Score]) -> str:
    """The labels with scorer and score, and why the reply ended. A text to continue asks for nothing that could be refused."""
    applicable = [score for name, score in scores.items() if name != "refusal" or reply.prompt.kind == "chat"]
    labels = list(dict.fromkeys(f"{score.label} ({score.scorer} {score.value:.2f})" if score.known else score.label
                                for score in applicable))
    return f"-> {', '.join(labels)}; {reply.tokens} tokens, {STOPS[reply.stop]}"
