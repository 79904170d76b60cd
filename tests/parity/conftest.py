"""Parity tests need the golden folder: absent they skip and say so; under the gate (REID_GOLDEN_REQUIRED) they fail."""

import os

import pytest

from tests.parity import helpers


@pytest.fixture(autouse=True, scope="session")
def _golden_folder_present():
    if helpers.FOLDER.is_dir():
        return
    reason = f"golden vectors not found at {helpers.FOLDER}; set REID_GOLDEN_DIR to their folder"
    if os.environ.get("REID_GOLDEN_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)

