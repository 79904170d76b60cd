"""The package's names are imported when they are asked for."""

import subprocess
import sys

import pytest

from reid_core import retrieval
from tests.paths import ROOT

HEAVY = ("faiss", "sklearn", "psycopg", "scipy")


def test_evaluation_does_not_load_what_it_does_not_need():
    script = f"import sys, reid_core.evaluation; print(*[name for name in {HEAVY} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert output.stdout.split() == []


def test_every_name_is_there():
    assert set(retrieval.__all__) <= set(dir(retrieval))
    for name in retrieval.__all__:
        assert getattr(retrieval, name).__name__ == name
    with pytest.raises(AttributeError, match="'reid_core.retrieval' has no attribute 'nothing'"):
        _ = retrieval.nothing
