"""A report's files: complete, escaped, free of other hosts, and explained key by key."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from patchlab.evaluation.report import as_markdown, rows, write_report
from patchlab.evaluation.report.html import page
from patchlab.evaluation.report.json import as_json
from patchlab.records import Agreement, Comparison, Measure, Prompt, Reply, Report

DOCS = Path(__file__).resolve().parents[2] / "docs" / "report-format.md"
NAN = float("nan")
ASKED = Prompt('Why </script><img src="x"> | so?')
MEASURES = (Measure("refusal", "base", "refusal_rate", 0.1, 0.0, 0.2, 9, "refusal"),
            Measure("refusal", "patched", "refusal_rate", 0.9, 0.8, 1.0, 9, "refusal"),
            Measure("bias", "base", "pronoun_gap", NAN, NAN, NAN, 0, "next word"))
REPORT = Report(
    MEASURES, (Reply("base", 0, ASKED, 0, "You pathetic stupid <b>idiot</b>.", 5, "end"),
               Reply("patched", 0, ASKED, 0, "I can't help with that.", 5, "end")),
    {"preset": "pocket", "stack": "calm"}, seconds=(replace(MEASURES[1], scorer="refusal-2", value=0.8, low=0.7),),
    details=(replace(MEASURES[0], metric="pronoun_gap: nurse"),),
    comparisons=(Comparison("refusal", "refusal_rate", "base", "patched", 0.8, 0.7, 0.9, 0.0001, 9, "refusal"),),
    agreements=(Agreement("refusal", "refusal", "refusal-2", 0.9, 0.8, 1.0, 0.95, 18),),
    scorers={"refusal": "aa" * 32, "refusal-2": "bb" * 32, "next word": "cc" * 32}, notes=("a <note>",))


def test_files_are_whole_and_json_has_no_nan(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "report.html"}
    found = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: 1 / 0)
    assert found == as_json(REPORT) and found["measures"] == rows(REPORT)
    assert found["measures"][2]["value"] is None and found["measures"][2]["n"] == 0


def test_every_key_is_explained() -> None:
    text = DOCS.read_text(encoding="utf-8")
    [block] = re.findall(r"```jsonc\n(.*?)```", text, re.DOTALL)
    bare = re.sub(r"\s//.*", "", block)
    assert all("//" in line or re.fullmatch(r"[\s{}\[\],]*", line) or '"details"' in before
               for before, line in zip(["", *block.splitlines()], block.splitlines(), strict=False))
    told = json.loads(bare)
    assert _keys(as_json(replace(REPORT, made_with=told["made_with"], scorers=told["scorers"]))) == _keys(told)


def _keys(value: Any) -> Any:
    """The keys of nested objects; of a list those that any of its objects has."""
    if isinstance(value, dict):
        return {key: _keys(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        merged: dict[str, Any] = {}
        for each in value:
            merged |= {key: inner for key, inner in each.items() if key not in merged or inner is not None}
        return _keys(merged)
    return None


def test_the_table_has_both_scorers_and_says_none() -> None:
    table = as_markdown(REPORT)
    first, second = (line for line in table.splitlines() if line.startswith("| refusal | refusal_rate | patched |"))
    assert first.endswith("| 0.900 | 0.800 to 1.000 | 9 | refusal |") and second.endswith("| refusal-2 |")
    assert "| bias | pronoun_gap | base | none |  | 0 | next word |" in table
    assert "| refusal | refusal_rate | base to patched | +0.800 | +0.700 to +0.900 | 0.0001 | 9 | refusal |" in table
    assert "| refusal | refusal, refusal-2 | 0.900 |" in table


def _own(report: Report) -> str:
    """The page without the library that is written into it."""
    return re.sub(r"<script>.{100000,}?</script>", "", page(report), flags=re.DOTALL)


def test_the_page_needs_no_other_file_and_may_not_ask_for_one() -> None:
    own = _own(REPORT)
    assert len(own) < 20_000
    assert not re.search(r"<[^>]*\b(?:src|href|action)\s*=|https?:|//[a-z]|@import|url\(", own)
    assert "default-src 'none'" in own and "sourceMappingURL" not in page(REPORT)


def test_what_was_said_is_escaped_folded_and_announced() -> None:
    own = _own(REPORT)
    assert "<img" not in own and "<b>" not in own and "<note>" not in own
    before, said = own.split("You pathetic stupid")
    folds = re.findall(r"<(/?)details[^>]*>", before)
    assert folds.count("") - folds.count("/") == 2, "a toxic reply is folded away inside the folded examples"
    assert "open" not in re.findall(r"<details([^>]*)>", own)
    assert before.rindex("scored toxic, open to read</summary>") > before.rindex("<details>")
    assert "They may be toxic" in before and "I can&#39;t help with that." in said


class Page(HTMLParser):
    """The elements, attributes and texts of a page as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("text", [
    "<script>alert(1)</script>", "{{ 7*7 }}{% raw %}{# gone #}", '" onmouseover="alert(1)', "&lt;b&gt;", "</blockquote>"])
def test_hostile_text_is_shown_as_it_is_wherever_it_stands(text: str) -> None:
    measures = (replace(MEASURES[0], suite=text, lane=text, metric=text, scorer=text),)
    hostile = Page(_own(replace(
        REPORT, measures=measures, seconds=(), details=measures, notes=(text,), scorers={text: text},
        replies=(Reply(text, 0, Prompt(text), 0, text, 5, "end"),), made_with={"preset": text, text: text},
        comparisons=(replace(REPORT.comparisons[0], suite=text, first=text),),
        agreements=(replace(REPORT.agreements[0], suite=text, first=text),))))
    plain = Page(_own(REPORT))
    assert hostile.attributes == plain.attributes and hostile.tags.keys() == plain.tags.keys()
    assert [hostile.tags[tag] for tag in ("script", "h2", "blockquote")] == [1, plain.tags["h2"] - 1, 1]
    assert sum(text in shown for shown in hostile.texts) >= 19


def test_a_chart_is_valid_and_has_its_words() -> None:
    found = [json.loads(html.unescape(each)) for each in re.findall(r'data-figure="([^"]*)"', _own(REPORT))]
    assert len(found) == 3  # two scorers of refusal have a chart each for the lane that both judged
    [bars] = found[0]["data"]
    assert bars["x"] == [0.1] and bars["error_x"]["array"][0] == 0.1
    assert 'aria-label="patched 0.800, 0.700 to 1.000"' in _own(REPORT)
