import os

import pytest

from lazyfs.errors import SourceMissing
from lazyfs.sources import Access, open_source


def names(address):
    return sorted(blob.name for blob in open_source(str(address), Access()).list())


def test_links_are_followed_as_in_a_hub_cache(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_bytes(b"12345")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "config.json").symlink_to("../blobs/abc")

    (blob,) = open_source(f"file://{tmp_path}/snapshot", Access()).list()

    assert ("config.json", 5) == (blob.name, blob.size_bytes)


@pytest.mark.logs("link_dangling")
def test_a_circle_of_links_ends_and_a_dangling_one_is_no_file_and_told(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"1")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "itself").symlink_to("itself")

    assert ["a/file"] == names(f"file://{tmp_path}")
    assert "link_dangling name='nowhere' target='missing'" in caplog.text
    assert "link_dangling name='itself'" in caplog.text


def test_a_copy_that_is_not_complete_is_left_out(tmp_path):
    (tmp_path / ".ab12.lazyfs-partial").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"1")

    assert ["file"] == names(f"file://{tmp_path}")


def test_what_is_no_regular_file_is_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"1")

    assert ["file"] == names(f"file://{tmp_path}")


def test_what_a_pull_keeps_beside_the_model_is_left_out(tmp_path):
    (tmp_path / ".lazyfs" / "parts").mkdir(parents=True)
    (tmp_path / ".lazyfs" / "files").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"1")

    assert ["file"] == names(f"file://{tmp_path}")


def test_a_path_is_taken_as_it_was_typed(tmp_path):
    odd = tmp_path / "a #1?x=50%"
    odd.mkdir()
    (odd / "file").write_bytes(b"1")

    assert ["file"] == names(f"file://{odd}")


def test_bytes_that_are_no_utf8_come_back_as_they_were(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff\xfe"), "wb") as file:  # noqa: PTH118, PTH123
        file.write(b"1")

    assert [os.fsdecode(b"\xff\xfe")] == names(f"file://{tmp_path}")


def test_a_path_that_does_not_exist_is_missing(tmp_path):
    with pytest.raises(SourceMissing, match="there is no"):
        names(f"file://{tmp_path}/nowhere")
