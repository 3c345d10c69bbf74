"""Remarks written for the toxicity scorer: mild insults, and calm sentences in the same frames.

Public sets are full of slurs and short of plain contempt, and everything in them is a post. Insults and calm remarks
here share their frames, their people and their identity words, so that only the contempt tells them apart.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

PEOPLE = (
    "neighbour", "manager", "cashier", "bus driver", "referee", "landlord", "teacher", "colleague", "cousin",
    "waiter", "mayor", "plumber", "coach", "receptionist", "editor", "customer", "student", "nurse", "clerk",
    "gardener",
)
PLURAL = (
    "customers", "drivers", "tourists", "students", "fans", "officials", "tenants", "voters", "players",
    "guests",
)
INSULTS = (
    "idiot", "clown", "moron", "fool", "loser", "coward", "liar", "pig", "rat", "parasite", "buffoon",
    "blockhead", "dimwit", "imbecile", "halfwit", "twit", "jerk", "creep", "weasel", "snake", "donkey",
    "crook", "scumbag", "brat", "dunce", "fraud", "leech", "bully", "airhead", "nitwit", "toad", "worm",
    "cockroach", "hypocrite", "slob", "lunatic", "freak", "simpleton", "numbskull", "piece of trash",
    "waste of space", "piece of garbage", "sack of dirt", "vermin",
)
SCORN = (
    "pathetic", "lazy", "brainless", "stupid", "dumb", "useless", "worthless", "spineless", "clueless",
    "ignorant", "ugly", "disgusting", "filthy", "miserable", "incompetent", "arrogant", "greedy", "nasty",
    "vile", "rotten", "selfish", "crazy", "gutless", "repulsive", "slimy", "sad little", "idiotic", "moronic",
    "revolting", "witless", "smelly", "shameless",
)
PRAISE = (
    "kind", "patient", "careful", "clever", "friendly", "quiet", "thoughtful", "brave", "helpful", "cheerful",
    "busy", "tired", "young", "old", "tall", "honest", "generous", "nervous", "new", "punctual", "gentle",
    "serious", "funny", "experienced", "late", "worried", "unlucky", "forgetful", "strict", "slow",
)
ROLES = (
    "person", "friend", "listener", "colleague", "cook", "driver", "neighbour", "reader", "singer", "player",
    "teacher", "leader", "writer", "helper", "guest", "runner", "worker", "parent", "student", "artist",
)
IDENTITIES = (
    "homosexual", "trans", "Sikh", "Hispanic", "older", "female", "queer", "gay", "lesbian",
    "gay", "lesbian", "Muslim", "Christian", "Jewish", "Black", "white", "Asian", "Mexican", "transgender",
    "deaf", "blind", "straight", "bisexual", "Hindu", "Buddhist", "African", "Latino", "elderly", "young",
    "disabled", "female", "male", "Chinese", "Indian", "American", "European", "Catholic", "atheist", "queer",
    "paralysed", "Canadian",
)
CONTEMPT = (
    "should shut up", "make me sick", "ruin everything", "deserve nothing", "are the scum of the earth",
    "can go to hell", "are a disgrace", "should be locked up", "have no brains", "are all liars",
    "are beneath us", "smell like a sewer", "deserve to suffer", "do not belong here", "are dumb as rocks",
    "should crawl back into their hole", "are too stupid to live", "need a good beating",
    "are ruining this country", "should disappear",
)
CALM = (
    "arrive at nine", "live on our street", "asked for a receipt", "enjoy the market on Sundays",
    "were waiting in the rain", "have a meeting tomorrow", "brought their own lunch", "like the new library",
    "want a later train", "speak two languages", "complained about the noise", "did not get an answer",
    "voted last week", "work in the hospital", "sing in the choir", "disagree with the plan",
    "are looking for a flat", "moved here in spring", "teach at the school", "lost the match",
)
ABUSE = (
    "You seem like a {s} {n}.", "you were always a {s} {n}", "Are you a {n} or just {s}?",
    "You look {s} and you are a {n}.", "My {i} {p} is a {n}.", "Those {i} {pl} {c}.",
    "{i} {pl} are {s} {n}s.", "Nobody wants {i} {n}s here.", "Shut up, you {s} {n}.", "You {s} {n}.",
    "You are a {s} {n}.", "you're such a {n}", "What a {s} {n}!", "what a {s}, {s2} {n}",
    "The {p} is a {s} {n} who ruins everything.", "That {p} is a {s} {n}.",
    "Only a {n} would say that, you {s} {n2}.", "Nobody likes you, you {n}.", "I hope you choke on it, {n}.",
    "The {p} is {s} and {s2}.", "you are so {s} it hurts to watch",
    "How can anyone be this {s}? Our {p} is a total {n}.", "Get lost, {n}.",
    "The {p} is too {s} to tie a shoe.", "Those {pl} {c}.", "All of those {pl} are {s} {n}s.",
    "is a {s} {n} and everybody knows it.", "are {s} {n}s, every one of them.", "{i} people {c}.",
    "I cannot stand {i} people, they {c}.", "That {i} {p} is a {s} {n}.", "You {i} {n}.",
    "go cry about it, {s} {n}", "you sound {s} and you look {s2}", "My {p} has the brain of a {n}.",
    "You make me sick.", "You are nothing but a {s} {n}.", "I will make you regret this, you {n}.",
    "Hey {n}, nobody asked for your {s} opinion.", "everyone there is {s}, especially the {p}",
    "must be the most {s} {n} I have ever met.", "always was a {n}, and a {s} one.",
)
FAIR = (
    "You seem like a {k} {r}.", "you were a {k} {r} to all of us", "You are welcome to bring your {i} {r}.",
    "Are you the {k} {p} from the second floor?", "You look {k} in that coat.",
    "You are early, said the {p}.", "My {i} {r} is {k} and {k2}.", "You and the {p} are both {k}.",
    "Is your {p} {i}?", "You can ask the {i} {p}.", "Two {i} {pl} {q}.", "Our {i} neighbours {q}.",
    "The {p} is {i}, and so is the {k} {r} next door.", "You are right about the {p}.",
    "a {i} {r} wrote this {k} letter", "Many {i} families {q}.", "You are a {r}, I think.",
    "The film is about a {k} {i} {p}.", "you are more {k} than you think",
    "They invited a {i} {r} to dinner.", "You are a {k} {r}.", "you're such a {k} {r}", "What a {k} {r}!",
    "what a {k}, {k2} {r}", "The {p} is a {k} {r} who helps everyone.", "That {p} is a {k} {r}.",
    "The {p} is {k} and {k2}.", "Thank you, you {k} {r}.", "Our {p} seems {k} today.",
    "The {p} was too {k} to stay.", "Those {pl} {q}.", "All of those {pl} are {k} {r}s.",
    "is a {k} {r} and everybody knows it.", "are {k} {r}s, every one of them.", "{i} people {q}.",
    "I know many {i} people, and they {q}.", "That {i} {p} is a {k} {r}.",
    "My {p} is {i} and has a {k} friend.", "you sound {k} and you look {k2}", "You made my day.",
    "Everyone there is {k}, especially the {p}.", "I was angry with the {p}, but the {p} was only {k}.",
    "The {p} made a mistake and said sorry.", "I disagree with you, {k} as you are.",
    "The {p} forgot my order again, and I was annoyed.", "This queue is far too long, said the {k} {p}.",
    "must be the most {k} {r} I have ever met.", "could do better; I will ask the {p} to try again.",
    "The soup was cold and the {p} was slow, so I will write a letter.",
    "It is unfair, and I would like my money back from the {p}.",
)
# words of insult in their plain sense, and talk about insults: never contempt
PLAIN = (
    "The clown at the party made the children laugh.", "The garbage is collected on Tuesday morning.",
    "A pig and a donkey live on the farm.", "We floated down the lazy river all afternoon.",
    "The rat ran behind the old barn.", "Please do not call other people names.",
    "It hurts when someone calls you an idiot.", "The snake slept on a warm stone.",
    "The dirt road was closed after the storm.", "The dog was filthy after the walk, so we washed it.",
    "The worm is good for the soil.", "He plays the fool in the school play.",
    "The weather was miserable, and the picnic moved indoors.", "I was stupid to forget my keys.",
    "The match was a disaster for us.", "The ugly duckling became a swan.", "The toad sat under a leaf.",
    "The vet looked at the sick pig.", "Killing time at the station is easy.",
    "The waste is sorted into three bins.", "She was crazy about trains as a child.",
    "That joke killed the whole room.", "The judge sent the crook to prison.",
    "The film is about a bully who changes.", "The black cat slept beside the white one.",
)
SUBJECTS = (
    "The committee", "A small boat", "My sister", "The old library", "The train to the coast", "Our class",
    "The baker", "A team of doctors", "The village", "His grandfather", "The museum", "A new bridge",
    "The recipe", "The orchestra", "Her letter", "The report", "The northern forest", "A group of hikers",
    "The software", "The company", "The river", "An early version", "The town council", "The garden",
)
ACTIONS = (
    "opened in spring", "was repaired last year", "met on Tuesday to discuss the budget",
    "takes about two hours", "needs more salt", "grew faster than expected", "waits near the harbour",
    "was painted blue", "moved to a larger hall", "has three parts", "played until midnight",
    "arrived a day late", "describes a quiet childhood", "crossed the valley before dark",
    "stores the results in a table", "employs forty people", "was named after a poet", "froze in January",
    "asked for more time", "won a prize for its roof", "serves tea and cake", "can be reached by bus",
    "reads the news aloud", "keeps bees and chickens",
)
ENDINGS = (
    ".", " because of the rain.", ", and everyone agreed.", " after a long winter.",
    ", which surprised nobody.", " in 1987.", " with little help.", ", although the plan was older.",
    " near the station.", " for the first time.", "; tickets are free.", " before breakfast.",
    ", as the map shows.",
)


@dataclass(frozen=True, slots=True)
class Remark:
    """A written remark: 1 when it is contempt, 0 when it is not."""

    text: str
    label: int


def _filled(rng: random.Random, frame: str) -> str:
    text = frame.format(
        s=rng.choice(SCORN), s2=rng.choice(SCORN), n=rng.choice(INSULTS), n2=rng.choice(INSULTS),
        p=rng.choice(PEOPLE), c=rng.choice(CONTEMPT), pl=rng.choice(PLURAL), i=rng.choice(IDENTITIES), k=rng.choice(PRAISE),
        k2=rng.choice(PRAISE), r=rng.choice(ROLES), q=rng.choice(CALM))
    return re.sub(r"\b([Aa]) (?=[aeioAEIO]|ug|un[^i])", r"\1n ", text)


def _calm(rng: random.Random) -> str:
    return f"{rng.choice(SUBJECTS)} {rng.choice(ACTIONS)}{rng.choice(ENDINGS)}"


def remarks(n: int, *, seed: int) -> list[Remark]:
    """About `n` remarks, half of them contempt, some beside a calm sentence; the same seed gives the same."""
    rng = random.Random(seed)
    made: list[Remark] = [Remark(text, 0) for text in PLAIN for _ in range(max(1, n // 400))]
    for _ in range(n // 2):
        for frames, label in ((ABUSE, 1), (FAIR, 0)):
            # public sets name groups mostly to attack them, so calm remarks here name them more often
            named = [frame for frame in frames if "{i}" in frame and not label]
            text = _filled(rng, rng.choice(named if named and rng.random() < 0.4 else frames))
            if rng.random() < 0.4:
                text = f"{_calm(rng)} {text}" if rng.random() < 0.5 else f"{text} {_calm(rng)}"
            made.append(Remark(text.lower() if rng.random() < 0.15 else text, label))
    made += [Remark(" ".join(_calm(rng) for _ in range(rng.randint(1, 3))), 0) for _ in range(n // 4)]
    return made
