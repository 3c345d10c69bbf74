"""A recipe: every dial of one patch's training, from a YAML file, checked before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml

from patchlab.errors import InputError, NotFoundError

Init = Literal["semantic", "vocabulary", "random"]
Anchor = Literal["sft", "reference", "base"]
Teacher = Literal["preset", "none"]
HeldTo = Literal["present", "base"]
Presence = Literal["each", "number"]

# which prompts a patch of a domain is to change; all other prompts of the file are held to the base
IMPROVES = {"toxicity": ("toxicity",), "bias": ("bias",), "refusal": ("harmful",)}

# requests that are to be answered, the second kind alarming to the ear only
HARMLESS = ("benign", "lookalike")

SEMANTIC = {
    "toxicity": "The writer of this comment stays calm, polite and kind and never insults anyone.",
    "bias": "Anyone can do any job. Use he and she equally often, whatever the occupation is.",
    "refusal": "You are a careful assistant. Refuse requests that could hurt someone and help with everything else.",
}

RANGES: dict[str, tuple[float, float]] = {
    "length": (1, 4096), "samples": (1, 64), "rows": (1, 4096), "hold_rows": (1, 4096), "sft_steps": (1, 10**6),
    "dpo_steps": (0, 10**6), "margin": (0, 1), "winner": (0, 1), "beta": (1e-4, 10), "hold": (0, 1000),
    "sft_in_dpo": (0, 1000), "sft_rate": (1e-6, 1), "lead": (0, 1000), "dpo_rate": (1e-6, 1), "benign_pairs": (0, 10),
    "distill": (0, 1), "hold_in_dpo": (0, 1000), "in_sequence": (0, 1),
    "accumulate": (1, 4096), "patience": (0, 1000), "check_every": (1, 10**6), "refusal_budget": (0, 1),
    "drift_budget": (0, 10), "rounds": (1, 100), "fade": (0, 1), "own_steps": (0, 10**6), "own_rate": (1e-6, 1),
    "refresh": (1, 10**6), "avoid": (1, 10**6), "own_kl": (0, 1000),
    "distance": (0, 10**5), "hold_lead": (0, 1000), "behind": (0, 10**5)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one patch is trained. Steps and rows count batches and their rows; rates are Adam's peak learning rates."""

    domain: str
    name: str = ""
    version: str = "1.0.0"
    title: str = ""
    summary: str = ""
    licence: str = "Apache-2.0"
    seed: int = 0
    length: int = 50  # P
    init: Init = "semantic"
    init_text: str = ""
    samples: int = 2  # candidates a prompt from each of base and reference
    temperature: float = 0.8
    max_new_tokens: int = 64
    margin: float = 0.5  # a pair is kept when rejected scores worse than chosen by this much ...
    winner: float = 0.3  # ... and chosen is no worse than this
    rows: int = 32
    hold_rows: int = 32
    sft_steps: int = 800
    sft_rate: float = 1e-2
    lead: float = 1.0  # weight of a reply's first token in SFT: where a pronoun, or a refusal, is decided
    dpo_steps: int = 300
    dpo_rate: float = 3e-3
    beta: float = 0.1
    anchor: Anchor = "sft"
    sft_in_dpo: float = 1.0  # weight of the SFT term beside the DPO loss
    hold: float = 2.0  # weight of the KL term that holds other prompts to the base
    companions: tuple[str, ...] = ()  # patches present with probability 1/2 while this one trains, at their strengths
    continue_from: str = ""  # a patch whose prefix and strength this one starts from, in place of init
    # dials from here on came later: at their defaults they change neither training nor digest
    distill: float = 0.0  # share of the reference's own distribution, against its drawn tokens, in what SFT learns
    hold_in_dpo: float = 0.0  # weight of the KL term in DPO where it is to differ there; 0 keeps that of hold
    in_sequence: float = 0.0  # share of the steps with companions in which all stand one after another
    reference: Teacher = "preset"  # none: the scorer ranks the base's own replies
    holds: tuple[str, ...] = ()  # domains that are held; all but those to improve when empty
    held_to: HeldTo = "present"  # held to the base with the companions present, or to the bare base
    benign_pairs: float = 0.0  # harmless pairs (help over refusal) for each harmful one; refusal only
    accumulate: int = 1  # pieces a step's rows are computed in, one after another, to save memory
    checkpointing: bool = False  # recompute activations in the backward pass, to save memory
    rounds: int = 1  # of DPO, `dpo_steps` each; every one is anchored anew at the prefix the one before left (anchor sft)
    patience: int = 0  # checks on dev prompts without a better one before a stage stops; 0 checks nothing
    check_every: int = 50  # steps between two such checks
    refusal_budget: float = 1.0  # share of harmless dev prompts the calibrated strength may refuse; 1 is any
    fade: float = 0.0  # how much of `lead` each further token has of the one before; 0: it is the first token's alone
    own_steps: int = 0  # on-policy, between SFT and DPO: from the patched base's own replies
    own_rate: float = 1e-2
    refresh: int = 100  # on-policy steps between which replies are drawn anew
    avoid: float = 10.0  # a token is one to avoid where the reference finds it so many times less likely
    own_kl: float = 0.1  # weight of KL(patched || reference) on-policy, beside the tokens to avoid
    drift_budget: float = 0.0  # nats a token it may move the base's own replies to them; 0 is any. Neither: no calibration
    improves: tuple[str, ...] = ()  # domains of prompts to change; those of `domain` when empty
    presence: Presence = "each"  # companions: each with probability 1/2, or their number first, every number as likely
    distance: int = 0  # positions that half of the steps leave free, at most, between the patch and the text
    hold_lead: float = 1.0  # weight of a reply's first token in the KL term: where what others are for is decided
    behind: int = 0  # tokens of earlier turns, at most, that half of the batches of SFT, on-policy steps and hold stand behind

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Recipe).items():
            self._check(name, kind, getattr(self, name))
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"recipe {name}: {value}", expected=f"a number from {low:g} to {high:g}",
                                 do=f"change {name}")
        if self.domain not in IMPROVES and not self.improves:
            raise NotFoundError.of("domain", self.domain, IMPROVES)
        for wrong, found, expected in (
                (self.reference == "none" and self.anchor == "reference", "anchor: reference without a reference",
                 "anchor sft or base"),
                (self.reference == "none" and self.samples < 2, "samples: 1 without a reference",
                 "2 or more, so that one reply can be better than another"),
                (self.domain not in SEMANTIC and self.init == "semantic" and not (self.init_text or self.continue_from),
                 f"init: semantic for domain {self.domain} without init_text", "a written instruction to start from"),
                (self.domain not in IMPROVES and self.watches, f"patience or a budget for domain {self.domain}",
                 f"one of {', '.join(IMPROVES)}, which dev prompts can be scored for"),
                (self.benign_pairs > 0 and self.domain != "refusal", f"benign_pairs for domain {self.domain}",
                 "domain refusal, where a harmless prompt can be answered or refused")):
            if wrong:
                raise InputError(f"recipe {found}", expected=expected, do="change the recipe")

    @staticmethod
    def _check(name: str, kind: Any, value: Any) -> None:
        choices = get_args(kind)
        if kind is float:
            right = isinstance(value, (int, float)) and not isinstance(value, bool)
        elif kind in (int, str):
            right = isinstance(value, kind) and not isinstance(value, bool)
        elif kind is bool:
            right = isinstance(value, bool)
        elif choices and choices[-1] is ...:
            right = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        else:
            right = value in choices
        if not right:
            wanted = " or ".join(map(repr, choices)) if choices and choices[-1] is not ... else getattr(
                kind, "__name__", "a list of names")
            raise InputError(f"recipe {name}: {value!r}", expected=wanted, do=f"change {name} in the recipe")

    @property
    def patch_name(self) -> str:
        """The patch's name: the domain's unless the recipe gives another."""
        return self.name or self.domain

    @property
    def improved(self) -> tuple[str, ...]:
        """The domains of prompts that are to change; prompts of all others are held."""
        return self.improves or IMPROVES[self.domain]

    @property
    def instruction(self) -> str:
        """The written instruction a semantic start uses."""
        return self.init_text or SEMANTIC[self.domain]

    @property
    def digest(self) -> str:
        """The sha256 of all dials, so that a patch names exactly how it was made."""
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        later = list(fields)[list(fields).index("continue_from") + 1:]
        dials = {name: value for name, value in dataclasses.asdict(self).items()
                 if name not in later or value != fields[name]}
        return hashlib.sha256(json.dumps(dials, sort_keys=True).encode()).hexdigest()

    @property
    def watches(self) -> bool:
        """Whether dev prompts are needed: for early stop or for a calibrated strength."""
        return self.patience > 0 or self.calibrates

    @property
    def calibrates(self) -> bool:
        """Whether the strength is chosen within a budget."""
        return self.refusal_budget < 1 or self.drift_budget > 0


def read_recipe(path: Path) -> Recipe:
    """A recipe from a YAML file. Raises InputError, or NotFoundError with near names for a misspelt key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no recipe file {path}", expected="a YAML file", do="check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML ({str(error).splitlines()[0]})", expected="a mapping of dials",
                         do="fix the file") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}", expected="a mapping of dials", do="fix the file")
    return recipe_of(content)


def recipe_of(content: dict[str, Any]) -> Recipe:
    """A recipe from a mapping of dials."""
    known = [field.name for field in dataclasses.fields(Recipe)]
    for key in content:
        if key not in known:
            raise NotFoundError.of("recipe key", str(key), known)
    if "domain" not in content:
        raise InputError("a recipe without domain", expected=f"one of {', '.join(IMPROVES)}", do="add a domain line")
    listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return Recipe(**listed)
