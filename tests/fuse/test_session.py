import os
import struct

import pytest

from lazyfs.errors import FuseUnavailable
from lazyfs.fuse import wire
from lazyfs.fuse.channel import Channel, detach, open_channel
from lazyfs.fuse.session import Session

pytestmark = pytest.mark.real

CONTENT = struct.pack("=IIIIHHIIHHI", 7, 31, 131072, 0, 12, 9, 4096, 1, 1, 0, 0).ljust(64, b"\0")


def reply_to(session, content=CONTENT):
    return wire.reply_header(wire.request(memoryview(session.init)).unique, len(content)) + content


@pytest.fixture
def session(tmp_path):
    found = Session(open_channel(tmp_path, "test", allow_other=False))
    yield found
    detach(tmp_path)


def test_the_first_word_of_the_kernel_is_kept(session):
    assert wire.INIT == wire.request(memoryview(session.init)).opcode
    assert not session.over
    session.close()


def test_only_the_first_reply_goes_to_the_kernel_and_later_ones_must_be_the_same(session):
    assert session.settle(reply_to(session))
    assert session.settle(wire.reply_header(77, len(CONTENT)) + CONTENT), "the request is another one"
    assert not session.settle(reply_to(session, b"\x08" + CONTENT[1:]))
    session.close()


def test_it_is_over_when_it_is_unmounted(session, tmp_path):
    session.settle(reply_to(session))
    detach(tmp_path)
    assert session.over
    session.close()


def test_it_is_over_when_it_is_aborted(session):
    session.settle(reply_to(session))
    session.abort()
    assert session.over
    session.close()


def test_a_kernel_that_says_nothing_is_told_of(monkeypatch):
    monkeypatch.setattr("lazyfs.fuse.session.INIT_WAIT_MS", 10)
    reading, writing = os.pipe()
    with pytest.raises(FuseUnavailable, match="does not begin to talk"):
        Session(Channel(reading, None, "0:1"))
    os.close(reading)
    os.close(writing)


def test_resending_is_offered_by_a_flag_of_init():
    def init(flags, flags2):
        return struct.pack("=IIQQIIIHH", 104, wire.INIT, 1, 0, 0, 0, 0, 0, 0) + struct.pack(
            "=IIIII", 7, 45, 131072, flags, flags2
        )

    assert wire.offers_resend(init(1 << 30, 1 << 7))
    assert not wire.offers_resend(init(1 << 30, 0))
    assert not wire.offers_resend(init(0, 1 << 7)), "without FUSE_INIT_EXT there is no second word of flags"
    assert not wire.offers_resend(init(1 << 30, 1 << 7)[:56]), "an old kernel's INIT is shorter"
    assert (16, 7, 0) == struct.unpack("=IiQ", wire.resend_notification())
