import os
import threading

import pytest

from lazyfs.fuse import sender as module
from lazyfs.fuse import wire
from lazyfs.fuse.sender import LARGE_BYTES, Sender

HEADER = wire.reply_header(7, 7)


def answered(_unique):
    pass


@pytest.fixture
def pipe():
    """A descriptor that keeps every write as one message."""
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
    yield ours, theirs
    ours.close()
    theirs.close()


def large(fill):
    return [HEADER, memoryview(bytes([fill]) * LARGE_BYTES)]


def test_a_reply_is_one_message_of_its_parts(pipe):
    ours, theirs = pipe
    Sender(ours.fileno(), answered).send([HEADER, memoryview(b"content")])

    assert HEADER + b"content" == theirs.recv(100)


def test_large_replies_go_to_threads_while_copying_is_slow_and_arrive_whole(pipe, monkeypatch):
    ours, theirs = pipe
    writers = set()
    writev = os.writev

    def slow(fd, parts):
        writers.add(threading.current_thread().name)
        return writev(fd, parts)

    monkeypatch.setattr(module.os, "writev", slow)
    monkeypatch.setattr(module, "SLOW_BYTES_PER_S", 1e15)  # nothing is fast
    sender = Sender(ours.fileno(), answered, threads=2, bytes_per_s=1.0)
    got = []
    for fill in range(6):
        sender.send(large(fill))
        got.append(theirs.recv(1 << 20))
    sender.close()

    assert sorted(HEADER + bytes([fill]) * LARGE_BYTES for fill in range(6)) == sorted(got)
    assert {"sender"} == writers


def test_small_replies_never_wait_behind_large_ones(pipe):
    ours, theirs = pipe
    sender = Sender(ours.fileno(), answered, bytes_per_s=1.0)
    sender.send([HEADER])

    assert HEADER == theirs.recv(100)
    assert 0 == sender.statistics().threads
    sender.close()


def test_who_remembers_the_request_hears_of_it_once_its_reply_is_written(pipe):
    ours, theirs = pipe
    heard = []
    sender = Sender(ours.fileno(), lambda unique: heard.append((unique, theirs.recv(100))))
    sender.send([wire.reply_header(5, 0)])
    sender.send([wire.reply_header(6, 0)])

    assert [(5, wire.reply_header(5, 0)), (6, wire.reply_header(6, 0))] == heard


@pytest.mark.logs("reply_failed")
def test_a_request_that_is_no_more_is_remembered_no_longer(pipe):
    reading, writing = os.pipe()
    os.close(reading)
    heard = []
    Sender(writing, heard.append).send([wire.reply_header(5, 0)])
    os.close(writing)

    assert [5] == heard
