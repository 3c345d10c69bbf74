"""docs/results.md says what the figures say: every miss by name, and nothing that no file holds."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

import patchlab
from benchmarks import readme

DOCS = Path(patchlab.__file__).resolve().parents[1] / "docs"
Make = dict[str, Callable[..., Any]]


@pytest.fixture(scope="module")
def make() -> Make:
    """What the generator defines."""
    return runpy.run_path(str(DOCS / "make_results.py"))


def figure(name: str, value: float, bar: str = "", met: bool | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "low": value, "high": value, "n": 3, "bar": bar, "met": met, **more}


def test_the_page_is_in_step(make: Make) -> None:
    assert make["page"]() == (DOCS / "results.md").read_text(encoding="utf-8"), "run python docs/make_results.py"


def test_the_readmes_figures_are_those_of_the_results_file() -> None:
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    blocks = {"figures": readme.figures(), "real": readme.real_model()}
    assert readme.rendered(text, blocks) == text, "run python -m benchmarks.readme"
    block = text.index("<!-- figures -->")
    for number in re.finditer(r"\d\.\d{2,3}", text[block:text.index("<!-- /figures -->")]):
        at = block + number.end() - 1
        changed = f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1:]}"
        assert readme.rendered(changed, blocks) == text != changed


def test_the_readmes_program_prints_what_the_readme_says() -> None:
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert readme.rendered(text, {"program": readme.program()}) == text, "run python -m benchmarks.readme"


@pytest.mark.parametrize("path", [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.stem)
def test_no_other_text_quotes_a_measured_figure(path: Path) -> None:
    """A value with its interval stands in generated text only; report-format.md explains made ones in its code blocks."""
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->|```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    assert path.stem == "results" or not re.findall(r"\d\.\d+ ?\(\d\.\d+ (?:to|-) ", text)


def test_sealed_prompts_have_a_section_that_says_what_falls(make: Make, tmp_path: Path) -> None:
    for name, value in (("pocket", 0.96), ("sealed", 0.9)):
        opened = {"opened": [{"date": "2026-12-01", "commit": "b" * 40}]} if name == "sealed" else {}
        figures = [figure("refusal: gap closed", value, ">= 0.95", value > 0.95), figure("base bias", 0.9, ">= 0.8", True)]
        (tmp_path / f"{name}.json").write_text(json.dumps({"n": 3, "temperature": 0.8, "figures": figures, **opened}))
    page = make["page"](tmp_path)
    assert "Opened: 2026-12-01 at commit bbbbbbbbbbbb." in page
    assert "these miss: \n\n- refusal: gap closed: 0.960 on held-out prompts, 0.900 here\n" in page and "bias: 0.9" not in page


def test_a_missed_bar_is_named_in_the_table_and_on_top(make: Make, tmp_path: Path) -> None:
    figures = [figure("slow", 1.2, "<= 1.01", False, unit="x"), figure("fast", 0.9, "<= 1.01", True, unit="x"),
               figure("free", 3.0, unit="ms"), figure("toy", 3.0, "<= 1", None, unit="x")]
    made = {"commit": "a" * 40, "judges": {"refusal": "b" * 64}, "machine": {"cores": 2}}
    (tmp_path / "decode.json").write_text(json.dumps({"figures": figures, "made_with": made}))
    page = make["page"](tmp_path)
    assert "1 of 2 bars are missed" in page
    assert "- Decoding with a patch: slow 1.200 (1.200 to 1.200), bar `<= 1.01`" in page
    assert "| slow | 1.200 | 1.200 to 1.200 | 3 | `<= 1.01` | **missed** |" in page
    assert "| free (ms) | 3.000 | 3.000 to 3.000 | 3 |  |  |" in page
    assert "not judged" in page and (
        f"Made with: commit {'a' * 12}, date not recorded, split not recorded, judges refusal {'b' * 12}, cores 2." in page)


def test_what_no_file_holds_has_no_section(make: Make, tmp_path: Path) -> None:
    page = make["page"](tmp_path)
    assert page.count("## ") == 1 and "0 of 0 bars are missed." in page


def test_a_miss_by_a_hair_does_not_look_like_the_bar(make: Make) -> None:
    assert make["value"](figure("a", 1.02001, "<= 1.02", False)) == "1.02001"
    assert make["value"](figure("a", 1.02, "<= 1.02", True)) == "1.020"


@pytest.mark.parametrize(("value", "said"), [(204800, "204,800"), (0, "0"), (1234.5, "1,234"), (0.0004, "0.000"),
                                             (-0.0001, "0.000"), (65.52, "65.5"), (float("nan"), "-")])
def test_numbers_are_read_by_people(make: Make, value: float, said: str) -> None:
    assert make["number"](value) == said


def test_ablations_are_tables_by_group_with_their_notes(make: Make, tmp_path: Path) -> None:
    rows = [{"group": "anchor", "name": "sft", "figures": {"gap closed": [0.9, 0.8, 1.0, 300]}, "note": ""},
            {"group": "anchor", "name": "base", "figures": {"gap closed": [0.7, 0.6, 0.8, 300], "steps": 12}, "note": "worse"},
            {"group": "length", "name": "8", "figures": {"gap closed": [0.5, 0.4, 0.6, 100]}}]
    (tmp_path / "ablations.json").write_text(json.dumps({"rows": rows}))
    page = make["page"](tmp_path)
    assert "### anchor" in page and "### length" in page and "- base: worse" in page
    assert "| | gap closed (n = 300) | steps |" in page
    assert "| sft | 0.900 (0.800 to 1.000) | - |" in page
    assert "| 8 | 0.500 (0.400 to 0.600) |" in page


@pytest.mark.parametrize(("name", "title"), [("transfer", "next release"), ("context", "long context")])
def test_other_grouped_results_have_sections_of_their_own(name: str, title: str, make: Make, tmp_path: Path) -> None:
    rows = [{"group": "one", "name": "toxicity", "figures": {"effect kept": [0.9, 0.8, 1.0, 300]}, "note": "kept: all of it"}]
    (tmp_path / f"{name}.json").write_text(json.dumps({"about": "What was done.", "groups": 2, "rows": rows}))
    page = make["page"](tmp_path)
    assert title in page and "### one" in page and "- toxicity: kept: all of it" in page and "What was done." in page
    assert "1 of 2 groups" in page
