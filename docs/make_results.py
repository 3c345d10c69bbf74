"""Write docs/results.md from the figures in benchmarks/results: `python docs/make_results.py`.

A file that is absent is a section that is absent. Nothing is chosen: a bar that is missed is in the list of the missed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchlab.storage import write_text

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tools are not part of the package
from benchmarks.provenance import NOT_RECORDED, RESULTS
from benchmarks.quality.public_suites import PARTS
from tools.pocket.judge import READS

PAGE = Path(__file__).with_name("results.md")
COLUMNS = 6  # figures side by side; a wider table is cut
SPEED = {"decode": "Decoding with a patch", "toggle": "Toggling a patch", "trio": "Three lanes at once",
         "adapter": "A reference in the base's batch", "clients": "Many clients with stacks of their own",
         "installed": "Many patches installed", "loop": "What the engine adds to a model's step", "page": "The page",
         "page_smollm2": "The page with SmolLM2", "scoring": "Scoring a reply", "train": "Training a patch", "gpu": "On a GPU"}
BY_GROUP = {"sequence": "What undoes patches in a sequence", "transfer": "Patches on the base's next release",
            "context": "Patches in a long context", "conversation": "Patches in a conversation",
            "conversation-first": "Patches in a conversation: two earlier ones of the real model",
            **{f"public-{part}": f"The real model on public suites: {part}" for part in PARTS},
            "defaults": "Ways to combine patches", "quantization": "Bases in 8 and 4 bits", "ablations": "Ablations",
            "repair": "Repairs of backdoored models", "repair-attacks": "Backdoors that are made to escape"}
LIMITS = {"trio": " Three lanes of two models take two of three forward passes a token: 0.67 is the limit without what the\n"
          "stream saves around them. Bars are on the same kernels on both sides."}
GOAL = 8  # patches in the stack that is shown patch by patch
VERDICT = {True: "met", False: "**missed**", None: "not judged"}

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, its text in parts, and the figures with a bar in it."""

    title: str
    parts: tuple[str, ...]
    judged: tuple[Figure, ...] = ()


def page(folder: Path = RESULTS) -> str:
    """The page as Markdown."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    parts = (_pocket, _sealed, _methods, _by_group, _stacks, _gates, _speeds)
    sections = [section for part in parts for section in part(found)]
    missed = [f"- {section.title}: {_name(each)} {value(each)} ({number(each['low'])} to {number(each['high'])}), bar {bar(each)}"
              for section in sections for each in section.judged if each["met"] is False]
    judged = sum(each["met"] is not None for section in sections for each in section.judged)
    summary = f"## Missed\n\n{len(missed)} of {judged} bars are missed" + (":\n\n" + "\n".join(missed) if missed else ".")
    bodies = ["\n\n".join([f"## {section.title}", *section.parts]) for section in sections]
    return "\n\n".join([_INTRODUCTION, summary, *bodies]) + "\n"


def _pocket(found: dict[str, Any]) -> Iterator[Section]:
    if "pocket" in found:
        each = found["pocket"]
        judged = tuple(figure for figure in each["figures"] if "bar" in figure)
        read = [figure for figure in each["figures"] if READS in figure["name"]]
        about = (f"`python -m benchmarks.quality.pocket`: models, each patch alone, and their stacks, on up to {each['n']}\n"
                 f"held-out prompts a domain at temperature {each['temperature']:g}; intervals are 95 % bootstrap over prompts.\n"
                 "Figures without a bar are in [pocket.json](../benchmarks/results/pocket.json), but for the last, in nats a\n"
                 "token, which say how well comments read: the reference is calm and loses least on its own; the base has\n"
                 "another tone.")
        yield Section("Pocket models and patches", (about, bars([*judged, *read]), _made(each)), judged)


def _sealed(found: dict[str, Any]) -> Iterator[Section]:
    """The sealed prompts beside the held-out ones; what falls is said."""
    if "sealed" in found and "figures" in found["sealed"]:
        each, before = found["sealed"], {figure["name"]: figure for figure in found.get("pocket", {}).get("figures", [])}
        judged = tuple(figure for figure in each["figures"] if "bar" in figure)
        times = "; ".join(f"{note['date']} at commit {note['commit'][:12]}" for note in each["opened"])
        fell = [f"- {_name(one)}: {number(before[one['name']]['value'])} on held-out prompts, {number(one['value'])} here"
                for one in judged if one["met"] is False and before.get(one["name"], {}).get("met")]
        said = "\n\n" + "\n".join(fell) if fell else "none."
        yield Section("Pocket models and patches on sealed prompts", (
            "`python -m benchmarks.quality.pocket --sealed`: words and sentence frames that no model, patch or choice has seen.\n"
            f"Opened: {times}.", f"Bars that the held-out prompts meet and these miss: {said}", bars(judged), _made(each)),
                      judged)


def _methods(found: dict[str, Any]) -> Iterator[Section]:
    for each in (found[name] for name in ("methods", "methods-refusal") if name in found):
        dials, data = {"domain": "toxicity", **each["dials"]}, each["data"]
        about = _METHODS.format(**dials, pairs=dials["rows"] // 2, learn=data["SFT rows"], preferred=data["DPO pairs"],
                                losses=data["rows losses are read on"])
        parts = (about, *tables(each["rows"]), *_better(each["rows"]), bars(each["figures"]), _made(each))
        yield Section(f"Methods side by side: {dials['domain']}", parts, tuple(each["figures"]))


def _better(rows: Sequence[Figure]) -> Iterator[str]:
    """Who does better than what is shipped, said in words whatever comes out."""
    ours = next((row for row in rows if row["name"] == "ours, recipe for a patch alone"), None)
    for what, sign in (("gap closed", 1), ("benign refused", -1), ("benign perplexity / base", -1),
                       ("KL to base on benign", -1)):
        if ours:
            mine = ours["figures"][what][0]
            names = [row["name"] for row in rows if row is not ours and row["name"] not in ("base", "reference")
                     and what in row["figures"] and sign * (row["figures"][what][0] - mine) > 0]
            yield f"Better than ours by the recipe for a patch alone in *{what}* ({number(mine)}): {', '.join(names) or 'none'}."


def _by_group(found: dict[str, Any]) -> Iterator[Section]:
    for name, title in BY_GROUP.items():
        if name not in found:
            continue
        each = found[name]
        parts: list[str] = [each.get("about", "One dial at a time; everything else as in the first row of its group.")]
        groups = dict.fromkeys(row["group"] for row in each["rows"])
        if len(groups) < each.get("groups", 0):
            parts.append(f"**Not finished**: {len(groups)} of {each['groups']} groups, the last of these perhaps in part.")
        judged = tuple(each.get("figures", ()))
        yield Section(title, (*parts, *([bars(judged)] if judged else []), *_grouped(each["rows"]), _made(each)),
                      tuple(figure for figure in judged if figure["bar"]))


def _gates(found: dict[str, Any]) -> Iterator[Section]:
    if "gates" in found:
        each = found["gates"]
        patches = f"Patches: {', '.join(f'{name} {words}' for name, words in each['patches'].items())}."
        yield Section("Gates", (each["about"], patches, *_grouped(each["rows"]), _made(each)))


def _grouped(rows: Sequence[Figure]) -> Iterator[str]:
    """Tables of rows by group, each under its heading."""
    for group in dict.fromkeys(row["group"] for row in rows):
        yield f"### {group}"
        yield from tables([row for row in rows if row["group"] == group])


def _stacks(found: dict[str, Any]) -> Iterator[Section]:
    if "stacks" in found:
        each = found["stacks"]
        parts: list[str] = [_STACKS.format(**each["plan"], turns=len(each["plan"]["rounds"]), order=", ".join(each["order"]))]
        if len(each["rows"]) < each["expected"]:
            parts.append(f"**Not finished**: {len(each['rows'])} of {each['expected']} rows.")
        parts.append(bars(each["figures"]))
        for group in dict.fromkeys(row["group"] for row in each["rows"]):
            rows = [row for row in each["rows"] if row["group"] == group]
            parts += [f"### {group}", *tables([{**row, "note": ""} for row in rows])]
            if whole := [row for row in rows if row["name"].startswith(f"{GOAL}, parallel")]:
                single = [{"name": f"{name}: {each['policies'][name]}", "figures": ways}
                          for name, ways in whole[0]["patches"].items()]
                parts += [f"Patch by patch, {whole[0]['name']}:", *tables(single)]
        yield Section("Stacks of 2, 4, 8 and 16", (*parts, _made(each)), tuple(each["figures"]))


def _speeds(found: dict[str, Any]) -> Iterator[Section]:
    for name, title in SPEED.items():
        if name in found:
            figures = found[name]["figures"]
            judged = tuple(figure for figure in figures if figure.get("bar"))
            asked = found[name]["made_with"].get("command", f"python -m benchmarks.speed.{name}")
            what = ("The slowest or largest of n with the range, of rates the median" if name.startswith("page")
                    else "Medians with quartiles over n repeats")
            about = f"`{asked}`. {what}.{LIMITS.get(name, '')}"
            yield Section(title, (about, bars(figures), _made(found[name])), judged)


def bars(figures: Sequence[Figure]) -> str:
    """A table of figures, each beside its bar."""
    head = ["| what | value | interval | n | bar | |", "|---|---|---|---|---|---|"]
    return "\n".join(head + [
        f"| {_name(each)} | {value(each)} | {number(each['low'])} to {number(each['high'])} | {each['n']} | "
        f"{bar(each)} | {VERDICT[each['met']] if each.get('bar') else ''} |" for each in figures])


def tables(rows: Sequence[Figure]) -> Iterator[str]:
    """Rows of {"name", "figures": {column: number or [value, low, high, n]}, "note"}, in tables that fit a page."""
    columns = list(dict.fromkeys(column for row in rows for column in row["figures"]))
    for at in range(0, len(columns), COLUMNS):
        yield _table(rows, columns[at:at + COLUMNS])
    notes = [f"- {row['name']}: {row['note']}" for row in rows if row.get("note")]
    if notes:
        yield "\n".join(notes)


def _table(rows: Sequence[Figure], columns: Sequence[str]) -> str:
    counts = {column: {row["figures"][column][3] for row in rows if isinstance(row["figures"].get(column), list)}
              for column in columns}
    # one n for a whole column stands above it
    heads = [f"{column} (n = {next(iter(n))})" if len(n) == 1 else column for column, n in counts.items()]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join(lines + [f"| {row['name']} | " + " | ".join(
        _cell(row["figures"].get(column), alone=len(counts[column]) > 1) for column in columns) + " |" for row in rows])


def _cell(value: Any, *, alone: bool) -> str:
    if value is None:
        return "-"
    if not isinstance(value, list):
        return number(value)
    middle, low, high, n = value
    return f"{number(middle)} ({number(low)} to {number(high)}{f', n = {n}' if alone else ''})"


def number(value: float) -> str:
    """Whole numbers in full; others with three digits that mean something, and no exponent."""
    if value != value:  # NaN: there was nothing to measure
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{round(value):,}"
    said = f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
    return said.removeprefix("-") if not said.strip("-0.") else said


def value(each: Figure) -> str:
    """A figure's value, with as many digits as tell a miss from its bar."""
    said = number(each["value"])
    for digits in range(4, 10):
        if each.get("met") is not False or float(said.replace(",", "")) != float(each["bar"].split()[1]):
            break
        said = f"{each['value']:.{digits}f}"
    return said


def bar(each: Figure) -> str:
    """A figure's bar, in code so that Markdown leaves it alone."""
    return f"`{each['bar']}`" if each.get("bar") else ""


def _name(each: Figure) -> str:
    unit = each.get("unit", "")
    return f"{each['name']} ({unit})" if unit and unit != "x" else str(each["name"])


def _made(each: dict[str, Any]) -> str:
    """What figures were made with, as far as their file says."""
    made, said = each.get("made_with", {}), []
    for name in ("commit", "date", "split", "judges", "machine"):
        fact = made.get(name, NOT_RECORDED)
        told = f"{name} " if name != "machine" else ""
        said += [f"{told}{k} {str(v)[:12]}" for k, v in fact.items()] if isinstance(fact, dict) else [f"{name} {fact[:12]}"]
    quick = "A quick run on a toy: these figures say that it runs and no more. " if each.get("quick") else ""
    return f"{quick}Made with: {', '.join(said)}."


_INTRODUCTION = """# Results

Written by `python docs/make_results.py` from the files in [benchmarks/results](../benchmarks/results), which the commands
named below write. Nothing here is edited by hand: bars that are missed and dials that did not help stay in."""

_METHODS = """\
`python -m benchmarks.quality.methods`: the pocket base, domain {domain}, one run on one machine. All methods learn from the same
files: {learn} safe replies sampled from the reference for SFT, {preferred} pairs for DPO, dealt in the same batches in the same
order, {sft_steps} SFT steps of {rows} rows and {dpo_steps} DPO steps of {pairs} pairs with an SFT term of the same weight. The
DPO anchor of each is itself as SFT left it. Learning rates: the best of a grid by the loss on {losses} held reference replies
after {pilot_steps} SFT steps (prompt tuning and ours {prefix_rates}, LoRA {lora_rates}; a grid grows while its best is at the
edge, where a row names the rates tried); DPO at half of it. The *recipe for a patch alone* (assets/recipes/alone, in as many
steps as here) keeps its own rates, its KL term, the reference's distributions as targets and, where it has them, on-policy steps
in place of DPO, which peft + trl have not; its losses on drawn tokens are therefore not comparable. Of the other methods those
with a *KL term* in their name are held to the base, with that recipe's weight. The *shipped patch* is the one in assets/patches
at its calibrated strength: three rounds of training, two of them beside the other patches.

Read on {n} held-out prompts a domain at temperature 0.8 with 95 % bootstrap intervals; `gap closed` is the share of the way from
base to reference. Perplexity and KL are on the base's own replies to harmless requests. The written prompt is the text that
prompt tuning and ours start from, before every prompt. Memory is the peak of a process of its own, Python and libraries included
(trl brings more of these along); `above start` counts from when libraries and base were loaded. Training time includes making
ready and, for ours, saving. Decoding is {tokens} tokens after the prompt over those of the bare base, medians with quartiles; at
4 million parameters a step is mostly overhead, which weighs on LoRA unmerged (the larger shape is in decode.json)."""

_STACKS = """\
`python -m benchmarks.quality.stacks`: sixteen patches of the pocket base, each with prompts of its own kind or topic on which
its effect is counted, read on up to {n} held-out prompts a group at temperature 0.8, seed {seed}, 95 % bootstrap intervals over
prompts. Stacks grow in one seeded order: {order}. An effect is the share of replies that do what the patch is for (for bias 1 is
even, 0 always the stereotype); *lost* is the mean over the stack's patches of their effect alone minus that in the stack, on the
same prompts with the same noise, and *most lost* that of the worst of them: with many patches the worst is worse by chance
alone. Refusals, perplexity and KL are on harmless requests that no patch is to change. Toxicity, bias and refusal are the
shipped patches in *vendors who never met*, where these three know each other and nobody else does; names that end in -b are a
second vendor's, of another seed. Those *trained to live together* do so in {turns} rounds, and patches of the eight that lose
more than 2 points on training prompts in up to {further} more: 5 points at first, changed after a look at the held-out figures
of this very stack, which are flattered by that. All hold how others' replies begin (`hold_lead`), which costs the patches
against one kind of harmful request some of what they do alone. *Gates on*: each patch has a gate, fitted on training prompts,
that leaves it off for prompts it is not for; every prompt here is of one group, which flatters gates. Their thresholds keep a
patch on for none of the others' dev prompts that recall does not ask for: with the command's own default of 1 % the gates of
toxicity and bias were on for a quarter to a third of the held stories (seen here, and then changed). A joint patch is compared
with the single patches of vendors who never met."""


if __name__ == "__main__":
    write_text(PAGE, page())
