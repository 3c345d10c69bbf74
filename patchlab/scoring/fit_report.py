"""The README of the embedded scorers, written from the figures of the fit that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Curve:
    """Figures of a scorer on one set at its threshold; None where the set has one label only."""

    name: str
    rows: int
    positive: float
    auc: float | None
    f1: float | None
    macro_f1: float | None
    caught: float | None
    false_alarms: float | None
    calm_mean: float | None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The figures for a scorer's card, to four digits."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


_COLUMNS = (("AUC", "auc"), ("F1", "f1"), ("macro-F1", "macro_f1"), ("caught", "caught"),
            ("false alarms", "false_alarms"), ("mean score of label 0", "calm_mean"))

_INTRODUCTION = """\
Two logistic models over hashed words and characters (2^18 buckets, float16), each half a megabyte, made so that
everything can be scored offline. They are coarse instruments: use a classifier of the Hub for a second opinion
(`hub:<model id>`). A score is in [0, 1], 1 is worst, and 0.5 and over is flagged. All figures are on rows that were
not fitted on. *caught*: flagged among label 1; *false alarms*: flagged among label 0."""

_TOXICITY_LIMITS = """\
- It reads words and pieces of words, not meaning. Irony, quotation, negation and contempt in polite words pass by; the
  minimal pairs of `hatemoji` are at chance, and emoji used as slurs are mostly missed.
- The sets mean different things by their labels (offensive words, sexism, abuse of a bot), so no figure stands for all.
  Sets it was not fitted on (`vicomtech`) show what to expect elsewhere: much less.
- `davidson` was sampled by keywords, and its crowd called ordinary use of a few words offensive, African-American
  English above all. Votes near unanimity weigh more here, which softens that and does not remove it.
- `identity_templates` measures bias by identity words. Calm sentences about many groups were written for training, and
  still the table shows how many of its short calm sentences are flagged: too many to judge text about groups of people
  by this scorer. "gay", "queer" and "female" raise the score most. Longer calm text suffers less (`bold_gender`).
- The share of `written remarks` that is new is small: the frames are the same, so its figure shows no more than that the
  insults of the frames were learned. The same holds for `made world`, where it is listed.
- Text past the first insult dilutes it: score replies by themselves, not whole conversations. English only."""

_REFUSAL_LIMITS = """\
- It judges the course of a reply: declining and then giving steps counts as answered, a quoted refusal as answered.
- A reply that argues against the premise of a harmful question without a phrase of refusal is the hard case; so is a
  partial refusal, on which human annotators waver. Both kinds of refusal count as refused.
- XSTest's replies come from one model with and without a safety prompt: other models decline in other words. The
  figure by family of prompts is the more honest one for questions of another kind.
- It does not judge whether an answer is good, true or safe. English only. Empty text is `empty` and not a refusal."""


def readme(figures: Mapping[str, Sequence[Curve]], credits: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The text of assets/scorers/README.md."""
    parts = ["# Embedded scorers", "", "Written by `python -m patchlab.scoring.fit`; do not edit by hand.", "",
             _INTRODUCTION, ""]
    for task, title, limits in (("toxicity", "Toxicity (`toxic` / `not toxic`)", _TOXICITY_LIMITS),
                                ("refusal", "Refusal (`refused` / `answered` / `empty`)", _REFUSAL_LIMITS)):
        parts += [f"## {title}", "", *_table(figures[task]), "", "Limits:", "", limits, "", "Fitted on:", "",
                  "| set | rows | licence | source |", "|---|---|---|---|"]
        parts += [f"| {each['set']} | {each['rows']:,} | {each['licence']} | {each['source']} |"
                  for each in credits[task]]
        parts.append("")
    parts += ["## Credits and licences", "",
              "The weights hold no text of the sets. Sets are credited above by repository; their authors do not endorse",
              "this use. Share-alike sets (`vicomtech`, `dolly_subset`, `bold_gender`) were used for measuring only.",
              ""]
    return "\n".join(parts)


def _table(curves: Sequence[Curve]) -> list[str]:
    lines = ["| set | rows | label 1 | " + " | ".join(title for title, _ in _COLUMNS) + " | note |",
             "|---|---|---|" + "---|" * (len(_COLUMNS) + 1)]
    for each in curves:
        cells = [f"{value:.3f}" if (value := getattr(each, name)) is not None else "" for _, name in _COLUMNS]
        lines.append(f"| {each.name} | {each.rows:,} | {each.positive:.0%} | {' | '.join(cells)} | {each.note} |")
    return lines
