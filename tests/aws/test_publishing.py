"""Publishing to servers that leave out what S3 says: it goes on, or one line says what is missing."""

import pytest

from lazyfs.core.parts import PART_BYTES
from lazyfs.errors import BadResponse
from lazyfs.sources import Access
from lazyfs.sources.local import LocalSource
from lazyfs.sources.s3_publish import connect_to
from tests.aws.storage import BUCKET
from tests.aws.uploads import Silence, UploadStorage

PARTS = 4
KEY = "llama/weights"


@pytest.fixture
def storage(keys):
    found = UploadStorage()
    found.begin(keys)
    yield found
    found.close()


@pytest.fixture
def publishing(storage, signed):
    """A destination that has been listed."""
    found = connect_to(f"s3://{BUCKET}/llama", Access())
    found.list()
    yield found
    found.close(resume=True)


@pytest.fixture
def file(tmp_path, pattern_bytes):
    path = tmp_path / "weights"
    path.write_bytes(pattern_bytes(PARTS * PART_BYTES))
    return path


def send(publishing, path):
    """Return in how many requests a file was sent."""
    (file,) = LocalSource(path.parent).below()
    sent = []
    publishing.prepare([file])
    publishing.send(path, file, lambda count, now: sent.append(count) if now else None)
    return len(sent)


@pytest.mark.parametrize("silence", [Silence(), Silence(markers=True)], ids=["S3", "no markers"])
def test_an_upload_that_was_broken_off_is_gone_on_with_whatever_a_server_makes_of_pages(
    storage, publishing, file, silence
):
    storage.silence = silence
    content = file.read_bytes()
    for number in range(3):
        storage.begun(f"llama/other-{number}", {})
    storage.begun(KEY, {n + 1: content[n * PART_BYTES :][:PART_BYTES] for n in range(PARTS - 1)})

    assert 1 == send(publishing, file)
    assert content == storage.objects[KEY]


def test_parts_that_are_listed_without_an_etag_are_sent_again(storage, publishing, file):
    storage.silence = Silence(part_etag=True)
    content = file.read_bytes()
    storage.begun(KEY, {1: content[:PART_BYTES]})

    assert PARTS == send(publishing, file)
    assert content == storage.objects[KEY]


@pytest.mark.parametrize(
    ("silence", "words"),
    [(Silence(etag=True), "no ETag of part 1"), (Silence(upload_id=True), "no UploadId of the upload of")],
)
def test_what_publishing_cannot_do_without_is_named(storage, publishing, file, silence, words):
    storage.silence = silence
    with pytest.raises(BadResponse, match=words):
        send(publishing, file)


def test_a_small_file_without_an_etag_is_named(storage, publishing, tmp_path):
    storage.silence = Silence(etag=True)
    path = tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(BadResponse, match=r"no ETag of 'llama/config\.json'"):
        send(publishing, path)
