import os
import socket

import pytest

from lazyfs.supervisor.messages import Control, Kind


@pytest.fixture
def pair():
    ends = [Control(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    yield ends
    for end in ends:
        end.close()


def test_a_message_arrives_with_what_it_says_and_hands_over(pair, tmp_path):
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert pair[0].send(Kind.SERVE, {"init": "00ff"}, (file, file))

    message = pair[1].receive()

    assert ("serve", {"init": "00ff"}, 2) == (message.kind, message.fields, len(message.fds))
    for fd in message.fds:
        assert os.path.sameopenfile(fd, file)
        assert not os.get_inheritable(fd)
        os.close(fd)
    os.close(file)


def test_messages_keep_their_borders(pair):
    pair[0].send(Kind.BEAT)
    pair[0].send(Kind.DRAINED, {"unanswered": 3})

    assert [("beat", {}), ("drained", {"unanswered": 3})] == [
        (message.kind, message.fields) for message in (pair[1].receive(), pair[1].receive())
    ]


def test_the_end_of_the_other_is_told_after_its_last_words(pair):
    pair[0].send(Kind.FAILED, {"error": "why"})
    pair[0].close()

    assert "failed" == pair[1].receive().kind
    assert pair[1].receive() is None
    assert not pair[1].send(Kind.BEAT)


def test_who_does_not_listen_is_not_waited_for(pair):
    sent = 0
    while pair[0].send(Kind.READY, {"filling": "x" * 10_000}):
        sent += 1
        assert sent < 1000
    assert sent > 5


def test_nothing_there_is_not_waited_for(pair):
    pair[1].sock.setblocking(False)

    with pytest.raises(BlockingIOError):
        pair[1].receive()
