import pytest


@pytest.fixture
def mnt(tmp_path):
    return tmp_path / "mnt"
