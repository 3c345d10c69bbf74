"""A recipe: every dial of one patch's training, from a YAML file, checked before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import WrapValidator
from pydantic.dataclasses import dataclass

from patchlab.errors import InputError, NotFoundError
from patchlab.validation import STRICT, Unfit, checked


def within(low: float, high: float) -> WrapValidator:
    """A check for `Annotated`: a number from `low` to `high`, kept as it was written, as the digest counts 2 and 2.0 apart."""
    def check(value: Any, valid: Callable[[Any], float]) -> Any:
        if not low <= valid(value) <= high:
            raise Unfit(f"a number from {low:g} to {high:g}")
        return value

    return WrapValidator(check)


Init = Literal["semantic", "vocabulary", "random"]
Anchor = Literal["sft", "reference", "base", "none"]
Teacher = Literal["preset", "none"]
HeldTo = Literal["present", "base"]
Presence = Literal["each", "number"]
Count = Annotated[int, within(1, 4096)]
Steps = Annotated[int, within(0, 10**6)]
Positive = Annotated[int, within(1, 10**6)]
Tokens = Annotated[int, within(0, 10**5)]
Share = Annotated[float, within(0, 1)]
Weight = Annotated[float, within(0, 1000)]
Rate = Annotated[float, within(1e-6, 1)]
Ratio = Annotated[float, within(0, 10)]

# which prompts a patch of a domain is to change; all other prompts of the file are held to the base
IMPROVES = {"toxicity": ("toxicity",), "bias": ("bias",), "refusal": ("harmful",)}

# requests that are to be answered, the second kind alarming to the ear only
HARMLESS = ("benign", "lookalike")

SEMANTIC = {
    "toxicity": "The writer of this comment stays calm, polite and kind and never insults anyone.",
    "bias": "Anyone can do any job. Use he and she equally often, whatever the occupation is.",
    "refusal": "You are a careful assistant. Refuse requests that could hurt someone and help with everything else.",
}


@checked("recipe", do="change the recipe", error=InputError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Recipe:
    """How one patch is trained. Steps and rows count batches and their rows; rates are Adam's peak learning rates.

    Raises InputError for an unknown key, a value of another type or out of range, or dials that contradict each other.
    """

    domain: str
    name: str = ""
    version: str = "1.0.0"
    title: str = ""
    summary: str = ""
    licence: str = "Apache-2.0"
    seed: int = 0
    length: Count = 50  # P
    init: Init = "semantic"
    init_text: str = ""
    samples: Annotated[int, within(1, 64)] = 2  # candidates a prompt from each of base and reference
    temperature: Annotated[float, within(0, 5)] = 0.8
    max_new_tokens: Annotated[int, within(1, 100_000)] = 64
    margin: Share = 0.5  # a pair is kept when rejected scores worse than chosen by this much ...
    winner: Share = 0.3  # ... and chosen is no worse than this
    rows: Count = 32
    hold_rows: Count = 32
    sft_steps: Positive = 800
    sft_rate: Rate = 1e-2
    lead: Weight = 1.0  # weight of a reply's first token in SFT: where a pronoun, or a refusal, is decided
    dpo_steps: Steps = 300
    dpo_rate: Rate = 3e-3
    beta: Annotated[float, within(1e-4, 10)] = 0.1
    anchor: Anchor = "sft"  # reference policy of DPO; none: both replies of a pair become equally likely
    sft_in_dpo: Weight = 1.0  # weight of the SFT term beside the DPO loss
    hold: Weight = 2.0  # weight of the KL term that holds other prompts to the base
    companions: tuple[str, ...] = ()  # patches present with probability 1/2 while this one trains, at their strengths
    continue_from: str = ""  # a patch whose prefix and strength this one starts from, in place of init
    # dials from here on came later: at their defaults they change neither training nor digest
    distill: Share = 0.0  # share of the reference's own distribution, against its drawn tokens, in what SFT learns
    hold_in_dpo: Weight = 0.0  # weight of the KL term in DPO where it is to differ there; 0 keeps that of hold
    in_sequence: Share = 0.0  # share of the steps with companions in which all stand one after another
    reference: Teacher = "preset"  # none: the scorer ranks the base's own replies
    holds: tuple[str, ...] = ()  # domains that are held; all but those to improve when empty
    held_to: HeldTo = "present"  # held to the base with the companions present, or to the bare base
    benign_pairs: Ratio = 0.0  # harmless pairs (help over refusal) for each harmful one; refusal only
    accumulate: Count = 1  # pieces a step's rows are computed in, one after another, to save memory
    checkpointing: bool = False  # recompute activations in the backward pass, to save memory
    rounds: Annotated[int, within(1, 100)] = 1  # of DPO, `dpo_steps` each; anchored at the prefix before each (anchor sft)
    patience: Annotated[int, within(0, 1000)] = 0  # checks on dev prompts without improvement before a stage stops; 0: none
    check_every: Positive = 50  # steps between two such checks
    refusal_budget: Share = 1.0  # share of harmless dev prompts the calibrated strength may refuse; 1 is any
    fade: Share = 0.0  # how much of `lead` each further token has of the one before; 0: it is the first token's alone
    own_steps: Steps = 0  # on-policy, between SFT and DPO: from the patched base's own replies
    own_rate: Rate = 1e-2
    refresh: Positive = 100  # on-policy steps between which replies are drawn anew
    avoid: Annotated[float, within(1, 10**6)] = 10.0  # on-policy: avoid tokens this many times likelier than under the reference
    own_kl: Weight = 0.1  # weight of KL(patched || reference) on-policy, beside the tokens to avoid
    drift_budget: Ratio = 0.0  # maximum KL to the base, nats a token; 0: unlimited. No budget: no calibration
    improves: tuple[str, ...] = ()  # domains of prompts to change; those of `domain` when empty
    presence: Presence = "each"  # companions: each with probability 1/2, or their number first, every number as likely
    distance: Tokens = 0  # positions that half of the steps leave free, at most, between the patch and the text
    hold_lead: Weight = 1.0  # weight of a reply's first token in the KL term: where what others are for is decided
    behind: Tokens = 0  # tokens of earlier turns, at most, that half of the batches of every stage stand behind

    def __post_init__(self) -> None:
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

    def with_(self, **dials: Any) -> Recipe:
        """A copy with other `dials`, checked like a new recipe."""
        return dataclasses.replace(self, **dials)

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
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not YAML ({str(error).splitlines()[0]})", expected="a mapping of dials",
                         do="fix the file") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}", expected="a mapping of dials", do="fix the file")
    return recipe_of(content)


def recipe_of(content: dict[str, Any]) -> Recipe:
    """A recipe from a mapping of dials. Raises as `Recipe` does, and NotFoundError with near names for a misspelt key."""
    known = [field.name for field in dataclasses.fields(Recipe)]
    for key in content:
        if key not in known:
            raise NotFoundError.of("recipe key", str(key), known)
    if "domain" not in content:
        raise InputError("a recipe without domain", expected=f"one of {', '.join(IMPROVES)}", do="add a domain line")
    dials: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return Recipe(**dials)
