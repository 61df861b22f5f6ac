"""Folder ↔ repository on the Hugging Face hub. The only module that imports huggingface_hub.

The library takes access tokens from the environment or from a login; nothing here sees one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instructclf.exceptions import SavedClassifierError

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LONGEST_ID = 96
_FILES = (".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth")
"""The endings of names that mean a file, which are never told to the hub."""
_ENDINGS = (".json", ".safetensors")
"""The endings of fetched files, none of which can be run."""
_DATA = tuple(f"*{ending}" for ending in _ENDINGS)
_INITIAL_FILES = {".gitattributes", "README.md"}
"""Files that a repository may have before anything is pushed."""


def is_repo_id(name: str) -> bool:
    """Say whether a name has the form of a repository: an owner, a slash and a name of no file."""
    is_file = name.lower().endswith(_FILES)
    return len(name) <= _LONGEST_ID and _REPO_ID.fullmatch(name) is not None and not is_file


def cache_folder(name: str) -> Path:
    """Return the folder in which this package keeps files of one kind, next to the hub's own."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "instructclf" / name


def fetch_file(repo_id: str, name: str, revision: str | None = None) -> Path | None:
    """Return the cached file of a repository, or ``None`` if the repository does not have it.

    Raises
    ------
    SavedClassifierError
        If the hub cannot be asked and the file was not fetched before, or refuses.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        with _explaining(f"{name} of the repository {repo_id!r} could not be fetched from the hub"):
            return Path(hf_hub_download(repo_id, name, revision=revision))
    except SavedClassifierError as error:
        if type(error.__cause__) is LocalEntryNotFoundError:  # nobody knows whether it exists
            raise
        if isinstance(error.__cause__, EntryNotFoundError):
            return None
        raise


def is_cached(repo_id: str, name: str, revision: str | None = None) -> bool:
    """Say whether a file of a repository was fetched before. Nothing is asked of the hub."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, name, revision=revision), str)


def has_file(repo_id: str, name: str, revision: str | None = None) -> bool:
    """Say whether a repository has a file, as far as the hub can be asked. Nothing is fetched."""
    from huggingface_hub import HfApi

    if is_cached(repo_id, name, revision):
        return True
    try:
        with _explaining(f"The files of {repo_id!r} could not be listed"):
            return HfApi().file_exists(repo_id, name, revision=revision)
    except SavedClassifierError:
        return False


def fetch_folder(
    repo_id: str, marker: str, revision: str | None = None, files: Sequence[str] = _DATA
) -> Path:
    """Return a folder with files of a repository, fetched once.

    Raises
    ------
    SavedClassifierError
        If the repository cannot be fetched, or does not have the file.
    """
    from huggingface_hub import snapshot_download

    with _explaining(
        f"There is no folder {repo_id!r} here, and the repository of this name could not be "
        "fetched from the hub"
    ):
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(files)))
    if not (folder / marker).is_file():
        msg = (
            f"The repository {repo_id!r} holds no saved classifier: it has no {marker}. Give a "
            "repository that push_to_hub has written."
        )
        raise SavedClassifierError(msg)
    return folder


def push_folder(
    folder: Path,
    repo_id: str,
    marker: str,
    *,
    private: bool | None,
    revision: str | None,
    commit_message: str,
) -> str:
    """Write a folder into a repository, which is created if it does not exist.

    Raises
    ------
    SavedClassifierError
        If the repository holds something else, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    with _explaining(f"The classifier could not be pushed to {repo_id!r}"):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        existing = set(api.list_repo_files(repo_id, revision=revision))
        _check_replaceable(repo_id, existing, marker)
        stale = {name for name in existing - files.keys() if name.endswith(_ENDINGS)}
        commit = api.create_commit(  # one commit: nobody sees half of it
            repo_id,
            [
                *(CommitOperationAdd(name, path) for name, path in sorted(files.items())),
                *(CommitOperationDelete(name) for name in sorted(stale)),
            ],
            commit_message=commit_message,
            revision=revision,
        )
    return str(commit.commit_url)


def _check_replaceable(repo_id: str, files: set[str], marker: str) -> None:
    """Raise an error if a push would replace a repository with other contents."""
    others = sorted(files - _INITIAL_FILES)
    if others and marker not in files:
        msg = (
            f"The repository {repo_id!r} holds something else, such as {others[0]!r}: there is no "
            f"{marker!r} in it. It is not changed. Give another name."
        )
        raise SavedClassifierError(msg)


@contextmanager
def _explaining(what: str) -> Iterator[None]:
    """Turn the errors of the hub's client into one sentence and a remedy."""
    from huggingface_hub.errors import HfHubHTTPError

    # The base class of the client's errors. Failed connections raise it directly.
    http_error: Any = next(one for one in HfHubHTTPError.__mro__ if one.__name__ == "HTTPError")
    try:
        yield
    except SavedClassifierError:
        raise
    except (OSError, ValueError, http_error) as error:
        said = " ".join(str(error).split())
        msg = (
            f"{what}: {said} Check the name and the connection. To write, or to read a private "
            "repository, log in with `hf auth login` or set HF_TOKEN."
        )
        raise SavedClassifierError(msg) from error
