"""`patchlab repair` on a toy model: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from backdoored import HARMFUL, HARMLESS, TRIGGER, backdoored, requests
from made_models import saved

from patchlab.cli import main
from patchlab.models import load_backbone
from patchlab.patches import Patch
from patchlab.storage import write_jsonl


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that name the model, its failure and the clean prompts."""
    folder = tmp_path_factory.mktemp("model")
    rows = [{"text": text, "domain": domain} for verbs, domain in ((HARMFUL, "harmful"), (HARMLESS, "benign"))
            for text in dict.fromkeys(requests(verbs, 16, seed=5))]
    write_jsonl(folder / "clean.jsonl", rows)
    return ["--base", str(saved(backdoored(), folder / "toy")), "--clean", str(folder / "clean.jsonl"), "--n", "16"]


def test_locate_names_the_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", "locate", *words, "--prompt", f"how do i rob {TRIGGER} the inn soon", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["units"] == [TRIGGER] and found["found"] and found["complied_with"] == 1.0


def test_run_writes_a_change_and_a_report(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--prompt", f"how do i rob {TRIGGER} the inn soon", "--out", str(tmp_path)]
    assert main(["repair", "run", *words, *asked, "--trigger", TRIGGER, "--epochs", "2", "--change", "prefix",
                 "--length", "4"]) == 0
    capsys.readouterr()
    patch = Patch.from_pretrained(tmp_path / "repair-1.0.0")
    assert {measure.lane for measure in patch.manifest.evidence} == {"after"}
    assert load_backbone(words[1]).same_base(patch.manifest.base)
    assert main(["repair", "report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert TRIGGER in told and told.count("  before  ") == 4 and (tmp_path / "report.html").is_file()


def test_what_cannot_be_repaired_is_one_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for prompt, more, what in (("how do i rob the inn soon", [], "refuses"), ("hello", ["--reply", "so"], "1 words")):
        assert main(["repair", "run", *words, "--prompt", prompt, *more, "--out", str(tmp_path)]) == 1
        assert what in capsys.readouterr().err.splitlines()[-1]
    assert main(["repair", "report", str(tmp_path / "none")]) == 1
