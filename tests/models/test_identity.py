"""Fingerprints tell bases apart by their weights alone, and patches made under the first version still match."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from made_models import byte_level, make_backbone, make_model, make_patch
from transformers import PreTrainedTokenizerFast

from patchlab.models import Backbone
from patchlab.models.identity import TEMPLATE, WEIGHTS, fingerprint, legacy_fingerprint


def test_the_fingerprint_tells_weights_apart(llama: Backbone) -> None:
    weights = [tensor.clone() for tensor in llama.model.parameters()]
    assert fingerprint(weights) == llama.identity.fingerprint == llama.fingerprints[0]
    weights[-1][3] += 0.5
    assert fingerprint(weights) != llama.identity.fingerprint
    assert len({make_backbone(family, seed=seed).identity.fingerprint
                for family in ("llama", "qwen3", "gpt2") for seed in (0, 1)}) == 6


def test_names_order_dtype_and_ties_are_no_part_of_it(llama: Backbone) -> None:
    weights = list(llama.model.parameters())
    own = llama.identity.fingerprint
    assert own.startswith(WEIGHTS) and fingerprint(reversed(weights)) == own
    assert fingerprint(weight.bfloat16() for weight in weights) == own
    assert fingerprint([*weights, weights[0].clone()]) == own
    assert fingerprint([weights[0].T, *weights[1:]]) != own


def test_the_first_version_still_matches(llama: Backbone) -> None:
    """The digests below are those of patches made before: of names, and of the template's source."""
    state = {name: tensor.clone() for name, tensor in llama.model.state_dict().items()}
    first = legacy_fingerprint(state)
    assert llama.fingerprints == (llama.identity.fingerprint, first) and not first.startswith(WEIGHTS)
    old = dataclasses.replace(make_patch(llama, "a", length=2).manifest.base, fingerprint=first)
    assert llama.same_base(old)
    llama.check_patch(old, patch="a")
    renamed = {f"decoder.{name}": tensor for name, tensor in state.items()}
    assert legacy_fingerprint(renamed) != first  # which is why there is a second


def test_templates_are_compared_by_what_they_write(llama: Backbone) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level().backend_tokenizer, eos_token="<|end|>",
                                        additional_special_tokens=["<|turn|>"])
    tokenizer.chat_template = byte_level().chat_template.replace("m in messages", "message in messages").replace(
        "m['", "message['")
    model = make_model("llama", vocabulary=len(byte_level()))
    other = Backbone(model, tokenizer, name="other")
    assert other.identity.template_digest.startswith(TEMPLATE) and not llama.template_differs(other.identity)
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "model")
    changed = Backbone(model, tokenizer, name="other")
    assert llama.template_differs(changed.identity)
    llama.check_patch(changed.identity, patch="a")  # told, and no error
    assert llama.template_differs(dataclasses.replace(llama.identity, template_digest="0" * 64))
    plain = make_backbone("llama", words="byte_fallback")
    assert plain.identity.template_digest == "" and llama.template_differs(plain.identity)


def test_the_digest_of_a_templates_source_still_matches(llama: Backbone) -> None:
    source = hashlib.sha256(json.dumps(llama.tokenizer.chat_template, sort_keys=True).encode()).hexdigest()
    assert not llama.template_differs(dataclasses.replace(llama.identity, template_digest=source))
