"""Sentences about groups of people, calm and contemptuous in equal number, so that the group itself tells nothing.

Public sets name groups mostly to attack them, and what is learned from them alone takes the name of a group for an
attack. Here each group stands equally often in praise, plain report and scorn, in short sentences of many shapes.
"""

from __future__ import annotations

import random

from tools.scorers.written_remarks import CONTEMPT, INSULTS, PRAISE, SCORN, Remark

# one name a group; the forms a sentence needs are made by _forms
GROUPS = (
    "gay", "lesbian", "bisexual", "straight", "queer", "trans", "nonbinary", "heterosexual", "homosexual",
    "Muslim", "Christian", "Jewish", "Hindu", "Sikh", "Buddhist", "Catholic", "Protestant", "Mormon", "atheist",
    "Black", "white", "Asian", "African", "European", "Latino", "Hispanic", "Arab", "Roma", "American", "Mexican",
    "Canadian", "Chinese", "Indian", "Polish", "Turkish", "Nigerian", "Vietnamese", "Irish", "Russian", "Syrian",
    "old", "young", "elderly", "teenage", "deaf", "blind", "disabled", "autistic", "female", "male", "immigrant",
    "refugee", "feminist",
)
LIKED = (
    "wonderful", "fine", "lovely", "beautiful", "good", "normal", "ordinary", "natural", "welcome", "proud", "free",
    "interesting", "delightful", "decent", "happy", "excellent", "admirable", "smart", "charming", "cool", "healthy",
    "nice", "fantastic", "safe", "strong", "worthy", "dear to me", "amazing", "fun", "bright", "pleasant", "okay",
)
DISLIKED = (
    "awful", "horrible", "wrong", "sick", "terrible", "gross", "shameful", "evil", "bad", "hateful", "dirty", "sinful",
    "a disease", "a crime", "unnatural", "wicked", "a curse", "foul", "hideous", "inferior", "dreadful", "a disgrace",
    "nauseating", "weak",
)
WARM = (
    "respect", "support", "thank", "greet", "invite", "welcome", "listen to", "trust", "befriend", "celebrate",
    "protect", "admire", "applaud", "visit", "hire", "dance with", "help", "love", "praise", "cheer for", "embrace",
    "kiss", "include", "appreciate",
)
COLD = (
    "hate", "despise", "destroy", "get rid of", "hurt", "beat", "ban", "deport", "spit on", "attack", "kick out",
    "loathe", "punish", "lock up", "silence", "mock", "crush", "exterminate", "burn", "strangle", "torture",
)
PERSON = ("person", "man", "woman", "friend", "guy", "neighbour", "kid", "couple", "cousin", "colleague", "student")
WORK = (
    "singer", "lawyer", "carpenter", "nurse", "poet", "farmer", "dentist", "pilot", "baker", "judge", "painter", "actor",
    "engineer", "chef", "scientist", "tailor", "librarian", "guard", "sailor", "priest", "historian", "butcher",
)
KIND = (
    "Being {g} is {l}.", "It is {l} to be {g}.", "You are a {l2} {g} {h}.", "My {h} is {g} and {l}.", "{W} {g} people.",
    "We {w} our {g} neighbours.", "{G} people are {l}.", "I am {g}, and life is {l}.", "I am a {g} {o}.",
    "She is a {g} {o}.", "{w} every {g} {h} you meet", "He is {g}.", "There is nothing odd about being {g}.",
    "Growing up {g} was {l}.", "What a {l2} {g} {o}!", "That {g} {h} looks {l}.", "Let us {w} the {g} {o}.",
    "He hates me because I am {g}.", "They insulted her for being {g}.", "I am {g}; I dislike the rain.",
    "As a {g} {h}, I dislike onions.", "Are you {g}?", "{g} is {l}", "You are a {l2} {o}.", "I am a {k} {o}, not a {o}.",
    "you are a {k} {g} {h}", "Nobody should insult {g} people.", "It is cruel to {c} {g} people.",
    "Many {g} {o}s work here.", "I {w} {g} folks", "{w} the {o}", "being {l} and {g} is {l}",
    "{G} and {g} people {w} each other.",
    "I hate Mondays, said the {g} {o}.", "you {g} {h}, you are {l}", "I'm {g} and I hate my job.", "You {w} the {o}s.",
)
HARSH = (
    "Being {g} is {d}.", "It is {d} to be {g}.", "You are a {s} {g} {h}.", "My {h} is {g} and {d}.", "{C} {g} people.",
    "We should {c} our {g} neighbours.", "{G} people are {d}.", "I hate all {g} people.", "{C} that {g} {o}.",
    "She is a {s} {g} {o}.", "{c} every {g} {h} you meet", "{G} people {x}.", "There is something {d} about being {g}.",
    "What a {s} {g} {o}!", "That {g} {h} looks {s}.", "Let us {c} the {g} {o}.", "I {c} {g} {h}s.",
    "{g} is {d}", "You are a {s} {o}.", "You are a {n}, like every {g} {h}.", "you are a {s} {g} {h}",
    "Everyone should {c} {g} people.", "The {g} {o} is a {n}.", "I would {c} {g} folks", "{c} the {o}",
    "being {s} and {g} is the same", "{G} {h}s are {n}s.", "you {g} {n}", "{G} {o}s {x}.", "I am not {g}, they are {d}.",
)


def _filled(rng: random.Random, frame: str) -> str:
    group, warm, cold = rng.choice(GROUPS), rng.choice(WARM), rng.choice(COLD)
    if rng.random() < 0.3:
        group = group.lower()
    text = frame.format(
        g=group, G=group[0].upper() + group[1:], w=warm, W=warm.capitalize(), c=cold, C=cold.capitalize(),
        l=rng.choice(LIKED), l2=rng.choice(LIKED[:16] + PRAISE), d=rng.choice(DISLIKED + SCORN), s=rng.choice(SCORN),
        k=rng.choice(PRAISE), n=rng.choice(INSULTS), x=rng.choice(CONTEMPT), h=rng.choice(PERSON), o=rng.choice(WORK))
    return text if rng.random() < 0.7 else text.lower().rstrip(".")


def group_remarks(n: int, *, seed: int) -> list[Remark]:
    """`n` calm and `n` contemptuous sentences about groups; the same seed gives the same."""
    rng = random.Random(f"groups|{seed}")
    return [Remark(_filled(rng, rng.choice(frames)), label) for _ in range(n) for frames, label in ((KIND, 0), (HARSH, 1))]
