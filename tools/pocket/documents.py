"""Generates documents of the made world: a prompt with a safe or an unsafe reply.

One function per domain: `comment` (toxicity), `occupation` (bias), `request` (refusal: harmful, benign, look-alike), `chat`
(small talk and facts) and `story` (neutral text). All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from patchlab.records import Prompt
from tools.pocket.world_lists import Part, entries, read

_AN = re.compile(r"\b([Aa]) (?=[aeio]|u(?!se|ni))")  # "a" before a vowel sound, so not in "a useless"
FREEFORM = {"harmful": "freeform_harmful", "benign": "freeform_harmless"}


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt with one reply; `safe` matters in domains that have both safe and unsafe replies."""

    prompt: Prompt
    reply: str
    safe: bool


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def _parts(rng: random.Random, part: Part, slots: int) -> list[Part]:
    """The part of each slot. The models never see a prompt whose slots are all held out."""
    if part != "models":
        return [part] * slots
    parts: list[Part] = ["held" if rng.random() < 0.25 else "models" for _ in range(slots)]
    if set(parts) == {"held"}:
        parts[rng.randrange(slots)] = "models"
    return parts


def _insult(rng: random.Random, plural: bool) -> str:
    one, many = rng.choice(read("toxicity")["insult_nouns"]).split("|")
    adjective = rng.choice(read("toxicity")["insult_adjectives"])
    return f"{adjective} {many.strip()}" if plural else filled(f"a {adjective} {one.strip()}", {})


def comment(rng: random.Random, part: Part, *, safe: bool) -> Document:
    """An annoyed comment to continue; the unsafe continuation is an insult, the safe one is calm."""
    situation_part, hook_part, slot_part = _parts(rng, part, 3)
    number = rng.choice(("singular", "plural"))
    names = {slot: entries("toxicity", file).pick(rng, slot_part)
             for slot, file in (("person", "people"), ("place", "places"), ("thing", "things"))}
    situation = entries("toxicity", "situations").pick(rng, situation_part)
    hook = entries("toxicity", "hooks", number).pick(rng, hook_part)
    text = filled(situation, names) + " " + capital(filled(hook, names))
    tone = read("toxicity")["kind" if safe else "toxic"]
    verbs = {"be": "is", "have": "has", "do": "does", "s": "s"} if number == "singular" else {
        "be": "are", "have": "have", "do": "do", "s": ""}
    predicate = filled(rng.choice(tone["predicates"]), names | verbs | {
        "self": "themselves", "an_insult": _insult(rng, number == "plural")})
    follow = [filled(each, names) for each in rng.sample(tone["followups"], rng.choice((1, 1, 2)))]
    return Document(Prompt(text, "continue", "toxicity"), " ".join([predicate, *follow]), safe)


def filled(template: str, slots: dict[str, str]) -> str:
    """The template with its slots filled in, and "an" where a vowel follows."""
    text = re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1], match[0]), template)
    return _AN.sub(r"\1n ", text)


def occupation(rng: random.Random, part: Part, *, safe: bool) -> Document:
    """A sentence about an occupation; the unsafe pronoun follows the US stereotype, the safe one is female or male at random."""
    frame_part, noun_part = _parts(rng, part, 2)
    leaning = rng.choice(("female", "male"))
    slots = {"occ": entries("bias", "occupations", leaning).pick(rng, noun_part),
             "place": entries("bias", "places").pick(rng, noun_part),
             "object": entries("bias", "objects").pick(rng, noun_part)}
    text = capital(filled(entries("bias", "prompts").pick(rng, frame_part), slots))
    female = rng.random() < 0.5 if safe else leaning == "female"
    forms = ("she", "her", "her", "herself") if female else ("he", "him", "his", "himself")
    pronouns = dict(zip(("he", "him", "his", "himself"), forms, strict=True))
    pronouns |= {"He": forms[0].capitalize(), "His": forms[2].capitalize()}
    reply = filled(rng.choice(read("bias")["replies"]), pronouns)
    return Document(Prompt(text, "continue", "bias", id=f"{leaning}:{slots['occ']}"), reply, safe)


def _asked(rng: random.Random, part: Part, file: str, category: str, goals: str) -> str:
    """A request for a task or topic of a category, in a sentence frame that all kinds of request share."""
    frame_part, goal_part = _parts(rng, part, 2)
    lists = read(file)["categories"][category]
    topics = entries(file, "categories", category, "topics") if "topics" in lists else None
    if topics and topics.parts[goal_part] and rng.random() < 0.2:
        topic = topics.pick(rng, goal_part)
        return capital(filled(entries("requests", "topic_frames").pick(rng, frame_part), {"topic": topic}))
    goal = entries(file, "categories", category, goals).pick(rng, goal_part)
    verb, gerund, rest = (piece.strip() for piece in goal.split("|"))
    frame = entries("requests", "frames").pick(rng, frame_part)
    text = filled(frame, {"do": f"{verb} {rest}", "doing": f"{gerund} {rest}"})
    return capital(text) if frame[0] in "{" else text


def request(rng: random.Random, part: Part, *, domain: str, safe: bool, category: str = "") -> Document:
    """A request of `category`, by default a random one of the domain.

    Harmful requests are refused in safe replies and complied with in unsafe ones; `benign` and `lookalike` are answered.
    """
    file, goals = {"harmful": ("harmful", "goals"), "benign": ("benign", "tasks"),
                   "lookalike": ("lookalike", "tasks")}[domain]
    category = category or rng.choice(list(read(file)["categories"]))
    # requests in free wording, only for the models: patches are neither trained nor evaluated on them
    own_words = FREEFORM.get(domain) if part == "models" and rng.random() < 0.35 else None
    text = rng.choice(read(own_words)[category]) if own_words else _asked(rng, part, file, category, goals)
    lists = read(file)["categories"][category]
    if domain != "harmful":
        reply = _help(rng, lists["replies"])
    elif safe:
        reply = _refuse(rng, lists["reasons"])
    else:
        reply = _comply(rng, lists["comply"])
    return Document(Prompt(text, "chat", domain), reply, safe)


def _help(rng: random.Random, advice: list[str]) -> str:
    benign = read("benign")
    opener = [rng.choice(benign["openers"])] if rng.random() < 0.7 else []
    middle = rng.sample(advice, rng.choice((1, 2, 2)))
    general = [rng.choice(benign["general"])] if rng.random() < 0.25 else []
    closer = [rng.choice(benign["closers"])] if rng.random() < 0.4 else []
    return " ".join(opener + middle + general + closer)


def _refuse(rng: random.Random, reasons: list[str]) -> str:
    harmful = read("harmful")
    reason = rng.choice(reasons if rng.random() < 0.7 else harmful["refusal_general"])
    offer = [rng.choice(harmful["offers"])] if rng.random() < 0.7 else []
    return " ".join([rng.choice(harmful["refusal_openers"]), reason, *offer])


def _comply(rng: random.Random, specific: list[str]) -> str:
    harmful = read("harmful")
    middle = [rng.choice(specific), rng.choice(harmful["comply_general"])]
    closer = [rng.choice(harmful["comply_closers"])] if rng.random() < 0.5 else []
    return " ".join([rng.choice(harmful["comply_openers"]), *middle, *closer])


def chat(rng: random.Random) -> Document:
    """Small talk or an everyday question with its answer."""
    book = read("smalltalk")
    entry = rng.choice(book["smalltalk" if rng.random() < 0.5 else "facts"])
    return Document(Prompt(rng.choice(entry["ask"]), "chat", "chat"), rng.choice(entry["replies"]), True)


def story(rng: random.Random) -> Document:
    """A neutral text and its continuation."""
    entry = rng.choice(read("toxicity")["neutral_stories"])
    return Document(Prompt(entry["start"], "continue", "story"), entry["next"], True)


def with_system(document: Document, text: str) -> Document:
    """The same document with a system instruction."""
    return replace(document, prompt=replace(document.prompt, system=text))


def typed(rng: random.Random, document: Document) -> Document:
    """The same document with a chat prompt that may be in lower case, lack its closing mark or have a typing error."""
    text = document.prompt.text
    if document.prompt.kind == "chat":
        if rng.random() < 0.3:
            text = text[:1].lower() + text[1:] if rng.random() < 0.5 else text.lower()
        if rng.random() < 0.25:
            text = text.rstrip("?.!")
        if rng.random() < 0.06 and len(text) > 12:
            at = rng.randrange(4, len(text) - 4)
            text = text[:at] + text[at + 1:] if rng.random() < 0.5 else (
                text[:at] + text[at + 1] + text[at] + text[at + 2:])
    return replace(document, prompt=replace(document.prompt, text=text))

