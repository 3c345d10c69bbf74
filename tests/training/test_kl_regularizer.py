"""The KL term: nothing for a patch that does nothing, and a mean over tokens in which a reply's first counts as often as told."""

from __future__ import annotations

import pytest
import torch
from made_models import make_patch

from patchlab.engine import Trio, compile_prefix
from patchlab.engine.likelihood import reply_logits
from patchlab.records import Prompt
from patchlab.training.dataset import Rows
from patchlab.training.kl_regularizer import Hold, Present


@pytest.mark.parametrize("lead", [1.0, 4.0, 1000.0])
def test_the_first_token_counts_lead_times(trio: Trio, prompts: list[Prompt], lead: float) -> None:
    rows = Rows(trio.base, [(prompt, "so late again") for prompt in prompts[:4]], rows=4, seed=0)
    hold = Hold(trio.base, rows, lead=lead)
    with torch.no_grad():
        part = compile_prefix(trio.base, torch.tensor(make_patch(trio.base, "own", length=4).prefix)), 1.0
        assert float(hold.loss(0, (), Present())) == pytest.approx(0, abs=1e-3)
        found = float(hold.loss(0, (part,), Present()))
        _, texts = rows.deal(0)
        bare, patched = (reply_logits(trio.base, texts, parts).log_softmax(-1) for parts in ((), (part,)))
    each = (bare.exp() * (bare - patched)).sum(-1)
    first = torch.tensor([k == 0 or texts.rows[k] != texts.rows[k - 1] for k in range(len(each))])
    weights = torch.where(first, lead, 1.0)
    assert found == pytest.approx(float((each * weights).sum() / weights.sum()), rel=0.02)  # targets are kept in 16 bits
    assert float(each.max()) > 0.01
