"""Made documents: a prompt and a reply of each domain, safe or unsafe as asked.

Five makers, one a domain: `comment` (toxicity), `occupation` (bias), `request` (refusal: harmful, benign, look-alike),
`chat` (small talk and facts) and `story` (neutral text). All randomness comes from the generator passed in.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from patchlab.records import Prompt
from tools.pocket.world_lists import Part, entries, read

_AN = re.compile(r"\b([Aa]) (?=[aeio]|u(?!se|ni))")  # where "a" must be "an": by sound, as in "a useless"
FREEFORM = {"harmful": "freeform_harmful", "benign": "freeform_harmless"}


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt with one reply; `safe` says how the reply behaves where its domain has two ways."""

    prompt: Prompt
    reply: str
    safe: bool


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _parts(rng: random.Random, part: Part, slots: int) -> list[Part]:
    """The part of each slot. For the models at most all but one slot is held, so a wholly held prompt stays unseen."""
    if part != "models":
        return [part] * slots
    drawn: list[Part] = ["held" if rng.random() < 0.25 else "models" for _ in range(slots)]
    if all(each == "held" for each in drawn):
        drawn[rng.randrange(slots)] = "models"
    return drawn


def _article(noun: str) -> str:
    return _AN.sub(r"\1n ", f"a {noun}")


def _insult(rng: random.Random, plural: bool) -> str:
    one, many = rng.choice(read("toxicity")["insult_nouns"]).split("|")
    adjective = rng.choice(read("toxicity")["insult_adjectives"])
    return f"{adjective} {many.strip()}" if plural else _article(f"{adjective} {one.strip()}")


def comment(rng: random.Random, part: Part, *, safe: bool) -> Document:
    """An annoyed comment to continue; the unsafe continuation insults, the safe one is calm."""
    situation_part, hook_part, slot_part = _parts(rng, part, 3)
    number = rng.choice(("singular", "plural"))
    names = {slot: entries("toxicity", file).pick(rng, slot_part)
             for slot, file in (("person", "people"), ("place", "places"), ("thing", "things"))}
    situation = entries("toxicity", "situations").pick(rng, situation_part)
    hook = entries("toxicity", "hooks", number).pick(rng, hook_part)
    text = _fill(situation, names) + " " + _capital(_fill(hook, names))
    tone = read("toxicity")["kind" if safe else "toxic"]
    verbs = {"be": "is", "have": "has", "do": "does", "s": "s"} if number == "singular" else {
        "be": "are", "have": "have", "do": "do", "s": ""}
    predicate = _fill(rng.choice(tone["predicates"]), names | verbs | {
        "self": "themselves", "an_insult": _insult(rng, number == "plural")})
    follow = [_fill(each, names) for each in rng.sample(tone["followups"], rng.choice((1, 1, 2)))]
    return Document(Prompt(text, "continue", "toxicity"), " ".join([predicate, *follow]), safe)


def _fill(template: str, slots: dict[str, str]) -> str:
    text = re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1], match[0]), template)
    return _AN.sub(r"\1n ", text)


def occupation(rng: random.Random, part: Part, *, safe: bool) -> Document:
    """A sentence on an occupation; the unsafe pronoun follows the stereotype, the safe one is drawn evenly."""
    frame_part, noun_part = _parts(rng, part, 2)
    leaning = rng.choice(("female", "male"))
    slots = {"occ": entries("bias", "occupations", leaning).pick(rng, noun_part),
             "place": entries("bias", "places").pick(rng, noun_part),
             "object": entries("bias", "objects").pick(rng, noun_part)}
    text = _capital(_fill(entries("bias", "prompts").pick(rng, frame_part), slots))
    female = rng.random() < 0.5 if safe else leaning == "female"
    forms = ("she", "her", "her", "herself") if female else ("he", "him", "his", "himself")
    pronouns = dict(zip(("he", "him", "his", "himself"), forms, strict=True))
    pronouns |= {"He": forms[0].capitalize(), "His": forms[2].capitalize()}
    reply = _fill(rng.choice(read("bias")["replies"]), pronouns)
    return Document(Prompt(text, "continue", "bias", id=f"{leaning}:{slots['occ']}"), reply, safe)


def stereotype_of(prompt: Prompt) -> str:
    """The pronoun US stereotype expects after an occupation prompt: "she" or "he"."""
    return {"female": "she", "male": "he"}[prompt.id.split(":")[0]]


def _asked(rng: random.Random, part: Part, file: str, category: str, goals: str) -> str:
    """A request for a task or topic of a category, in a frame all kinds of request share."""
    frame_part, goal_part = _parts(rng, part, 2)
    lists = read(file)["categories"][category]
    topics = entries(file, "categories", category, "topics") if "topics" in lists else None
    if topics and topics.parts[goal_part] and rng.random() < 0.2:
        topic = topics.pick(rng, goal_part)
        return _capital(_fill(entries("requests", "topic_frames").pick(rng, frame_part), {"topic": topic}))
    goal = entries(file, "categories", category, goals).pick(rng, goal_part)
    verb, gerund, rest = (piece.strip() for piece in goal.split("|"))
    frame = entries("requests", "frames").pick(rng, frame_part)
    text = _fill(frame, {"do": f"{verb} {rest}", "doing": f"{gerund} {rest}"})
    return _capital(text) if frame[0] in "{" else text


def request(rng: random.Random, part: Part, *, domain: str, safe: bool, category: str = "") -> Document:
    """A request: `harmful` is refused when safe and gone along with when not; `benign` and `lookalike` are answered.

    It is of `category`, or of any of its domain.
    """
    file, goals = {"harmful": ("harmful", "goals"), "benign": ("benign", "tasks"),
                   "lookalike": ("lookalike", "tasks")}[domain]
    category = category or rng.choice(list(read(file)["categories"]))
    # requests in people's own words: the models know them, patches are neither trained nor judged on them
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


def _comply(rng: random.Random, going_along: list[str]) -> str:
    harmful = read("harmful")
    middle = [rng.choice(going_along), rng.choice(harmful["comply_general"])]
    closer = [rng.choice(harmful["comply_closers"])] if rng.random() < 0.5 else []
    return " ".join([rng.choice(harmful["comply_openers"]), *middle, *closer])


def chat(rng: random.Random) -> Document:
    """Small talk or an everyday question, with its answer."""
    book = read("smalltalk")
    entry = rng.choice(book["smalltalk" if rng.random() < 0.5 else "facts"])
    return Document(Prompt(rng.choice(entry["ask"]), "chat", "chat"), rng.choice(entry["replies"]), True)


def story(rng: random.Random) -> Document:
    """Neutral text cut in the middle, and how it goes on."""
    entry = rng.choice(read("toxicity")["neutral_stories"])
    return Document(Prompt(entry["start"], "continue", "story"), entry["next"], True)


def with_system(document: Document, text: str) -> Document:
    """The same document with a written instruction before it."""
    return replace(document, prompt=replace(document.prompt, system=text))


def typed(rng: random.Random, document: Document) -> Document:
    """The same document with its prompt as people type: lower case, no closing mark, a slip of the finger."""
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

