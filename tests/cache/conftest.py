import pytest

from tests.cache.rig import SIZE, A, B


@pytest.fixture
def content(pattern_bytes):
    return {A: pattern_bytes(SIZE, 1), B: pattern_bytes(SIZE, 2)}
