"""Figures of scorers on texts that were written for measuring: tests/scoring/held.

    python -m tools.scorers.held [--sealed]

`dev` is what scorers are tuned with; `sealed` is opened once, when nothing is tuned any more, and its figures are written to
assets/scorers/sealed.json with the date, the commit and the digests of the scorers.
Both are made into the same cases: every insult disguised in seven ways and hidden among calm sentences, calm texts of 5 and 12
sentences, sentences about groups with every name of a group, and replies that refuse and that answer.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from patchlab.scoring import load_scorer
from patchlab.scoring.embedded import FOLDER as SCORERS
from patchlab.scoring.table import Scorer
from patchlab.storage import write_json
from tools.scorers.figures import macro_f1

FOLDER = Path(__file__).parents[2] / "tests/scoring/held"
RESULTS = SCORERS / "sealed.json"
VOWELS = "aeiouAEIOU"
_ACCENTED = dict(zip("aeiouncyAEIOU", "áèïôùñçýÁÈÏÔÙ", strict=True))
_CYRILLIC = dict(zip("aceiopsxyACEHIKMOPTX", "асеіорѕхуАСЕНІКМОРТХ", strict=True))
_LEET = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "$", "t": "7"}

Flags = Callable[[Sequence[str]], list[bool]]


def _swapped(letters: Mapping[str, str]) -> Callable[[str], str]:
    return lambda text: "".join(letters.get(letter, letter) for letter in text)


def _long_words(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: re.sub(r"[^\W\d_]{4,}", lambda found: change(found[0]), text)


def _starred(word: str) -> str:
    return word[0] + "".join("*" if letter in VOWELS else letter for letter in word[1:])


DISGUISES: dict[str, Callable[[str], str]] = {
    "letters spaced out": _long_words(" ".join), "vowels starred": _long_words(_starred), "accents": _swapped(_ACCENTED),
    "look-alike letters": _swapped(_CYRILLIC), "digits for letters": _long_words(_swapped(_LEET)),
    "wide letters": lambda text: "".join(chr(ord(k) + 0xfee0) if "!" <= k <= "~" else k for k in text),
    "invisible characters": _long_words("\u200b".join),
}


def _rate(flags: Sequence[bool]) -> float:
    return round(float(np.mean(flags)), 4)


def toxicity_figures(held: Mapping[str, Any], flags: Flags) -> dict[str, float]:
    """The share of each kind of text that is flagged; insults should be, the rest should not."""
    rng = random.Random("held")
    insults, calm, groups = held["insults"], held["calm"], held["groups"]
    found = {"insults": _rate(flags(insults))}
    found |= {f"insults, {name}": _rate(flags([change(text) for text in insults])) for name, change in DISGUISES.items()}

    def among(text: str) -> str:
        parts = rng.sample(calm, 4)
        parts.insert(rng.randrange(5), text if text[-1] in ".!?" else f"{text}.")
        return " ".join(parts)

    found["insults, one among four calm sentences"] = _rate(flags([among(text) for text in insults * 4]))
    found["calm sentences"] = _rate(flags(calm))
    found["calm sentences, disguised"] = _rate(flags([change(text) for text in calm for change in DISGUISES.values()]))
    found["calm texts with figures, code, names, abbreviations"] = _rate(flags(held["odd"]))
    for size in (5, 12):
        found[f"calm, {size} sentences"] = _rate(flags([" ".join(rng.sample(calm, size)) for _ in range(200)]))
    for name in ("calm", "toxic"):
        found[f"sentences about groups, {name}"] = _rate(flags([frame.format(group) for frame in held[f"identity_{name}"]
                                                                for group in groups]))
    found["insults reported or rejected"] = _rate(flags(held["reported"]))
    return found


def refusal_figures(held: Mapping[str, Any], score: Callable[[Sequence[str], Sequence[str]], list[bool]]) -> dict[str, float]:
    """What is flagged among replies that refuse and that answer, and the macro-F1 of both."""
    pairs = [(*row.split(" | "), label) for label, name in enumerate(("answered", "refused")) for row in held["refusal"][name]]
    flagged = np.array(score([reply for _, reply, _ in pairs], [prompt for prompt, _, _ in pairs]))
    labels = np.array([label for *_, label in pairs])
    return {"refusals found": _rate(flagged[labels == 1]), "answers flagged": _rate(flagged[labels == 0]),
            "macro-F1": round(macro_f1(labels, flagged), 4)}


def flags(scorer: Scorer, texts: Sequence[str], prompts: Sequence[str] | None = None) -> list[bool]:
    """Whether `scorer` flags each text."""
    return [each.flagged for each in scorer.score(list(texts), prompts)]


def figures(part: str) -> dict[str, dict[str, float]]:
    """All figures of the embedded scorers on `dev` or `sealed`."""
    held = yaml.safe_load((FOLDER / f"{part}.yaml").read_text(encoding="utf-8"))
    return {**{name: toxicity_figures(held, partial(flags, load_scorer(name))) for name in ("toxicity", "toxicity-2")},
            **{name: refusal_figures(held, partial(flags, load_scorer(name))) for name in ("refusal", "refusal-2")}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; write what the sealed part gives."""
    parser = argparse.ArgumentParser(prog="python -m tools.scorers.held", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sealed", action="store_true", help="open the sealed part")
    args = parser.parse_args(arguments)
    part = "sealed" if args.sealed else "dev"
    found = figures(part)
    for name, rows in found.items():
        print(name, *(f"  {value:.3f}  {case}" for case, value in rows.items()), sep="\n")
    if args.sealed:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=FOLDER)
        write_json(RESULTS, {"part": part, "measured": datetime.now(UTC).isoformat(timespec="seconds"),
                             "commit": asked.stdout.strip(), "scorers": {name: load_scorer(name).digest for name in found},
                             "figures": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
