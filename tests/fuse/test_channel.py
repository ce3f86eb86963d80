import os
import subprocess

import pytest

from lazyfs.errors import FuseUnavailable
from lazyfs.fuse import channel as module
from lazyfs.fuse.channel import detach, open_channel
from lazyfs.fuse.mountinfo import mounted_at


@pytest.fixture
def unprivileged(monkeypatch):
    """As far as the channel can tell, this is not root: it must ask fusermount3."""
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)


@pytest.mark.real
@pytest.mark.usefixtures("unprivileged")
@pytest.mark.parametrize("source", ["s3://bucket/prefix", "s3://b/with,comma\\and space"])
def test_fusermount3_mounts_and_hands_the_descriptor_over(tmp_path, source):
    channel = open_channel(tmp_path, source, allow_other=False)
    try:
        mounted = mounted_at(tmp_path)
        assert ("fuse.lazyfs", source) == (mounted.filesystem, mounted.source)
        assert not os.get_inheritable(channel.fd)
        assert 26 == int.from_bytes(os.read(channel.fd, 1 << 21)[4:8], "little")  # INIT is waiting
    finally:
        os.close(channel.fd)
        detach(tmp_path)
    assert mounted_at(tmp_path) is None


@pytest.mark.usefixtures("unprivileged")
def test_without_fusermount3_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(FuseUnavailable, match="there is no fusermount3; .*install the fuse3 package"):
        open_channel(tmp_path, "s3://b", allow_other=False)


@pytest.mark.real
@pytest.mark.usefixtures("unprivileged")
def test_what_fusermount3_says_is_passed_on(tmp_path):
    with pytest.raises(FuseUnavailable, match="not permitted: .*missing"):
        open_channel(tmp_path / "missing", "s3://b", allow_other=False)


@pytest.mark.real
def test_mount_as_root_has_type_source_and_flags(tmp_path):
    channel = open_channel(tmp_path, "s3://bucket/a b", allow_other=True)
    try:
        line = next(
            x for x in subprocess.check_output(["mount"], text=True).splitlines() if str(tmp_path) in x
        )
        assert f"s3://bucket/a b on {tmp_path} type fuse.lazyfs" in line
        for flag in ("ro", "nosuid", "nodev", "allow_other", "default_permissions"):
            assert flag in line
    finally:
        os.close(channel.fd)
        detach(tmp_path)
