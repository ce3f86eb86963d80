import pytest

from tests.sources.places import PLACES, Bucket, Directory


@pytest.fixture
def bucket(aws):
    found = Bucket(aws)
    yield found
    found.close()


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    root = tmp_path / "models"
    root.mkdir()
    return Directory(root)
