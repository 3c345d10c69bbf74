"""`patchlab patches port` and `python -m tools.pocket next` with real parts on a made preset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchlab.cli import main
from patchlab.evaluation import transfer
from patchlab.evaluation.transfer import Verdict
from patchlab.models import load_backbone
from patchlab.patches import Patch
from tools.pocket import next as release
from tools.pocket.__main__ import main as tool


@pytest.fixture
def later(made_assets: Path, tmp_path: Path, pocket: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made base's next release, by the tool."""
    monkeypatch.setattr(release.Release, "__init__", _small(release.Release.__init__))
    assert tool(["next", "--out", str(tmp_path / "next"), "--steps", "3"]) == 0
    return tmp_path / "next"


def _small(init):  # type: ignore[no-untyped-def]
    def made(self, **dials):  # type: ignore[no-untyped-def]
        init(self, **{"size": release.Size(rows=4, peak_rate=0.05), **dials})
    return made


def test_a_patch_is_checked_and_written_only_when_accepted(later: Path, calm: Path, tmp_path: Path, home: Path,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(transfer, "decide", lambda *_, **__: Verdict("kept in part", "so it was"))
    monkeypatch.chdir(later)  # a base is named as its folder is, also from inside of it
    words = ["patches", "port", str(calm), "--base", ".", "--n", "2", "--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[-1]["verdict"] == "kept in part" and rows[-1]["differences"]
    assert {row["lane"] for row in rows[:-1]} == {"old base", "old patched", "base", "patched"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"replies.jsonl", "settings.json", "port.json"}
    assert json.loads((tmp_path / "out" / "port.json").read_text())["verdict"] == "kept in part"

    assert main([*words, "--accept"]) == 0
    out = capsys.readouterr().out
    base = load_backbone(later)
    folder = tmp_path / "out" / f"calm-1.0.0+port.{base.identity.fingerprint[3:11]}"
    assert str(folder) in out and "kept in part: so it was" in out and "differs from the patch's own base: weights" in out
    written = Patch.from_pretrained(folder)
    assert written.manifest.base == base.identity
    assert {m.lane for m in written.manifest.evidence} == {"patched"} and all(m.n <= 4 for m in written.manifest.evidence)
    assert main(["patches", "install", str(folder)]) == 0
    assert main(["patches", "show", f"calm@{written.manifest.version}"]) == 0

    # beside it the one it came from: which of the two a name means is for the base to say
    assert main(["patches", "install", str(calm)]) == 0
    capsys.readouterr()
    assert main(["patches", "port", "calm", "--base", str(later), "--n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["version"] == written.manifest.version


def test_what_is_lost_is_not_accepted(later: Path, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(transfer, "decide", lambda *_, **__: Verdict("lost", "nothing of it"))
    out = tmp_path / "out"
    assert main(["patches", "port", str(calm), "--base", str(later), "--n", "2", "--out", str(out), "--accept"]) == 1
    printed = capsys.readouterr()
    assert "lost: nothing of it" in printed.out and "the verdict 'lost'" in printed.err
    assert not list(out.glob("calm-*"))


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--base", "pocket"], 1, "this very base"), (["--base", "pockt"], 1, "did you mean 'pocket'"),
    (["--base", "pocket", "--accept"], 2, "--accept needs --out")])
def test_what_cannot_be_ported_is_one_line(words: list[str], code: int, said: str, pocket: Path, calm: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = main(["patches", "port", str(calm), *words])
    except SystemExit as left:
        found = int(left.code or 0)
    assert found == code and said in capsys.readouterr().err.splitlines()[-1]
