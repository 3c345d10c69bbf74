"""Downloads patches from and uploads them to the Hugging Face Hub, limited to the file names and sizes a patch can have."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from patchlab.errors import InputError, NotFoundError, PatchFormatError
from patchlab.patches.folder import CAPS, KNOWN

_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def is_repository(text: str) -> bool:
    """Whether `text` has the form of a repository, "owner/name"."""
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text and not text.startswith(".")


@contextmanager
def downloaded(repository: str, *, revision: str | None) -> Iterator[Path]:
    """A temporary folder with the patch files of a repository; without a network they come from the Hub's local cache.

    Raises NotFoundError for a repository or revision that does not exist or cannot be reached, PatchFormatError before the
    download for a file that is larger than in any patch.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import httpx

    try:
        with suppress(OfflineModeIsEnabled, httpx.RequestError):  # the local cache may have it
            info = HfApi().model_info(repository, revision=revision, files_metadata=True)
            for file in info.siblings or ():
                if (file.size or 0) > CAPS.get(file.rfilename, math.inf):
                    raise PatchFormatError(f"{file.rfilename} of {repository} has {file.size} bytes",
                                           expected=f"at most {CAPS[file.rfilename]}", do="check the name of the repository")
        cached = snapshot_download(repository, revision=revision, allow_patterns=[*KNOWN])
    except (RepositoryNotFoundError, RevisionNotFoundError):
        asked = repr(repository) + (f" with revision {revision!r}" if revision else "")
        raise NotFoundError(f"no folder and no Hub repository {asked}",
                            expected="a patch folder, or a repository that you may read",
                            do="check the name, or log in with `hf auth login` if it is private") from None
    except (httpx.HTTPError, OSError) as error:
        raise NotFoundError(f"no folder {repository!r}, and the Hub cannot be reached ({_reason(error)})",
                            expected="a network or a folder", do="connect, or give the folder of a downloaded patch") from None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "patch"
        folder.mkdir()
        for name in KNOWN:  # the cache holds symbolic links, which a patch folder may not contain
            if (Path(cached) / name).is_file():
                shutil.copyfile(Path(cached) / name, folder / name)
        yield folder


def upload(files: Mapping[str, bytes], repository: str, *, private: bool | None, revision: str | None, message: str) -> str:
    """Commit these files of a patch to a repository, delete its other patch files, and return the URL. Raises InputError."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        if revision:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        obsolete = ({*KNOWN} - files.keys()) & {*hub.list_repo_files(repository, revision=revision)}
        changes = [CommitOperationAdd(name, data) for name, data in files.items()]
        commit = hub.create_commit(repository, [*changes, *map(CommitOperationDelete, sorted(obsolete))], revision=revision,
                                   commit_message=message)
    except (httpx.HTTPError, HFValidationError, OSError) as error:
        raise InputError(f"the Hub repository {repository[:100]!r} cannot be written ({_reason(error)})",
                         expected="a network and a repository of your own", do="log in with `hf auth login`") from None
    return str(commit.commit_url)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
