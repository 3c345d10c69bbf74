"""What the safer release of SmolLM2 learns from: refusals, the base's own replies to keep, calm continuations, even pronouns.

Prompts are those of public training sets with permissive licences, read at run time, and made ones. Everything but the refusals
is drawn from the base itself, so that nothing else about it changes.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from patchlab.engine import Lab, Sampling
from patchlab.records import Pair, Progress, Prompt
from patchlab.scoring import load_scorer
from patchlab.scoring.bias import first_pronoun
from patchlab.storage import read_jsonl
from patchlab.training.candidates import Candidate, read_candidates, sample
from patchlab.training.dataset import TrainingExample
from tools.smollm2.contrasts import filled
from tools.smollm2.refusals import held_prompts, refusal_pairs

CALM, TOXIC = 0.2, 0.6  # toxicity of a continuation to learn is at most, of one to avoid at least this
REFUSED = 0.5  # a harmless request's score from here on: the base refused it
OPENED = 6, 14  # words of a beginning
LEFT_OUT = ("@", "URL", "&", "RT", "#")  # how words begin that are no words
TEXTS = {"davidson": ("text", 1, 150), "wikipedia_toxicity": ("text", 1, 150),
         "diasafety": ("context", 1, 80), "convabuse": ("user", 1, 30)}
PLAIN = {"davidson": ("text", 0, 40), "wikipedia_toxicity": ("text", 0, 50),
         "gap": ("text", None, 90)}
MOST = {"held": 700, "harmful": 120}  # prompts the base replies to, of each kind
PLACES = 1500  # sentences that stop before a pronoun
RUDE = ("You are such {a fool|a liar|a lazy cow|a coward} that", "Honestly, {people like you|those idiots next door|my boss} are",
        "Nobody asked you, you {clown|creep|moron}, so", "He called her {stupid|ugly|worthless} and then",
        "Shut up, you {pathetic little man|old hag|rat}, and", "I hate {him|them|this stupid town} so much that",
        "What a {dumb|disgusting|useless} idea, only an idiot would", "If that {jerk|fool|brat} shows up again I will")
SAID = ("The {} said that", "The {} was late this morning because", "I asked the {} a question, and", "When the {} came home,",
        "My neighbour works as a {}. Last week", "The {} is very good at the job;", "Everyone here likes the {}, because",
        "After a long day, the {} sat down and", "The new {} told us about the way")
ASKED = ("Write a short story about a {}.", "Describe a normal day in the life of a {}.", "Tell me about a {} you admire.",
         "Write two sentences about a {} at work.", "A {} forgot something at home. What happens next?")


class Data(NamedTuple):
    """Texts for each purpose; `pairs` are for DPO, most of the first three. Held replies that answer are in `answer` too."""

    refuse: list[TrainingExample]
    hold: list[TrainingExample]
    answer: list[TrainingExample]
    calm: list[TrainingExample]
    even: list[TrainingExample]
    pairs: list[Pair]


def beginnings(data: Path, files: Mapping[str, tuple[str, int | None, int]], draw: random.Random, part: str) -> Iterator[str]:
    """First words of texts with this label, at most so many of a file; handles and links are left out."""
    for name, (column, label, most) in files.items():
        file = f"{name}/{part}.jsonl"
        path = data / file
        path = path if path.exists() else path.with_name(file.rpartition("/")[2] + ".gz")  # large parts are compressed
        content = path.read_bytes()
        rows = map(json.loads, (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines())
        texts = [row[column] for row in rows if label is None or row["label"] == label]
        draw.shuffle(texts)
        cut = (_begun(text, draw) for text in texts)
        yield from [text for text in cut if text][:most]


def _begun(text: str, draw: random.Random) -> str:
    """About half of a text, empty where it is too short."""
    words = [word for word in text.replace("!", " ").split() if word.isascii() and not word.startswith(LEFT_OUT)]
    count = min(draw.randint(*OPENED), len(words) * 2 // 3)
    return " ".join(words[:count]) if count >= OPENED[0] - 1 else ""


def toxic_beginnings(data: Path, *, seed: int = 0, part: str = "train") -> list[Prompt]:
    """Beginnings of rude texts, of public sets and made; `continue` prompts of domain `toxicity`."""
    draw = random.Random(f"beginnings|{seed}")
    made = [text for frame in RUDE for text in filled(frame)] if part == "train" else []
    texts = dict.fromkeys([*beginnings(data, TEXTS, draw, part), *made])
    return [Prompt(text, "continue", "toxicity", id=f"begun-{k}") for k, text in enumerate(texts)]


def plain_beginnings(data: Path, *, seed: int = 0, part: str = "train") -> list[Prompt]:
    """Beginnings of ordinary texts, to be continued as the base does."""
    texts = dict.fromkeys(beginnings(data, PLAIN, random.Random(f"plain|{seed}"), part))
    return [Prompt(text, "continue", "plain", id=f"plain-{k}") for k, text in enumerate(texts)]


def occupation_prompts(data: Path, *, seed: int = 0, part: str = "train") -> list[Prompt]:
    """Texts on a worker that stop before a pronoun or may lead to one, and requests to write about one; domain `bias`."""
    draw = random.Random(f"occupations|{seed}")
    rows = [*read_jsonl(data / "winogenerated" / f"{part}.jsonl")]
    rows = draw.sample(rows, min(900, len(rows)))
    stops = [row["sentence_with_blank"].partition("_")[0].rstrip() for row in rows]
    jobs = sorted({row["occupation"].lower() for row in rows})
    begun = [draw.choice(SAID).format(job) for job in jobs]
    asked = [draw.choice(ASKED).format(job) for job in jobs[::2]]
    found = [*((text, "continue") for text in dict.fromkeys([*stops[:300], *begun])), *((text, "chat") for text in asked)]
    return [Prompt(text, kind, "bias", id=f"work-{k}")  # type: ignore[arg-type]
            for k, (text, kind) in enumerate(found) if first_pronoun(text) is None]


def pronoun_places(data: Path, *, seed: int = 0, part: str = "train") -> list[TrainingExample]:
    """Sentences on a worker up to the place of a pronoun, with a pronoun: the base's distribution at this place is evened."""
    rows = [*read_jsonl(data / "winogenerated" / f"{part}.jsonl")]
    rows = random.Random(f"places|{seed}").sample(rows, min(PLACES, len(rows)))
    stops = dict.fromkeys(row["sentence_with_blank"].partition("_")[0].rstrip() for row in rows)
    return [TrainingExample(Prompt(text, "continue", "bias", id=f"place-{k}"), " he" if k % 2 else " she", True)
            for k, text in enumerate(stops) if text and first_pronoun(text) is None]


def gathered(lab: Lab, data: Path, work: Path, *, seed: int = 0, only: Sequence[str] = ()) -> Iterator[Progress]:
    """Draw the base's replies into files of `work`, all or `only` some; what is there already is not drawn again."""
    lanes, draw = lab.lanes(names=["base"]), random.Random(seed)
    refused, held = [pair.prompt for pair in refusal_pairs(data, seed=seed)], held_prompts(data, seed=seed)
    for name, prompts, samples, tokens in (
            ("held", draw.sample(held, MOST["held"]), 1, 20), ("harmful", draw.sample(refused, MOST["harmful"]), 1, 24),
            ("calm", toxic_beginnings(data), 2, 16), ("plain", plain_beginnings(data), 1, 20),
            ("even", draw.sample(occupation_prompts(data), 120), 1, 16)):
        if name in (only or [name]) and not (work / f"{name}.jsonl").is_file():
            sampling = Sampling(temperature=0.8, max_new_tokens=tokens, seed=seed)
            yield from sample(lanes, prompts, sampling=sampling, samples=samples, path=work / f"{name}.jsonl")


def examples(data: Path, work: Path, *, seed: int = 0) -> Data:
    """What `gathered` drew and the written refusals, sorted by purpose."""
    draw = random.Random(f"pairs|{seed}")
    refusals = refusal_pairs(data, seed=seed)
    drawn = {name: [each for each in read_candidates(work / f"{name}.jsonl") if each.text.strip()]
             for name in ("held", "even", "plain", "calm", "harmful")}
    calm, toxic = calmed(drawn["calm"])
    said = {pair.prompt.text: pair.chosen for pair in refusals}
    answered = [each for each in drawn["held"] if each.score < REFUSED]  # what the base refuses is neither held nor learned
    asked = [each for domain in ("lookalike", "benign") for some in [[c for c in answered if c.prompt.domain == domain]]
             for each in draw.sample(some, min(150, len(some)))]
    pairs = [*(Pair(each.prompt, said[each.prompt.text], each.text, rejected_cut=each.cut) for each in drawn["harmful"]),
             *(Pair(calm[key].prompt, calm[key].text, toxic[key].text, chosen_cut=True, rejected_cut=True)
               for key in calm.keys() & toxic.keys()),
             *(Pair(each.prompt, each.text, draw.choice(refusals).chosen, chosen_cut=each.cut) for each in asked)]
    hold, learn, even, answer = ([TrainingExample(each.prompt, each.text, each.cut) for each in some]
                                 for some in ((*answered, *drawn["plain"]), calm.values(), drawn["even"], answered))
    return Data([TrainingExample(pair.prompt, pair.chosen) for pair in refusals], hold, answer, learn,
                [*even, *pronoun_places(data, seed=seed)], sorted(pairs, key=lambda pair: pair.prompt.key))


def calmed(drawn: Sequence[Candidate]) -> tuple[dict[str, Candidate], dict[str, Candidate]]:
    """For each prompt the calmest continuation and the most toxic one, by the worse of two judges, where they are clearly so."""
    other = load_scorer("toxicity-2").score([each.text for each in drawn], [each.prompt.text for each in drawn])
    worse = [max(each.score, score.value) for each, score in zip(drawn, other, strict=True)]
    calm: dict[str, tuple[float, Candidate]] = {}
    toxic: dict[str, tuple[float, Candidate]] = {}
    for value, each in zip(worse, drawn, strict=True):
        key = each.prompt.key
        if value <= CALM and value < calm.get(key, (1.0, each))[0]:
            calm[key] = value, each
        if value >= TOXIC and value > toxic.get(key, (0.0, each))[0]:
            toxic[key] = value, each
    return {key: each for key, (_, each) in calm.items()}, {key: each for key, (_, each) in toxic.items()}
