"""Low-rank changes of a frozen model that are trained beside it and saved in PEFT's format: taken away, the model is as before.

Hu et al., arXiv 2106.09685. The model's own tensors are never written to; a view applies the changes (`models.views`).
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from patchlab.models import Backbone
from patchlab.models.adapter import PINNED, linear_layers
from patchlab.models.sources import ADAPTER, ADAPTER_WEIGHTS
from patchlab.models.views import adapting, decoder_layers
from patchlab.storage import write_folder


class LowRankWeights:
    """Trainable pairs (down [r, in], up [out, r]) for every linear layer inside the decoder layers; up begins at zero.

    The change of a layer is alpha / r times `up` @ `down`.
    """

    def __init__(self, backbone: Backbone, *, rank: int = 32, alpha: float = 64.0, seed: int = 0) -> None:
        self.backbone, self.rank, self.alpha = backbone, rank, alpha
        inside = decoder_layers(backbone.model)[0] + "."
        random = torch.Generator().manual_seed(seed)
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for path, (wide, out) in linear_layers(backbone.model):
            if path.startswith(inside):
                bound = 1 / math.sqrt(wide)
                down = (torch.rand(rank, wide, generator=random) * 2 - 1) * bound
                self.pairs[path] = (down.to(backbone.device).requires_grad_(True),
                                    torch.zeros(out, rank, device=backbone.device).requires_grad_(True))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All trained tensors, by PEFT's names."""
        return {f"base_model.model.{path}.lora_{side}.weight": tensor for path, pair in self.pairs.items()
                for side, tensor in zip("AB", pair, strict=True)}

    def scaled(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The pairs as views of a model take them, the scale inside `up`."""
        return {path: (down, up * (self.alpha / self.rank)) for path, (down, up) in self.pairs.items()}

    def applied(self) -> Backbone:
        """The backbone with the changes as they are now; gradients reach them."""
        made = copy.copy(self.backbone)
        made.model, made.scheduler, made.anchors = adapting(self.backbone.model, self.scaled()), None, None
        return made

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write an adapter folder that PEFT and `load_reference` open, pinned to its base, and return it."""
        names = sorted({path.rsplit(".", 1)[-1] for path in self.pairs})
        settings: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": self.rank, "lora_alpha": self.alpha,
                                    "target_modules": names, "base_model_name_or_path": self.backbone.name}
        tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in self.tensors.items()}
        data = save(tensors, metadata={"format": "pt", PINNED: self.backbone.identity.fingerprint})
        return write_folder(folder, {ADAPTER: (json.dumps(settings, indent=2) + "\n").encode(), ADAPTER_WEIGHTS: data})
