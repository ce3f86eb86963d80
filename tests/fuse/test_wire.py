import errno
import struct

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.fuse import wire

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)


def message(opcode, unique, body=b"", pid=7):
    return memoryview(
        bytearray(struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, 1, 0, 0, pid, 0, 0) + body)
    )


@given(unique=u64, handle=u64, offset=u64, size=u32, pid=u32)
def test_a_read_request_is_understood(unique, handle, offset, size, pid):
    raw = message(wire.READ, unique, struct.pack("=QQIIQII", handle, offset, size, 0, 0, 0, 0), pid)

    assert wire.Request(wire.READ, unique, pid) == wire.request(raw)
    assert wire.ReadRequest(handle, offset, size) == wire.read_request(raw)


@given(unique=u64, about=u64)
def test_an_interrupt_names_its_request(unique, about):
    assert about == wire.interrupted(message(wire.INTERRUPT, unique, struct.pack("=Q", about)))


@given(unique=u64, size=st.integers(0, 2**20))
def test_a_reply_has_its_whole_length_and_its_request(unique, size):
    header = wire.reply_header(unique, size)

    assert (16 + size, 0, unique) == struct.unpack("=IiQ", header)
    assert unique == wire.reply_unique(header)


@given(unique=u64)
def test_an_error_is_a_negative_errno_without_content(unique):
    assert (16, -errno.EIO, unique) == struct.unpack("=IiQ", wire.error_reply(unique, errno.EIO))


@given(size=u32, limit=u32)
def test_a_listing_is_asked_for_in_pieces_that_fit(size, limit):
    raw = message(wire.READDIRPLUS, 1, struct.pack("=QQIIQII", 1, 0, size, 9, 9, 9, 9))
    wire.limit_size(raw, limit)

    assert wire.ReadRequest(1, 0, min(size, limit)) == wire.read_request(raw)
    assert message(wire.READDIRPLUS, 1, struct.pack("=QQIIQII", 1, 0, min(size, limit), 9, 9, 9, 9)) == raw


def test_the_reply_to_init_gets_room_and_no_unkillable_reads_and_keeps_everything_else():
    fields = struct.Struct("=IiQIIIIHHI")
    reply = fields.pack(80, 0, 5, 7, 31, 131072, 0xFFFF_FFFF, 0, 0, 1048576) + bytes(40)

    adjusted = wire.adjust_init(reply, 1024)

    assert (80, 0, 5, 7, 31, 131072, 0xFFFF_7FFF, 1024, 768, 1048576) == fields.unpack_from(adjusted)
    assert reply[fields.size :] == adjusted[fields.size :]


def test_an_error_in_reply_to_init_stays_as_it_is():
    assert wire.error_reply(5, errno.EPROTO) == wire.adjust_init(wire.error_reply(5, errno.EPROTO), 1024)


def test_a_request_that_is_sent_again_is_known_by_its_first_name():
    assert 42 == wire.first_unique(42) == wire.first_unique(1 << 63 | 42)
