"""`python -m tools.walkthrough` records the walkthrough of the page: SmolLM2 with its patches, on prompts that are fixed here.

No reply is chosen: every prompt is asked once, with seed 0. Figures come from benchmarks/results/public-*.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchlab.cli.shell import run
from patchlab.engine import Lab, Sampling, load
from patchlab.patches import Stack
from patchlab.records import Message, Prompt, Reply
from patchlab.scoring import load_scorer
from patchlab.scoring.verdict import asked, verdict
from patchlab.storage import write_text
from patchlab.ui.walkthrough import RecordedRun, Said, Step, Walkthrough
from tools.walkthrough.words import BIAS, CHATTED, HARMFUL, HARMLESS, LATER, RUDE, STEPS

PROGRAM = "python -m tools.walkthrough"
HOME = Path(__file__).parents[2]
RESULTS = HOME / "benchmarks" / "results"
TITLES = {"base": "Unpatched", "patched": "Patched", "reference": "Reference"}
CHAT, TEXT = (Sampling(temperature=0.7, max_new_tokens=count, seed=0) for count in (48, 24))


class Recorder:
    """Asks the lanes of a lab and judges what they say."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.names = [each.manifest.name for each in lab.planner.installed()]
        self.refusal, self.toxicity = (load_scorer(lab.judges.first[claim]) for claim in ("refusal", "toxicity"))

    def stack(self, names: Sequence[str] | None = None) -> Stack:
        """These patches, all by default, side by side and with their gates as the page has them."""
        return dataclasses.replace(Stack.parse(",".join(names or self.names)), gates=self.lab.gates)

    def replies(self, prompt: Prompt, stack: Stack, lanes: Sequence[str]) -> list[Reply]:
        """One reply of each lane."""
        return self.lab.replies([prompt], stack=stack, lanes=lanes, sampling=CHAT if prompt.kind == "chat" else TEXT)

    def said(self, reply: Reply, *, title: str = "", note: str = "") -> Said:
        """A reply with its verdict; a text that is continued is judged for insults only."""
        refusal, toxic = (scorer.score([reply.text], [reply.prompt.text])[0] for scorer in (self.refusal, self.toxicity))
        if reply.prompt.kind == "chat":
            found = verdict(asked(reply.prompt.text), refusal, toxic)
            words, tone = found.words[:1].upper() + found.words[1:], str(found.tone)
        else:
            words, tone = ("Toxic", "bad") if toxic.flagged else ("Not toxic", "good")
        text = reply.text.strip() + (" …" if reply.stop == "length" else "")
        return Said(lane=title or TITLES[reply.lane], text=text or "(empty)", verdict=words, tone=tone, note=note)

    def trio(self, prompt: Prompt, lanes: Sequence[str] = ("base", "patched", "reference")) -> RecordedRun:
        """What the lanes say with all patches on."""
        return RecordedRun(asked=prompt.text, kind=prompt.kind,
                        said=tuple(self.said(reply) for reply in self.replies(prompt, self.stack(), lanes)))

    def orders(self, prompt: Prompt) -> RecordedRun:
        """What the patched lane says with the patches in two orders."""
        said = []
        for names in (self.names, self.names[::-1]):
            [reply] = self.replies(prompt, self.stack(names), ["patched"])
            said.append(self.said(reply, title=" + ".join(names)))
        same = "The same reply, word for word." if said[0].text == said[1].text else "The replies differ."
        return RecordedRun(asked=prompt.text, said=(said[0], said[1].model_copy(update={"note": same})))

    def later(self, prompt: Prompt) -> RecordedRun:
        """The prompt behind harmless exchanges, whose replies are the unpatched model's."""
        earlier: list[Message] = []
        for text in CHATTED:
            [reply] = self.replies(Prompt(text, earlier=tuple(earlier)), Stack(), ["base"])
            earlier += [Message("user", text), Message("assistant", reply.text.strip())]
        prompt = dataclasses.replace(prompt, earlier=tuple(earlier))
        said = [self.said(reply) for reply in self.replies(prompt, self.stack(), ("base", "patched"))]
        [ungated] = self.replies(prompt, dataclasses.replace(self.stack(), gates=False), ["patched"])
        return RecordedRun(asked=prompt.text, said=(*said, self.said(ungated, title="Patched, gates off")),
                           earlier=tuple(message.content for message in earlier))

    def off(self, prompt: Prompt) -> RecordedRun:
        """The unpatched model before, the patched one, and the unpatched model again."""
        [before], [patched], [after] = (self.replies(prompt, stack, ["patched"])
                                        for stack in (Stack(), self.stack(), Stack()))
        same = "The same reply, word for word." if before.text == after.text else "The replies differ."
        return RecordedRun(asked=prompt.text, said=(self.said(before, title="Unpatched"), self.said(patched, title="Patched"),
                                                 self.said(after, title="Unpatched again", note=same)))


def recorded(lab: Lab, *, results: Path = RESULTS) -> Walkthrough:
    """Ask everything and put it into steps."""
    ask = Recorder(lab)
    size = sum(weight.numel() for weight in lab.base.model.parameters())
    patch = lab.planner.installed()[0].manifest
    exchanges = {"gap": (ask.trio(HARMFUL, ["base"]),), "before": (ask.trio(HARMFUL), ask.trio(RUDE), ask.trio(BIAS)),
                 "cost": (ask.trio(HARMLESS, ["base", "patched"]),), "stack": (ask.orders(HARMFUL),),
                 "chat": (ask.later(LATER),), "off": (ask.off(HARMFUL),)}
    measured = {"patch": ((f"{patch.length}", "learned embeddings"),
                          (f"{patch.length * patch.width / size:.3%}", f"of the {size / 1e6:.0f} million numbers of this model; "
                           "0.003 % of a model with 7 billion"), ("0", "numbers of the model changed")), **figures(results)}
    steps = tuple(Step(**words, exchanges=exchanges.get(name, ()), figures=measured.get(name, ()))
                  for name, words in STEPS.items())
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=HOME, capture_output=True, text=True, check=False)
    return Walkthrough(model=lab.base.name, recorded=datetime.date.today().isoformat(), commit=commit.stdout.strip(),
                       patches={each.manifest.name: each.manifest.version for each in lab.planner.installed()}, steps=steps)


def figures(folder: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """The measured numbers of the steps, as shares with their intervals."""
    by: dict[str, dict[str, Any]] = {each["name"]: each for path in sorted(folder.glob("public-*.json"))
                                     for each in json.loads(path.read_text(encoding="utf-8"))["figures"]}

    def share(name: str, words: str) -> tuple[tuple[str, str], ...]:
        if name not in by:
            return ()
        each = by[name]
        return ((f"{each['value']:.0%}", f"{words} ({each['low']:.0%} to {each['high']:.0%}, n = {each['n']})"),)

    return {"gap": share("base refuses harmful", "of harmful requests of public suites are refused by the unpatched model"),
            "before": share("refusal: refuses harmful", "of these requests are refused with the patch")
            + share("toxicity: toxic on RealToxicityPrompts, fallen by", "fewer toxic continuations of rude texts with the patch")
            + share("bias: |log-odds of he and she|, fallen by", "less preference for he or she by occupation with the patch"),
            "cost": share("refusal: harmless answered as the base, gate off",
                          "of harmless requests are answered exactly as before")
            + share("refusal: refuses harmless, above the base", "more of them are refused than before")
            + share("refusal: refuses XSTest safe", "of harmless requests that sound harmful are refused")}


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    top.add_argument("--out", type=Path, default=HOME / "assets" / "walkthrough" / "smollm2.json", metavar="FILE")
    top.set_defaults(run=_record)
    return top


def _record(args: argparse.Namespace) -> None:
    write_text(args.out, recorded(load("smollm2")).model_dump_json(indent=1) + "\n")
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    return run(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
