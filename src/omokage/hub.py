"""Published models on a hub of Hugging Face: ``hf://owner/name@revision``.

Only two files are loaded: ``config.json`` and ``model.safetensors``, whose hash the first one has. Nothing
in them is executed.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import cache_folder

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MOST_CONFIG = 16_000_000  # bytes
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
# A `Path` made of an address has lost a slash.
_ADDRESS = re.compile(
    rf"hf:/{{1,2}}(?P<repository>{_NAME}/{_NAME})(@(?P<revision>[A-Za-z0-9][\w.-]{{0,99}}))?"
)
INSTALL = "models on a hub need a further package: pip install 'omokage[hub]'"


def is_address(text: object) -> bool:
    """Whether ``text`` is meant as the address of a model on a hub.

    >>> is_address("hf://owner/name"), is_address("runs/fast")
    (True, False)
    """
    return str(text).startswith("hf:/")


def repository(text: str) -> str:
    """``text`` if it names a repository; UserError otherwise.

    >>> repository("owner/name")
    'owner/name'
    """
    if not _REPOSITORY.fullmatch(text) or ".." in text:
        raise UserError(f"{text!r} is no repository: write it like owner/name")
    return text


def download(address: object, tell: Callable[[str], None] | None = None) -> Path:
    """The snapshot file at ``address``, from the cache folder or from the hub.

    Without a revision, the newest one is taken, and ``tell`` is called with the address that stays the same.

    Raises:
        UserError: no such address, repository or revision; it is no published model; the weights do not have
            the hash that ``config.json`` names; or a missing package.
    """
    found = _ADDRESS.fullmatch(str(address))
    if found is None or ".." in str(address):
        raise UserError(f"{address}: write it like hf://owner/name or hf://owner/name@revision")
    name, revision = found["repository"], found["revision"]
    shown = f"hf://{name}" + (f"@{revision}" if revision else "")
    config = _file(name, CONFIG, revision, shown)
    commit = config.parent.name
    try:
        if config.stat().st_size > MOST_CONFIG:
            raise ValueError("it is too large")
        digest = json.loads(config.read_text(encoding="utf-8"))["files"][WEIGHTS]
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError("no hash")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{shown} is no model that omokage publish made: {CONFIG} names no weights") from None
    weights = _file(name, WEIGHTS, commit, shown)
    with open(weights, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise UserError(
                f"{shown}: {WEIGHTS} does not have the hash that {CONFIG} names; it is not loaded"
            )
    if revision != commit and tell is not None:
        tell(f"{shown} is now hf://{name}@{commit}, which stays the same")
    return weights


def push(folder: Path, name: str) -> str:
    """Upload a published folder to the repository ``name``, which is made if missing. Returns its address.

    Raises:
        UserError: a missing package, or the hub refuses.
    """
    hub = _package()
    repository(name)
    api = hub.HfApi(endpoint=_endpoint())
    try:
        api.create_repo(name, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Published by Omokage")
    except Exception as error:  # the package raises those of several HTTP libraries
        raise UserError(f"--push {name}: {_why(error)}; {folder} is complete, push it again later") from None
    commit = getattr(done, "oid", None)
    return f"hf://{name}" + (f"@{commit}" if commit else "")


def _file(name: str, file: str, revision: str | None, shown: str) -> Path:
    hub = _package()
    try:
        path = hub.hf_hub_download(
            name, file, revision=revision, cache_dir=cache_folder() / "hub", endpoint=_endpoint()
        )
    except Exception as error:  # see `push`
        raise UserError(f"{shown}: {file} cannot be loaded: {_why(error)}") from None
    return Path(path)


def _endpoint() -> str | None:
    """Another hub than the usual one, at the time of the call."""
    return os.environ.get("HF_ENDPOINT")


def _why(error: Exception) -> str:
    """What happened, in one line without the address of a server."""
    kinds = {
        "RepositoryNotFoundError": "there is no such repository, or it is private (log in to see it)",
        "GatedRepoError": "the repository is gated: ask its owner for access",
        "RevisionNotFoundError": "there is no such revision",
        "EntryNotFoundError": "there is no such file",
        "RemoteEntryNotFoundError": "there is no such file",
        "LocalEntryNotFoundError": "the hub cannot be reached, and the file is not in the cache",
        "OfflineModeIsEnabled": "the hub is switched off, and the file is not in the cache",
    }
    for kind in type(error).__mro__:
        if kind.__name__ in kinds:
            return kinds[kind.__name__]
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:160]


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(INSTALL) from None
    return huggingface_hub
