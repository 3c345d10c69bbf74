"""Views of a model: fewer layers, watched or checkpointed, say what the model itself says, and leave it as it was."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from made_models import SLIDING, make_model, some_ids
from torch import Tensor

from patchlab.models import Backbone
from patchlab.models.views import checkpointed, decoder_layers, predicting, watched

IDS = torch.tensor([some_ids(20, seed=1), some_ids(20, seed=2)])


def modules(model: torch.nn.Module) -> list[tuple[str, int, tuple[str, ...]]]:
    """Every module by name, the very object, and what it carries of its own: hooks and patched methods would be seen."""
    return [(name, id(module), (*sorted(module.__dict__), str(len(module._forward_hooks)), str(module.training)))
            for name, module in model.named_modules()]


@pytest.fixture
def _untouched(backbone: Backbone, weights: Callable[[Backbone], str]) -> Any:
    before, was = weights(backbone), modules(backbone.model)
    yield
    assert weights(backbone) == before and modules(backbone.model) == was
    assert all(each.grad is None for each in backbone.model.parameters())


@pytest.mark.usefixtures("_untouched")
@torch.no_grad()
def test_watched_layers_tell_what_the_models_own_give(backbone: Backbone) -> None:
    """Bit for bit, against hooks on the model itself; layers behind the last that is watched are not run."""
    own: dict[int, Tensor] = {}

    def hook(k: int, layer: Any, inputs: Any, out: Any) -> None:
        own[k] = out[0] if isinstance(out, tuple) else out

    layers = decoder_layers(backbone.model)[1]
    hooks = [layer.register_forward_hook(partial(hook, k)) for k, layer in enumerate(layers)]
    backbone.model(input_ids=IDS, use_cache=False)
    for each in hooks:
        each.remove()
    assert not torch.equal(own[0], own[1])
    for asked in ([0], [1], [0, 1], [1, 0]):
        told: dict[int, Tensor] = {}
        view = watched(backbone.model, {k: partial(told.__setitem__, k) for k in asked})
        view(input_ids=IDS, use_cache=False)
        assert told.keys() == {*asked} and all(torch.equal(told[k], own[k]) for k in asked)
        assert len(decoder_layers_of(view)) == max(asked) + 1


def decoder_layers_of(view: torch.nn.Module) -> torch.nn.ModuleList:
    return next(module for module in view.modules() if isinstance(module, torch.nn.ModuleList))


@pytest.mark.usefixtures("_untouched")
def test_a_checkpointed_model_has_the_logits_and_gradients_of_the_model(backbone: Backbone) -> None:
    """Bit for bit, through inputs that ask for gradients, as a patch's do."""
    embedded = backbone.model.get_input_embeddings()(IDS)
    found = []
    for model in (backbone.model, checkpointed(backbone.model)):
        inputs = embedded.detach().clone().requires_grad_()
        logits = model(inputs_embeds=inputs, use_cache=False).logits
        found.append((logits, *torch.autograd.grad(logits.log_softmax(-1)[..., 5].sum(), [inputs])))
    assert all(torch.equal(mine, own) for mine, own in zip(*found, strict=True))
    assert found[0][1].abs().max() > 1e-3


def test_a_view_takes_no_memory_for_weights_and_follows_them(backbone: Backbone) -> None:
    weights = {each.data_ptr() for each in backbone.model.parameters()}
    for view in (watched(backbone.model, {0: lambda out: None}), checkpointed(backbone.model)):
        assert {each.data_ptr() for each in view.parameters()} <= weights
        assert not any(each.training for each in view.modules() if list(each.parameters(recurse=False)))


@pytest.mark.parametrize("family", ["llama", *SLIDING])
def test_layers_that_alternate_keep_their_kinds(family: str) -> None:
    """Four layers, some sliding: which mask a layer gets is read from the layer, and a wrapped one must not lose it."""
    kinds = {"layer_types": ["sliding_attention", "full_attention"] * 2} if family.startswith("gemma") else {}
    model = make_model(family, vocabulary=259, num_hidden_layers=4, **kinds)
    assert torch.equal(checkpointed(model)(input_ids=IDS, use_cache=False).logits, model(input_ids=IDS, use_cache=False).logits)


@torch.no_grad()
def test_threads_do_not_see_each_others_views(llama: Backbone) -> None:
    """Hooks on shared layers would tell one thread what another reads."""
    expected = llama.model(input_ids=IDS, use_cache=False).logits

    def each(k: int) -> bool:
        ids, told = torch.tensor([some_ids(3 + k % 7, seed=k)]), []
        watched(llama.model, {k % 2: told.append})(input_ids=ids, use_cache=False)
        whole = llama.model(input_ids=IDS, use_cache=False).logits
        return len(told) == 1 and told[0].shape[1] == ids.shape[1] and torch.equal(whole, expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(each, range(80)))


@torch.no_grad()
def test_a_forward_that_others_have_bound_to_the_model_does_not_follow_into_a_view() -> None:
    """As trl does for training: through the view it would run the original model."""
    model = make_model("llama", vocabulary=259)
    places = torch.zeros(IDS.shape, dtype=torch.bool)
    places[:, -2:] = True
    expected = predicting(model, places)(input_ids=IDS, use_cache=False).logits
    model.forward = partial(model.forward)
    assert torch.equal(predicting(model, places)(input_ids=IDS, use_cache=False).logits, expected)
    assert expected.shape[1] == 2 * len(IDS)
