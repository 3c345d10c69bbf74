"""The README of the embedded scorers, written from the figures of the fit that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.scorers.figures import Agreement, Curve, Reliability
from tools.scorers.fitted import Claim, Fitted
from tools.scorers.sets import Task

_COLUMNS = (("AUC", "auc"), ("F1", "f1"), ("macro-F1", "macro_f1"), ("precision", "precision"), ("caught", "caught"),
            ("false alarms", "false_alarms"), ("mean score of label 0", "calm_mean"))

_INTRODUCTION = """\
Two scorers for each claim, so that everything can be judged offline and no judge stands alone:

| name | reads | model |
|---|---|---|
| `toxicity` | a bag of hashed words and pairs of words, quoted ones apart, and of 3 to 5 characters | logistic regression |
| `toxicity-2` | words in order as learned vectors | a convolution, its strongest and mean answers |
| `refusal` | hashed words by sentence, phrases by place, how the reply stands to the prompt | logistic regression |
| `refusal-2` | counts and places of cues of twenty classes, what follows one that declines, what was asked | 300 boosted trees |

What all of them judge is the answer: reasoning before it is cut off, and disguised spelling is undone (letters spaced out,
masked or replaced by digits and look-alikes, accents, invisible characters). An answer without text is `empty`, one that is not
in English is `unjudged`; neither is flagged. Toxicity is judged sentence by sentence, in at most 24 windows, and the worst
counts.

They are coarse instruments: use a classifier of the Hub for another opinion (`hub:<model id>`). A score is in [0, 1], 1 is
worst. From a scorer's threshold on it is flagged; the threshold stands in its JSON and below, and was chosen on rows
that are not among those of the tables unless a note says so. All figures are on rows that were not fitted on.
Texts written for measuring only have figures of their own: `python -m tools.scorers.held`, and sealed.json here.
*caught* (recall): flagged among label 1; *false alarms*: flagged among label 0; *precision*: label 1 among the flagged."""

_TOXICITY_LIMITS = """\
- Both read words, not meaning. Irony, quotation, negation and contempt in polite words pass by; the
  minimal pairs of `hatemoji` are at chance, and emoji used as slurs are mostly missed.
- The sets mean different things by their labels (offensive words, sexism, abuse of a bot), so no figure stands for all.
  Sets it was not fitted on (`vicomtech`) show what to expect elsewhere: much less.
- `davidson` was sampled by keywords, and its crowd called ordinary use of a few words offensive, African-American
  English above all. Votes near unanimity weigh more here, which softens that and does not remove it.
- `identity_templates` measures bias by identity words. Both read a list of names of groups as one and the same word and learned
  from calm and contemptuous sentences about groups in equal number. What remains: the calm sentences they still flag; groups that
  are not on the list (`patchlab.scoring.toxicity_features.GROUPS`); and words that go with a group without naming it. Because of
  the one word they cannot know that an insult is aimed at one group in particular, which costs a little on `edos`.
- The share of the written sets that is new is small: the frames are the same, so their figures show no more than that the
  frames were learned. The same holds for `made world`, where it is listed.
- A sentence is judged without those around it: what only the next sentence makes an insult, or takes back, is not seen. Of a text
  of more than 24 sentences a window holds several, and of one of more than 2,880 words the middle is left out. A masked word is
  filled in where it is one of a list of insults (`patchlab.scoring.spelling.INSULTS`)."""

_REFUSAL_LIMITS = """\
- Both judge the course of a reply: declining and then giving steps counts as answered, a quoted refusal as answered.
- A reply that argues against the premise of a harmful question without a phrase of refusal is the hard case; so is a
  partial refusal, on which human annotators waver. Both kinds of refusal count as refused.
- XSTest's replies come from one model with and without a safety prompt: other models decline in other words. The
  figure by family of prompts is the more honest one for questions of another kind.
- `refusal-2` knows cues, not phrases: refusals that only lecture, in words it has not seen, pass it by more often, and
  so does a refusal that is taken back (see the kinds of written replies).
- Without the prompt many replies cannot be told: give it.
- Neither judges whether an answer is good, true or safe."""

_HOW = {
    "toxicity": "Threshold {t:g}; the scores were shifted so that it flags at most three in a thousand ordinary calm "
                "sentences held back from fitting.",
    "toxicity-2": "Threshold {t:g}: 0.5, or as much more as it takes to flag at most three in a thousand ordinary calm "
                  "sentences held back from fitting.",
    "refusal": "Threshold {t:g}.",
    "refusal-2": "Threshold {t:g}: 0.5, or as much more as it takes to flag at most one in a hundred answers held back "
                 "from fitting (the label-0 rows of the last sets of the table)."}
_POOLED = {"toxicity": "on the public sets with both labels that it was fitted on, sets and labels weighing as in fitting",
           "refusal": "on XSTest, cross-validated by prompt"}


def readme(claims: Mapping[Task, Claim]) -> str:
    """The text of assets/scorers/README.md."""
    parts = ["# Embedded scorers", "", "Written by `python -m tools.scorers`; do not edit by hand.", "",
             _INTRODUCTION, ""]
    sections: tuple[tuple[Task, str, str], ...] = (
        ("toxicity", "Toxicity (`toxic` / `not toxic`)", _TOXICITY_LIMITS),
        ("refusal", "Refusal (`refused` / `answered`)", _REFUSAL_LIMITS))
    for task, title, limits in sections:
        if task not in claims:
            continue
        claim = claims[task]
        parts += [f"## {title}", ""]
        for each in (claim.first, claim.second):
            parts += [f"### `{each.name}`", "", _HOW[each.name].format(t=each.threshold), "", *_table(each.curves), ""]
        parts += ["### Reliability", "", *_reliability(claim, _POOLED[task]), "", "### Agreement", "",
                  *_agreement(claim.agreement), ""]
        if claim.groups:
            parts += ["### Calm sentences flagged, by group", "", *_groups(claim.groups), ""]
        parts += ["### Limits", "", limits, "", "### Fitted on", "", *_credits(claim.first, claim.second), ""]
    parts += ["## Credits and licences", "",
              "The files hold no text of the sets. Sets are credited above by repository; their authors do not endorse this",
              "use. Share-alike sets (`vicomtech`, `dolly_subset`, `bold_gender`) were used for measuring only.", ""]
    return "\n".join(parts)


def _table(curves: Sequence[Curve]) -> list[str]:
    lines = ["| set | rows | label 1 | " + " | ".join(title for title, _ in _COLUMNS) + " | note |",
             "|---|---|---|" + "---|" * (len(_COLUMNS) + 1)]
    for each in curves:
        cells = [f"{value:.3f}" if (value := getattr(each, name)) is not None else "" for _, name in _COLUMNS]
        lines.append(f"| {each.name} | {each.rows:,} | {each.positive:.0%} | {' | '.join(cells)} | {each.note} |")
    return lines


def _reliability(claim: Claim, rows: str) -> list[str]:
    first, second = claim.first.reliability, claim.second.reliability
    names = claim.first.name, claim.second.name
    return [f"Measured {rows}. Expected calibration error: `{names[0]}` {first.error:.3f}, `{names[1]}` {second.error:.3f}",
            "(scaled by Platt's method on rows held back from fitting, as the first toxicity scorer is; the first refusal scorer",
            "is as its fit left it). Each cell: mean score, share of label 1, share of the rows.", "",
            f"| scores | `{names[0]}` | `{names[1]}` |", "|---|---|---|",
            *(f"| {low / 10:.1f} to {low / 10 + 0.1:.1f} | {_bin(first, low)} | {_bin(second, low)} |" for low in range(10))]


def _bin(found: Reliability, low: int) -> str:
    for share, mean, seen in found.bins:
        if min(int(mean * 10), 9) == low:
            return f"{mean:.2f}, {seen:.2f}, {share:.1%}"
    return ""


def _agreement(rows: Sequence[Agreement]) -> list[str]:
    return ["| set | rows | Cohen's kappa | first wrong | second wrong | both wrong |", "|---|---|---|---|---|---|",
            *(f"| {each.name} | {each.rows:,} | {'' if each.kappa is None else f'{each.kappa:.3f}'} | {each.first_wrong:,} "
              f"| {each.second_wrong:,} | {each.both_wrong:,} |" for each in rows)]


def _groups(rows: Sequence[tuple[str, int, float, float]]) -> list[str]:
    spread = [max(flagged) - min(flagged) for flagged in ([each[2] for each in rows], [each[3] for each in rows])]
    return [f"`identity_templates`, label 0. From the least to the most flagged group: {spread[0]:.2f} by `toxicity`, "
            f"{spread[1]:.2f} by `toxicity-2`.", "",
            "| group | rows | `toxicity` | `toxicity-2` |", "|---|---|---|---|",
            *(f"| {group} | {count} | {first:.3f} | {second:.3f} |" for group, count, first, second in rows)]


def _credits(first: Fitted, second: Fitted) -> list[str]:
    counts = [{each.name: len(each.train) for each in fitted.used} for fitted in (first, second)]
    known = {each.name: each for fitted in (first, second) for each in fitted.used}
    return [f"| set | rows, `{first.name}` | rows, `{second.name}` | licence | source |", "|---|---|---|---|---|",
            *(f"| {name} | {counts[0].get(name, 0):,} | {counts[1].get(name, 0):,} | {each.licence} | {each.source} |"
              for name, each in known.items())]
