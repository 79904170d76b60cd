"""Model folders on the Hugging Face hub: files of known names go there and come back, nothing else."""

import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from reid_core.inference.model_folder import FILES, is_model_folder, require_model_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_ENDINGS = (".pt", ".pth", ".safetensors", ".ckpt", ".yml", ".yaml")


def is_hub_id(source: str | Path) -> bool:
    """True for text of the form "user/name" that does not end as a file of weights does."""
    return isinstance(source, str) and bool(_HUB_ID.fullmatch(source)) and not source.endswith(_FILE_ENDINGS)


def push_model_folder(folder: str | Path, repo_id: str, private: bool = True, token: str | None = None) -> str:
    """Upload a model folder to "user/name", made if it is not there; returns its address.

    private: of a repository that is made now. token: None for that of `hf auth login` (or HF_TOKEN).
    Raises CheckpointError for a folder that is none, OSError if the hub refuses or cannot be reached.
    """
    folder = require_model_folder(folder)
    api = HfApi(token=token)
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=list(FILES), commit_message="Upload model folder"
        )
    except Exception as error:  # each transport library raises types of its own
        raise OSError(f"{folder} was not uploaded to {repo_id}: {_reason(error)}") from error
    return str(address)


def pull_model_folder(repo_id: str, revision: str | None = None) -> Path:
    """The model folder "user/name", downloaded or from the hub's cache. Raises OSError if it is not to be had."""
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:
        raise OSError(
            f"There is no file or folder '{repo_id}' here, and the Hugging Face hub did not give a model of this name: "
            f"{_reason(error)}"
        ) from error
    if not is_model_folder(folder):
        raise OSError(f"'{repo_id}' on the Hugging Face hub is no model folder of this toolkit.")
    return folder


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
