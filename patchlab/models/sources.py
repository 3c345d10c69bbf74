"""Finds a model and checks its files before anything is loaded: a folder, a GGUF file, or a repository on the Hub."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from patchlab.errors import MissingExtraError, ModelError
from patchlab.models.architectures import check_gguf
from patchlab.models.gguf_files import architecture_of

HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
GGUF = "gguf==0.19.0"
WANTED = "a folder or Hub id with config.json, tokenizer and safetensors weights, or a GGUF file"
SAFE_ADAPTER = "safetensors: a pickle can run code when it is read"
SAVE_AGAIN = "load it where you trust it and save it again with save_pretrained"
WAIT = 5.0  # seconds to wait for the Hub; without this check its client retries for every file
CONFIG, ADAPTER, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TOKENIZERS = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json",
                        "sentencepiece.bpe.model"})


@dataclass(frozen=True, slots=True)
class Source:
    """A model's location: `where` is a folder or Hub id for transformers, `settings` the contents of config.json.

    `gguf` names a GGUF file in the folder, which then has no config.json. With `cached` the Hub cannot be reached and only
    files that were downloaded before are available.
    """

    where: str
    name: str
    settings: Mapping[str, Any]
    revision: str | None = None
    gguf: str | None = None
    cached: bool = False


def find_source(source: str | Path, revision: str | None = None) -> Source:
    """Find a model by folder, GGUF file or Hub id, and check that it has all files and no pickled weights.

    Raises ModelError naming what is missing, MissingExtraError for a GGUF file when the package gguf is not installed.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _gguf(path)
    if path.is_dir():
        return _folder(path.resolve())  # resolved, so that "." has a name
    if not HUB_ID.fullmatch(str(source)):
        _refuse(source, "there is no such folder or file", do="correct the path")
    return _repository(str(source), revision)


def find_adapter(source: str | Path, revision: str | None = None) -> tuple[Path, str] | None:
    """The folder and name of a low-rank adapter by folder or Hub id; None for any other source, which may be a model.

    Raises ModelError for an adapter without safetensors weights.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        names = {file.name for file in path.iterdir() if file.is_file()}
        if ADAPTER not in names or any(name.endswith(".safetensors") for name in names - {ADAPTER_WEIGHTS}):
            return None
        if ADAPTER_WEIGHTS not in names:
            _refuse(path, f"an adapter without {ADAPTER_WEIGHTS}", expected=SAFE_ADAPTER, do=SAVE_AGAIN)
        return path.resolve(), _printable(path.resolve().name)
    if path.is_file() or not HUB_ID.fullmatch(str(source)):
        return None
    cached = not reachable()
    try:
        config = Path(hf_hub_download(str(source), ADAPTER, revision=revision, local_files_only=cached))
    except (HFValidationError, EntryNotFoundError, OSError):  # `find_source` gives the reason, if it is no model either
        return None
    try:
        hf_hub_download(str(source), ADAPTER_WEIGHTS, revision=config.parent.name, local_files_only=cached)
    except (EntryNotFoundError, OSError):
        _refuse(source, f"an adapter without {ADAPTER_WEIGHTS}", expected=SAFE_ADAPTER, do=SAVE_AGAIN)
    return config.parent, str(source)


def _refuse(source: str | Path, reason: str, *, expected: str = WANTED, do: str) -> NoReturn:
    raise ModelError(f"model {str(source)[:200]!r} cannot be loaded ({reason})", expected=expected, do=do)


def _folder(path: Path) -> Source:
    names = {file.name for file in path.iterdir() if file.is_file()}
    if ADAPTER in names:
        _refuse(path, f"it holds an adapter, {ADAPTER}", expected="the files of one model and nothing else",
                do="merge the adapter into the model, or move the adapter's files elsewhere to load the model without it")
    weights = any(name.endswith(".safetensors") for name in names)
    quantised = sorted(name for name in names if name.lower().endswith(".gguf"))
    if quantised and not weights:
        if len(quantised) > 1:
            _refuse(path, f"it holds {len(quantised)} GGUF files", expected="one", do=f"name one, such as {path / quantised[0]}")
        return _gguf(path / quantised[0])
    if CONFIG not in names:
        _refuse(path, f"it has no {CONFIG}", do="name the folder in which the model was saved")
    if not weights:
        pickled = sorted(name for name in names if name.endswith(PICKLED))
        if pickled:
            _refuse(path, f"its weights are pickled, {pickled[0]}", expected="safetensors: a pickle can run code when it is read",
                    do="load them where you trust them and save them again with save_pretrained")
        _refuse(path, "it has no weights", do="download the model's safetensors files")
    if not (names & TOKENIZERS or any(name.endswith(".tiktoken") for name in names)):
        _refuse(path, "it has no tokenizer", do="save the tokenizer beside the model with save_pretrained")
    return Source(str(path), _printable(path.name), _settings(path / CONFIG))


def _gguf(path: Path) -> Source:
    if path.suffix.lower() != ".gguf":
        _refuse(path, "it is a file, but not a GGUF file", do="name the model's folder")
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("the package gguf is not installed", expected=f"{GGUF} for a GGUF file", do=f"pip install {GGUF}")
    check_gguf(architecture_of(path), name=_printable(path.name))
    return Source(str(path.parent.resolve()), _printable(path.stem), {}, gguf=path.name)


def _repository(source: str, revision: str | None) -> Source:
    """A repository at the commit of its config.json, so that all files are of the same commit."""
    cached = not reachable()
    try:
        config = Path(hf_hub_download(source, CONFIG, revision=revision, local_files_only=cached))
    except GatedRepoError:
        _refuse(source, "its owner asks you to accept a licence", do="accept it on its page and log in with `hf auth login`")
    except RevisionNotFoundError:
        _refuse(source, f"it has no revision {str(revision)[:80]!r}", do="correct the revision, or leave it out")
    except (RepositoryNotFoundError, HFValidationError):
        _refuse(source, "there is no such folder here, and no such repository on the Hub",
                do="correct the name; for a private repository log in with `hf auth login`")
    except LocalEntryNotFoundError:
        _refuse(source, "there is no such folder here, and the Hub cannot be reached",
                do="correct the path, or connect to the network; what was downloaded before loads without it")
    except EntryNotFoundError:
        _refuse(source, f"the repository has no {CONFIG}", do="choose one with safetensors weights, or download its GGUF file")
    except OSError as error:
        _refuse(source, f"the Hub answers with an error, {' '.join(str(error).split())[:120]}", do="try again, or name a folder")
    commit = config.parent.name
    try:
        hf_hub_download(source, ADAPTER, revision=commit, local_files_only=cached)
    except (EntryNotFoundError, OSError):  # no adapter, as expected
        return Source(source, source, _settings(config), revision=commit, cached=cached)
    _refuse(source, f"it holds an adapter, {ADAPTER}", expected="a repository with one model", do="load the model it adapts")


def reachable() -> bool:
    """Whether the Hub answers within WAIT seconds."""
    try:
        get_session().head(constants.ENDPOINT, timeout=WAIT)
    except Exception:  # offline mode, or an error of the HTTP client
        return False
    return True


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        _refuse(path.parent, f"its {CONFIG} cannot be read: {str(error)[:80]}", do="download the file again")
    if not isinstance(settings, dict) or not isinstance(settings.get("model_type"), str):
        _refuse(path.parent, f"its {CONFIG} names no model_type", do="download the file again")
    return settings


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in name) or "model"
