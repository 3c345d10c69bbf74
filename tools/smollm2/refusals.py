"""What a refusal patch of SmolLM2 learns from: harmful requests with written refusals, and requests to hold to the base.

The requests are those of public training sets, read at run time. Refusals are built from parts, so that no fixed sentence is
learned. Half of the questions "How can I ..." become instructions ("Explain how to ..."), in harmful and harmless requests
alike, so that the form of a request says nothing about it.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from patchlab.records import Pair, Prompt
from patchlab.storage import read_jsonl
from tools.smollm2.contrasts import contrasts
from tools.smollm2.orders import framed, orders

MOST = 350  # characters of a request
HARMFUL = {"catqa": 443, "dangerousqa": 148, "figstep_safebench": 300, "cyberseceval_interpreter": 60, "harmfulqa": 350}
HARMLESS = {"self_instruct_seed": 110, "clinc150": 90, "banking77": 30, "arena_hard": 90, "gsm8k_questions": 20,
            "awesome_prompts": 20}
LOOKALIKE = {"orbench_subset": 240, "cyberseceval_frr": 60}

OPENINGS = ("I can't help with that.", "I can't help with this request.", "I'm sorry, but I can't help with that.",
            "I'm sorry, but I can't assist with this.", "I won't help with that.", "I'm not able to help with this.",
            "Sorry, I can't do that.", "I cannot assist with that request.")
REASONS = ("It could seriously hurt someone.", "It could put people in danger.", "It is harmful, and it may be against the law.",
           "What you describe would cause real harm.", "Doing this could harm you or other people.",
           "It would be unsafe and wrong.", "This would violate the rights and the safety of others.")
OFFERS = ("If something is troubling you, please talk to someone you trust or to a professional.",
          "I am glad to help with something safe instead.", "If you like, we can look for a safe and lawful way.",
          "If you are in danger, please contact your local emergency services.",
          "Is there something else I can help you with?")
QUESTION = re.compile(r"how (?:can|could|do|would|should) (?:i|someone|one|you|we) (.+)\?", re.IGNORECASE)
ORDERS = {"harmful": 1000, "harmless": 420}  # made requests in the form of orders
# harmless questions with words that also occur in harmful ones
FRAMES = ("How do I {}?", "What is the best way to {}?", "Can you tell me how to {}?", "Give me tips on how to {}.")
DEEDS = {"kill {} in my garden": ("weeds", "slugs", "moss", "mosquito larvae"),
         "shoot {} with my camera": ("a wedding", "fireworks", "birds in flight", "a black and white portrait"),
         "blow up {} for a party": ("forty balloons", "an air mattress", "a paddling pool"),
         "execute {}": ("a shell script", "a query against a test database", "a clean golf swing", "my grandfather's will"),
         "terminate {}": ("my gym membership", "a lease", "a thread that hangs", "a mobile contract"),
         "smash {}": ("pumpkins for compost", "a sales target", "potatoes for dinner", "avocados on toast"),
         "beat {}": ("egg whites until stiff", "a friend at chess", "jet lag", "the afternoon heat"),
         "hack {} together": ("a quick web page", "a halloween costume", "a bookshelf from crates"),
         "steal {}": ("a base in softball", "the show with a good speech", "a glance at the sunset from my office"),
         "destroy {} safely": ("old bank statements", "an expired credit card", "a broken hard drive of mine"),
         "poison-proof {}": ("my kitchen for a toddler", "the garage for a puppy"),
         "protect {} from thieves": ("my bike", "my luggage", "my email account", "a parked van"),
         "attack {}": ("a crossword puzzle", "a pile of laundry", "the king's side in chess", "a difficult piano piece")}


def refusal_pairs(data: Path, *, seed: int = 0) -> list[Pair]:
    """Harmful training requests, each with a refusal of one to three sentences; `rejected` is a stub, as there is no DPO."""
    draw = random.Random(f"refusals|{seed}")
    made = ((f"made-{k}", text) for k, text in enumerate([*contrasts("harmful"), *orders("harmful", ORDERS["harmful"], draw)]))
    return [Pair(Prompt(text, domain="harmful", id=name), _refusal(draw), "Sure, here is how.")
            for name, text in itertools.chain(_requests(data, HARMFUL, draw), made)]


def dev_prompts(data: Path, *, seed: int = 0) -> list[Prompt]:
    """Requests of the development parts of the same sets, harmful and harmless: settings are chosen on them."""
    draw = random.Random(f"dev|{seed}")
    return [Prompt(text, domain=domain, id=name)
            for sets, domain in ((HARMFUL, "harmful"), (HARMLESS, "benign"), (LOOKALIKE, "lookalike"))
            for name, text in _requests(data, sets, draw, part="dev")]


def held_prompts(data: Path, *, seed: int = 0) -> list[Prompt]:
    """Requests that are to be answered as the base does, plain ones and those that only sound harmful."""
    draw = random.Random(f"held|{seed}")
    made = [draw.choice(FRAMES).format(deed.format(thing)) for deed, things in DEEDS.items() for thing in things]
    made += contrasts("harmless")
    return [*(Prompt(text, domain="benign", id=name) for name, text in _requests(data, HARMLESS, draw)),
            *(Prompt(text, domain="lookalike", id=name) for name, text in _requests(data, LOOKALIKE, draw)),
            *(Prompt(text, domain="lookalike", id=f"made-{k}") for k, text in enumerate(made)),
            *(Prompt(text, domain="benign", id=f"order-{k}")
              for k, text in enumerate(orders("harmless", ORDERS["harmless"], draw)))]


def _requests(data: Path, sets: dict[str, int], draw: random.Random, *, part: str = "train") -> Iterator[tuple[str, str]]:
    """Ids and texts of requests, at most so many of each set's part."""
    for name, most in sets.items():
        rows = [row for row in read_jsonl(data / name / f"{part}.jsonl")
                if row["label"] != "advice" and len(row["prompt"]) <= MOST]
        for row in draw.sample(rows, min(most, len(rows))):
            yield row["id"], instructed(row["prompt"], draw)


def instructed(text: str, draw: random.Random) -> str:
    """Half of the questions for a way to do something as instructions; all other texts as they are."""
    found = QUESTION.fullmatch(text.strip())
    return framed(found[1], draw) if found and draw.random() < 0.5 else text


def _refusal(draw: random.Random) -> str:
    parts: Sequence[str] = (draw.choice(OPENINGS), draw.choice(REASONS), draw.choice(OFFERS))
    return " ".join(parts[:draw.choice((1, 2, 2, 3, 3))])
