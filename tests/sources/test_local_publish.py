import errno
import hashlib
import os

import pytest

from lazyfs.errors import AccessDenied, BlobChanged, LazyfsError, TargetUnusable, UsageError
from lazyfs.sources import Access
from lazyfs.sources.destination import Stopped, open_destination
from lazyfs.sources.local import LocalSource


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a").write_bytes(b"weights")
    os.utime(root / "sub" / "a", ns=(5, 1_234_567_890_123_456_789))
    return root


@pytest.fixture
def there(tmp_path):
    return tmp_path / "there"


@pytest.fixture
def destination(there):
    return open_destination(str(there), Access())


def file(root):
    (found,) = LocalSource(root).below()
    return found


def send(destination, root):
    return destination.send(root / "sub" / "a", file(root), lambda *_: None)


def test_a_copy_has_bytes_and_time_of_its_original_and_is_known_by_them(destination, root, there):
    published = send(destination, root)

    assert b"weights" == (there / "sub" / "a").read_bytes()
    assert hashlib.sha256(b"weights").hexdigest() == published.sha256
    assert [True] == [destination.same(published, held) for held in destination.list()]


def test_a_place_that_is_not_there_yet_is_empty(destination):
    assert ([], None) == (destination.list(), destination.read_publication())


def test_the_publication_is_replaced_as_a_whole_and_is_not_among_the_files(destination, there):
    destination.write_publication(b"one")
    destination.write_publication(b"two")

    assert b"two" == destination.read_publication()
    assert [] == destination.list()
    assert ["lazyfs.json"] == os.listdir(there)


def test_what_a_copy_that_was_broken_off_left_is_removed(destination, root, there):
    (there / "sub").mkdir(parents=True)
    partial = f".{hashlib.sha256(b'a').hexdigest()[:32]}.lazyfs-partial"
    (there / "sub" / partial).write_bytes(b"wei")
    destination.prepare([file(root)])

    assert [] == os.listdir(there / "sub")


def test_a_name_as_long_as_names_can_be_is_copied(destination, tmp_path, there):
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / ("n" * 255)).write_bytes(b"weights")

    destination.send(tmp_path / "long" / ("n" * 255), file(tmp_path / "long"), lambda *_: None)

    assert ["n" * 255] == os.listdir(there)


def test_a_disk_without_room_is_said_with_its_cure(destination, root, there, monkeypatch):
    def full(_fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(
        TargetUnusable, match=rf"{there}: No space left on device; free some space, or publish"
    ):
        send(destination, root)
    assert [] == os.listdir(there / "sub")


def test_a_copy_that_somebody_else_takes_away_is_said_with_its_cure(destination, root, there):
    """Two who publish to one place write under the same names."""

    def take_away(*_):
        for copy in (there / "sub").iterdir():
            copy.unlink()

    with pytest.raises(LazyfsError, match="lost a file.*somebody else publishes there"):
        destination.send(root / "sub" / "a", file(root), take_away)


def test_a_place_that_cannot_be_made_is_said_with_its_cure(root):
    with pytest.raises(LazyfsError, match="/proc/none cannot be made; choose another"):
        send(open_destination("/proc/none", Access()), root)


def test_a_file_that_changed_is_not_copied(destination, root, there):
    before = file(root)
    (root / "sub" / "a").write_bytes(b"others")

    with pytest.raises(BlobChanged):
        destination.send(root / "sub" / "a", before, lambda *_: None)
    assert [] == os.listdir(there / "sub")


def test_stopped_it_leaves_nothing(destination, root, there):
    destination.stop()

    with pytest.raises(Stopped):
        send(destination, root)
    assert [] == os.listdir(there / "sub")


def test_a_copy_with_the_same_bytes_and_time_is_the_same(destination, root):
    send(destination, root)
    (held,) = destination.list()

    assert hashlib.sha256(b"weights").hexdigest() == destination.digest_if_same(
        root / "sub" / "a", file(root), held
    )


@pytest.mark.parametrize(
    ("content", "modified_ns"), [(b"w8ights", 1_234_567_890_123_456_789), (b"weights", 7)]
)
def test_a_copy_with_other_bytes_or_another_time_is_another(destination, root, there, content, modified_ns):
    send(destination, root)
    (there / "sub" / "a").write_bytes(content)
    os.utime(there / "sub" / "a", ns=(5, modified_ns))
    (held,) = destination.list()

    assert destination.digest_if_same(root / "sub" / "a", file(root), held) is None


def test_the_file_itself_is_the_same_whatever_its_time(root):
    destination = open_destination(f"file://{root}", Access())
    (held,) = destination.list()

    assert hashlib.sha256(b"weights").hexdigest() == destination.digest_if_same(
        root / "sub" / "a", file(root), held
    )


def test_a_directory_in_the_way_is_told(destination, root, there):
    (there / "sub" / "a").mkdir(parents=True)

    with pytest.raises(LazyfsError, match="Is a directory") as raised:
        send(destination, root)
    assert raised.value.cure


def test_a_file_in_the_way_is_told(destination, root, there):
    there.mkdir()
    (there / "sub").write_bytes(b"")

    with pytest.raises(LazyfsError, match="publish to another directory"):
        send(destination, root)


def test_a_relative_address_is_a_path(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    destination = open_destination("model", Access())

    assert ["sub/a"] == [blob.name for blob in destination.list()]


def test_a_host_is_nothing_to_publish_to():
    with pytest.raises(UsageError, match="not a local path"):
        open_destination("file://host/dir", Access())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_the_right_to_write_that_is_said(destination, root, there):
    there.mkdir(mode=0o500)

    with pytest.raises(AccessDenied, match="may not be written"):
        send(destination, root)
