"""The KL term: nothing for a patch that does nothing, and a mean over tokens in which a reply's first counts as often as told."""

from __future__ import annotations

import pytest
import torch
from made_models import make_patch

from patchlab.engine import BARE, Lab, StackPlan, compile_prefix
from patchlab.engine.likelihood import reply_logits
from patchlab.records import Prompt
from patchlab.training.companions import StepCompanions
from patchlab.training.dataset import Dataset, TrainingExample
from patchlab.training.kl_regularizer import KLRegularizer


@pytest.mark.parametrize("lead", [1.0, 4.0, 1000.0])
def test_the_first_token_counts_lead_times(lab: Lab, prompts: list[Prompt], lead: float) -> None:
    data = Dataset(lab.base, [TrainingExample(prompt, "so late again") for prompt in prompts[:4]], rows=4, seed=0)
    regularizer = KLRegularizer(lab.base, data, lead=lead)
    with torch.no_grad():
        plan = StackPlan.of((compile_prefix(lab.base, torch.tensor(make_patch(lab.base, "own", length=4).prefix)), 1.0))
        assert float(regularizer.loss(0, BARE, StepCompanions(), (0, 1))) == pytest.approx(0, abs=1e-3)
        found = float(regularizer.loss(0, plan, StepCompanions(), (0, 1)))
        _, texts = data.batch(0)
        bare, patched = (reply_logits(lab.base, texts, each).log_softmax(-1) for each in (BARE, plan))
    each = (bare.exp() * (bare - patched)).sum(-1)
    first = torch.tensor([k == 0 or texts.rows[k] != texts.rows[k - 1] for k in range(len(each))])
    weights = torch.where(first, lead, 1.0)
    assert found == pytest.approx(float((each * weights).sum() / weights.sum()), rel=0.02)  # targets are kept in 16 bits
    assert float(each.max()) > 0.01
