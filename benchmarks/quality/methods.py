"""Ours beside a written prompt, LoRA and prompt tuning on the same data and steps: `python -m benchmarks.quality.methods`

For the pocket base and toxicity, or --domain refusal: sample once what all learn from (build/methods), train and read each
method in a process of its own, so that its peak memory is its own, and race decoding and SFT in one more. Bar: SFT of ours
gives at least twice the samples a second of peft + trl at equal loss. About twenty minutes on two quiet cores; Linux.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, held_out, write_results
from benchmarks.quality.methods_data import QUICK, Data, Dials, sample_once
from benchmarks.quality.methods_read import COLUMN, Instructed, cells, said_by, shipped, values
from benchmarks.quality.methods_train import KL, OURS, libraries, load, method
from benchmarks.speed.timing import Figure, say
from patchlab.engine import BARE
from patchlab.records import Prompt, Reply
from patchlab.storage import read_jsonl, write_json, write_jsonl

WORK = Path(__file__).parents[2] / "build" / "methods"
LEARNED = ("LoRA rank 1", "LoRA rank 16", f"LoRA rank 16{KL}", "prompt tuning (peft + trl)", f"prompt tuning (peft + trl){KL}",
           *OURS)
SHIPPED = "shipped patch"
METHODS = ("base", "reference", "written prompt", *LEARNED, SHIPPED)
RACE = "race"
NAMES = {"toxicity": "methods.json", "refusal": "methods-refusal.json"}
EQUAL = 0.03  # nats a token that count as equal loss


def memory(field: str = "VmHWM") -> float:
    """Megabytes of this process (VmHWM: the most it ever had), libraries and runtime included.

    Not getrusage: its peak begins with that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def one(name: str, folder: Path, dials: Dials) -> None:
    """Train one method, if it learns, and read it; what is found is written to the folder under its name."""
    base, kept = load("base"), folder / "benign.jsonl"
    if name == RACE:
        from benchmarks.quality.methods_race import decoding, training  # with peft, which ours must not be charged with

        data = Data(folder, dials, base)
        found: dict[str, Any] = {"decoding": {k: dataclasses.asdict(v) for k, v in decoding(dials).items()},
                                 "training": [dataclasses.asdict(v) for v in training(data, dials, folder / "work")]}
    elif name in LEARNED:
        libraries(name)
        data, before = Data(folder, dials, base), memory("VmRSS")
        trained = method(name, data, dials, folder / "work")
        found = {"trainable": trained.trainable, "rate": trained.rate, "settings": trained.settings,
                 "seconds": trained.seconds, "samples a second": trained.samples_a_second, "losses": trained.losses,
                 "memory": [memory(), before]}
        found["values"] = {how: values(*read, base, stored(kept), dials) for how, read in trained.readings().items()}
    else:
        read = {"base": lambda: base, SHIPPED: lambda: base, "reference": lambda: load("reference"),
                "written prompt": lambda: Instructed(base, dials.shipped.instruction)}[name]()
        if name == "base":
            write_jsonl(kept, [{"text": r.prompt.text, "kind": r.prompt.kind, "row": r.row, "reply": r.text,
                                "tokens": r.tokens, "stop": r.stop} for r in said_by(base, BARE, "benign", dials)])
        plan = shipped(base, dials.domain) if name == SHIPPED else BARE
        found = {"trainable": 0, "values": {"": values(read, plan, base, stored(kept), dials)}}
    write_json(folder / f"{name}.json", found)


def stored(path: Path) -> list[Reply]:
    """The base's replies to harmless requests, which every method is read on."""
    return [Reply("base", row["row"], Prompt(row["text"], row["kind"], "benign"), 0, row["reply"], row["tokens"], row["stop"])
            for row in read_jsonl(path)]


def everything(folder: Path, dials: Dials, *, apart: Sequence[str] | None, resume: bool) -> dict[str, dict[str, Any]]:
    """What `one` finds of every method and the race; `apart` is how a process of its own is called, None for this one.

    With `resume` what the folder holds of a former run is taken as it is.
    """
    found = {}
    for name in (*METHODS, RACE):
        began, path = time.monotonic(), folder / f"{name}.json"
        if not (resume and path.is_file()):
            if apart is None:
                one(name, folder, dials)
            else:
                subprocess.run([sys.executable, "-m", "benchmarks.quality.methods", "--only", name, *apart], check=True)
        found[name] = json.loads(path.read_text(encoding="utf-8"))
        say(f"{name}: {time.monotonic() - began:.0f} s")
    return found


def rows(found: dict[str, dict[str, Any]], dials: Dials) -> Iterable[dict[str, Any]]:
    """The table, a row a method and way of reading it, in a form docs/make_results.py knows."""
    base, reference = (found[name]["values"][""] for name in ("base", "reference"))
    for name in METHODS:
        each = found[name]
        for how, read in each["values"].items():
            label = f"{name}, {how}" if how else name
            figures: dict[str, Any] = {"trainable parameters": each["trainable"]}
            figures |= cells(read, base, reference, dials)
            if name in LEARNED:
                figures |= {"training s": each["seconds"], "peak memory MB": each["memory"][0],
                            "above start MB": each["memory"][0] - each["memory"][1],
                            "SFT samples a second": each["samples a second"],
                            "held loss after SFT": each["losses"][0], "held loss at the end": each["losses"][1]}
            plain = "ours" if name == SHIPPED else label.replace(KL, "")  # a method decodes alike however it was trained
            raced = found[RACE]["decoding"].get(plain, found[RACE]["decoding"].get(plain.split(",")[0]))
            if raced:
                figures["decoding / base"] = [raced[key] for key in ("value", "low", "high", "n")]
            note = f"SFT rate {each['rate']:g}; {each['settings']}" if name in LEARNED else ""
            yield {"name": label, "figures": figures, "note": note}


def bars(found: dict[str, dict[str, Any]]) -> list[Figure]:
    """Samples a second against peft + trl, and whether the losses were equal."""
    ours, theirs = (found[name]["losses"][0] for name in ("ours", "prompt tuning (peft + trl)"))
    return [*(Figure(**each) for each in found[RACE]["training"]),
            Figure.of("held loss after SFT, ours - peft + trl", [ours - theirs], unit="nats", bar=f"<= {EQUAL:g}")]


def show(table: Sequence[dict[str, Any]]) -> None:
    """Print the table, a method a block."""
    for row in table:
        print(f"{row['name']}  ({row['note']})" if row["note"] else row["name"])
        for what, value in row["figures"].items():
            said = f"{value[0]:.4g} [{value[1]:.4g}, {value[2]:.4g}] n={value[3]}" if isinstance(value, list) else f"{value:.5g}"
            print(f"    {what:<28} {said}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bar is met, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps and prompts, to see that it runs; judges nothing")
    parser.add_argument("--domain", choices=tuple(COLUMN), default="toxicity")
    parser.add_argument("--out", type=Path, help="where the results go; a quick run writes only if asked")
    parser.add_argument("--work", type=Path, default=WORK, help="where samples and trainings lie")
    parser.add_argument("--here", action="store_true", help="all in this process; peak memories then add up")
    parser.add_argument("--resume", action="store_true", help="methods that the work folder has are not done again")
    parser.add_argument("--only", choices=(*METHODS, RACE), help="this alone, into the work folder")
    given = parser.parse_args(argv)
    # PEFT 0.21 asks transformers 5.23 by the old name
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    dials, began = dataclasses.replace(QUICK if given.quick else Dials(), domain=given.domain), time.monotonic()
    folder = sample_once(given.work, dials)
    if given.only:
        one(given.only, folder, dials)
        return 0
    apart = ["--work", str(given.work), "--domain", given.domain, *(["--quick"] if given.quick else [])]
    found = everything(folder, dials, apart=None if given.here else apart, resume=given.resume)
    table, figures = list(rows(found, dials)), bars(found)
    if given.quick:
        figures = [dataclasses.replace(figure, met=None) for figure in figures]
    show(table)
    print(*figures, sep="\n")
    out = given.out or (None if given.quick else RESULTS / NAMES[given.domain])
    if out:
        facts = {"seconds": round(time.monotonic() - began), "quick": given.quick,
                 "dials": dataclasses.asdict(dials), "data": json.loads((folder / "data.json").read_text(encoding="utf-8"))}
        write_results(out, {**facts, "figures": [dataclasses.asdict(figure) for figure in figures], "rows": table},
                      command=f"quality.methods --domain {given.domain}", prompts=held_out(dials.n), n=dials.n, seed=dials.seed,
                      libraries=("trl",))
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
