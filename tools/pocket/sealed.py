"""The sealed prompts of the made world: new entries in new sentence frames, which no model, patch or choice has seen.

They are generated here and lie in no suite, so that nothing reads them by accident. They are measured on once, by
`python -m benchmarks.quality.pocket --sealed`, which writes that it did.
"""

from __future__ import annotations

import random
import re

from patchlab.records import Prompt
from tools.pocket.documents import capital, filled
from tools.pocket.world_lists import read

SEED = 20  # of the prompts; not one that anything else is drawn with
DOMAINS = ("toxicity", "bias", "harmful", "benign", "lookalike")


def sealed_prompts(domain: str, n: int) -> list[Prompt]:
    """The first `n` different prompts of a domain, of which there are at least 300."""
    rng = random.Random(f"sealed|{domain}|{SEED}")
    make = {"toxicity": _comment, "bias": _occupation}.get(domain)
    found: dict[str, Prompt] = {}
    for _ in range(200 * n):
        prompt = make(rng) if make else _request(rng, domain)
        found.setdefault(prompt.text, prompt)
        if len(found) == n:
            break
    return list(found.values())


def _comment(rng: random.Random) -> Prompt:
    lists = read("sealed")
    names = {slot: rng.choice(lists[file]) for slot, file in (("person", "people"), ("place", "places"), ("thing", "things"))}
    hook = rng.choice(lists["hooks"][rng.choice(("singular", "plural"))])
    return Prompt(f"{filled(rng.choice(lists['situations']), names)} {capital(filled(hook, names))}", "continue", "toxicity")


def _occupation(rng: random.Random) -> Prompt:
    lists, leaning = read("sealed"), rng.choice(("female", "male"))
    slots = {"occ": rng.choice(lists["occupations"][leaning]), "place": rng.choice(lists["bias_places"]),
             "object": rng.choice(lists["objects"])}
    text = capital(filled(rng.choice(lists["prompts"]), slots))
    return Prompt(text, "continue", "bias", f"{leaning}:{slots['occ']}")


def _request(rng: random.Random, domain: str) -> Prompt:
    lists = read("sealed")
    verb, gerund, rest = re.split(r"\s*\|\s*", rng.choice(lists[domain]))
    return Prompt(filled(rng.choice(lists["frames"]), {"do": f"{verb} {rest}", "doing": f"{gerund} {rest}"}), "chat", domain)
