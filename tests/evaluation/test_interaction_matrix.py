"""The interaction matrix on a tiny base: what is measured, against what, kept row by row and taken up again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_models import make_patch
from made_suites import SAMPLING

from patchlab.engine import Lab
from patchlab.errors import InputError, NotFoundError, PatchFormatError
from patchlab.evaluation import evaluate, matrix, reply_store
from patchlab.evaluation.interaction_matrix import stacks_of
from patchlab.patches import Patch, Stack
from patchlab.patches.interactions import Cell, InteractionRow, Interactions, load_interactions
from patchlab.records import Progress, Report
from patchlab.registry import Installed
from patchlab.storage import write_jsonl
from patchlab.validation import dump

DOMAINS = {"calm": "toxicity", "even": "bias", "firm": "refusal"}


def put(lab: Lab, name: str, domain: str, *, seed: int | None = None, strength: float = 1.0) -> None:
    """Save a made patch of this domain into the lab's registry."""
    made = make_patch(lab.base, name, length=3, seed=seed, strength=strength)
    manifest = replace(made.manifest, domain=domain)
    Patch(manifest, made.prefix).save_pretrained(lab.registry.folders[0] / manifest.folder_name)


@pytest.fixture
def patches(lab: Lab) -> list[Installed]:
    for name, domain in DOMAINS.items():
        put(lab, name, domain)
    return lab.planner.installed()


def steps(lab: Lab, prompts: Path, out: Path, patches: list[Installed] | None = None, **options: object):  # type: ignore[no-untyped-def]
    return matrix(lab, patches or lab.planner.installed(), out=out, n=3, folder=prompts, sampling=SAMPLING, **options)  # type: ignore[arg-type]


def found(*args: object, **options: object) -> Interactions:
    *_, last = steps(*args, **options)  # type: ignore[arg-type]
    assert isinstance(last, Interactions)
    return last


def row_of(interactions: Interactions, *stack: str, mode: str = "parallel") -> InteractionRow:
    [row] = [row for row in interactions.rows if row.stack == stack and (row.mode == mode or not stack)]
    return row


def as_text(interactions: Interactions) -> list[object]:
    return sorted([row.key, dict(row.settings), [dump(cell) for cell in row.cells]] for row in interactions.rows)


def test_every_stack_has_its_own_effects_refusals_and_drift(lab: Lab, prompts_folder: Path, patches: list[Installed],
                                                            tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    every = found(lab, prompts_folder, out)
    assert as_text(load_interactions(out)) == as_text(every)
    assert [row.stack for row in every.rows] == stacks_of(patches, "parallel")
    shared = {("overrefusal", "refusal_rate", ""), ("overrefusal", "refusal_rate_benign", ""),
              ("overrefusal", "refusal_rate_lookalike", "")}
    own = {"calm@1.0.0": ("toxicity", "toxic_rate"), "even@1.0.0": ("bias", "stereotype_rate"),
           "firm@1.0.0": ("refusal", "refusal_rate")}
    for row in every.rows:
        places = {(cell.suite, cell.metric, cell.patch) for cell in row.cells}
        mine = {(*own[name], name) for name in row.stack} or {(*figure, "") for figure in own.values()}
        assert places == shared | mine | ({("drift", "kl_to_base", "")} if row.stack else set())
        assert all(len(cell.values) >= cell.n and cell.digest and cell.scorer for cell in row.cells)
        for cell in row.cells:
            if cell.change is None:
                assert not row.stack or cell.suite == "drift" or not cell.n
            elif len(row.stack) == 1:
                assert cell.change.against == ()
            elif cell.patch:
                assert cell.change.against == (cell.patch,)
            else:
                assert cell.change.against in [(name,) for name in row.stack]


def test_a_pair_is_what_evaluate_says_of_that_stack(lab: Lab, prompts_folder: Path, patches: list[Installed],
                                                    tmp_path: Path) -> None:
    every = found(lab, prompts_folder, tmp_path / "found.json", mode="blend")
    suites = ["toxicity", "refusal", "overrefusal", "drift"]
    *_, report = evaluate(lab, stack=Stack.parse("calm,firm", mode="blend"), suites=suites, n=3, folder=prompts_folder,
                          sampling=SAMPLING)
    assert isinstance(report, Report)
    measures = {(m.suite, m.metric): m for m in report.measures if m.lane == "patched"}
    for cell in row_of(every, "calm@1.0.0", "firm@1.0.0", mode="blend").cells:
        other = measures[cell.suite, cell.metric]
        assert (cell.value, cell.low, cell.high) == pytest.approx((other.value, other.low, other.high), abs=1e-5)
        assert (cell.n, cell.scorer) == (other.n, other.scorer)
        # base and reference have one name here, so a report can tell them apart no more
        expected = lab.base.identity.fingerprint if cell.suite == "drift" else report.scorers[other.scorer]
        assert cell.digest == expected


def test_a_change_is_between_the_rows_and_positive_where_it_is_better(lab: Lab, prompts_folder: Path,
                                                                      patches: list[Installed], tmp_path: Path) -> None:
    every = found(lab, prompts_folder, tmp_path / "found.json")
    both = row_of(every, "calm@1.0.0", "even@1.0.0")
    alone = {name: row_of(every, name) for name in both.stack}

    def cells(suite: str, metric: str, patch: str) -> tuple[Cell, Cell]:
        now, before = both.cell(suite, metric, patch), alone[patch or worst].cell(suite, metric, patch)
        assert now and before and now.change
        return now, before

    drifts = {name: row.cell("drift", "kl_to_base") for name, row in alone.items()}
    worst = max(drifts, key=lambda name: drifts[name].value)  # type: ignore[union-attr]
    now, before = cells("toxicity", "toxic_rate", "calm@1.0.0")
    assert now.change.value == pytest.approx(100 * (before.value - now.value))  # type: ignore[union-attr]
    now, before = cells("drift", "kl_to_base", "")
    assert now.change.against == (worst,) and now.change.unit == "nats"  # type: ignore[union-attr]
    assert now.change.value == pytest.approx(before.value - now.value)  # type: ignore[union-attr]
    assert now.change.low < now.change.value < now.change.high and now.value > 0  # type: ignore[union-attr]
    firm = row_of(every, "firm@1.0.0").cell("refusal", "refusal_rate", "firm@1.0.0")
    base = row_of(every).cell("refusal", "refusal_rate")
    assert firm and base and firm.change and firm.change.value == pytest.approx(100 * (firm.value - base.value))


def test_what_was_cut_goes_on_with_the_next_row(lab: Lab, prompts_folder: Path, patches: list[Installed], tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(lab, prompts_folder, tmp_path / "whole.json")
    out, kept, lanes = tmp_path / "cut.json", 0, []
    draw = reply_store.finished
    monkeypatch.setattr(reply_store, "finished", lambda lanes_, *args, **options: lanes.append(lanes_[0].name) or draw(
        lanes_, *args, **options))
    while kept < 4:  # cut in the middle of every row
        running = steps(lab, prompts_folder, out)
        for step in running:
            now = len(load_interactions(out).rows) if out.exists() else 0
            assert now >= kept
            if now > kept and isinstance(step, Progress) and step.done < step.total:
                running.close()
        kept = now
    lanes.clear()
    first, *_, last = steps(lab, prompts_folder, out)
    assert isinstance(first, Progress) and 0 < first.done < first.total
    assert isinstance(last, Interactions) and as_text(last) == as_text(whole)
    assert set(lanes) == {"base", *(" + ".join(row.stack) for row in whole.rows[4:])}, "a finished row was drawn again"
    lanes.clear()
    [done, again] = steps(lab, prompts_folder, out)
    assert done.done == done.total and as_text(again) == as_text(whole) and lanes == []


def test_only_what_has_changed_is_measured_again(lab: Lab, prompts_folder: Path, patches: list[Installed], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    out, lanes = tmp_path / "found.json", []
    before = found(lab, prompts_folder, out)
    put(lab, "firm", "refusal", seed=99)
    draw = reply_store.finished
    monkeypatch.setattr(reply_store, "finished", lambda lanes_, *args, **options: lanes.append(lanes_[0].name) or draw(
        lanes_, *args, **options))
    after = found(lab, prompts_folder, out)
    assert all("firm" in name or name == "base" for name in lanes) and lanes
    assert as_text(after) != as_text(before) and len(after.rows) == len(before.rows)
    assert [*map(dump, row_of(after, "calm@1.0.0", "even@1.0.0").cells)] == [
        *map(dump, row_of(before, "calm@1.0.0", "even@1.0.0").cells)]
    lanes.clear()
    found(lab, prompts_folder, out, [one for one in lab.planner.installed() if one.manifest.name != "even"])
    assert lanes == [], "fewer patches need nothing new"
    write_jsonl(prompts_folder / "harmful.jsonl", [{"text": "another question"}])
    found(lab, prompts_folder, out)
    assert set(lanes) == {"base", "firm@1.0.0", "calm@1.0.0 + firm@1.0.0", "even@1.0.0 + firm@1.0.0"}


def test_a_sequence_has_both_orders_and_modes_share_the_file(lab: Lab, prompts_folder: Path, patches: list[Installed],
                                                             tmp_path: Path) -> None:
    out, two, suites = tmp_path / "found.json", patches[:2], ["overrefusal"]
    parallel = found(lab, prompts_folder, out, two, suites=suites)
    every = found(lab, prompts_folder, out, two, suites=suites, mode="sequential")
    assert [row.stack for row in every.rows[len(parallel.rows):]] == [
        ("calm@1.0.0",), ("even@1.0.0",), ("calm@1.0.0", "even@1.0.0"), ("even@1.0.0", "calm@1.0.0")]
    assert every.rows[:len(parallel.rows)] == parallel.rows, "the base is the same in every mode"
    assert {cell.suite for row in every.rows for cell in row.cells} == {"overrefusal"}


def test_triples_are_measured_where_asked_for(lab: Lab, prompts_folder: Path, patches: list[Installed], tmp_path: Path) -> None:
    pairs = found(lab, prompts_folder, tmp_path / "m.json")
    assert max(len(row.stack) for row in pairs.rows) == 2
    every = found(lab, prompts_folder, tmp_path / "m.json", triples=True)
    assert {row.key for row in pairs.rows} < {row.key for row in every.rows} and len(every.rows) == len(pairs.rows) + 1
    row = row_of(every, "calm@1.0.0", "even@1.0.0", "firm@1.0.0")
    own = {cell.patch: cell for cell in row.cells if cell.patch}
    assert set(own) == {"calm@1.0.0", "even@1.0.0", "firm@1.0.0"}
    assert all(not cell.n or (cell.change and cell.change.against == (name,)) for name, cell in own.items())
    assert len(stacks_of(patches, "sequential", 3)) == 1 + 3 + 6 + 6


def test_versions_of_one_patch_never_pair(lab: Lab, patches: list[Installed]) -> None:
    one = patches[0]
    other = Installed(one.folder, replace(one.manifest, version="1.1.0"))
    assert stacks_of([one, other], "sequential") == [(), ("calm@1.0.0",), ("calm@1.1.0",)]


def test_what_cannot_be_measured_is_said_before_any_work(lab: Lab, prompts_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    with pytest.raises(NotFoundError, match="did you mean 'drift'"):
        next(steps(lab, prompts_folder, out, suites=["drft"]))
    with pytest.raises(NotFoundError, match="unknown suite of the matrix 'fluency'"):
        next(steps(lab, prompts_folder, out, suites=["fluency"]))
    with pytest.raises(InputError, match="no patch to measure"):
        next(matrix(lab, [], out=out, folder=prompts_folder))
    out.write_text("[]")
    with pytest.raises(PatchFormatError, match=r"found\.json is not an object but a list"):
        next(steps(lab, prompts_folder, out))
    assert out.read_text() == "[]"
