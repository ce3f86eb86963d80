"""kill -9 at random moments of writing, into one cache and on a real disk."""

import json
import subprocess
import sys

import pytest


@pytest.mark.real
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_cache_is_right_whenever_its_writers_are_killed(cache_dir, kills):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.cache.writing", str(cache_dir), str(kills), "20"],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    found = json.loads(ran.stdout)

    assert kills == found["killed"]
    assert 0 == found["wrong"] == found["corrupt"] == found["damaged"]
    assert found["stored"] > kills
    assert found["complete"]
