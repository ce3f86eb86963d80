"""What was taken and not answered is there for the next one, whatever happened to the one that took it."""

import os
import struct

import pytest

from lazyfs.fuse import intake as module
from lazyfs.fuse import wire
from lazyfs.fuse.intake import SLOT_BYTES, Intake, RememberingIntake, make_table


def message(unique, size=80):
    return struct.pack("=IIQQIIIHH", size, wire.READ, unique, 1, 0, 0, 7, 0, 0).ljust(size, b"x")


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(module, "SLOTS", 4)
    fd = make_table()
    yield fd
    os.close(fd)


def give(intake, *messages):
    """Have the intake read messages, as from the kernel."""
    given = []
    for content in messages:
        ours, theirs = os.pipe()
        os.write(theirs, content)
        given.append(bytes(intake.took(os.readv(ours, intake.buffers()))))
        os.close(ours)
        os.close(theirs)
    return given


@pytest.mark.parametrize("make", [lambda table: Intake(), lambda table: RememberingIntake(table, 0)])
def test_what_is_read_is_what_was_sent(table, make):
    messages = [message(1), message(2, 300), message(3, SLOT_BYTES), message(4, SLOT_BYTES + 1)]

    assert messages == give(make(table), *messages)


def test_the_next_one_finds_what_was_not_answered(table):
    first = RememberingIntake(table, 0)
    give(first, message(1), message(2), message(3))
    first.answered(2)

    second = RememberingIntake(table, 1)
    give(second, message(4))
    assert [message(1), message(3)] == sorted(map(bytes, second.left([0, 2, 3])))
    second.answered(1)
    second.answered(4)

    third = RememberingIntake(table, 2)
    assert [message(3)] == list(map(bytes, third.left([0, 1])))


def test_one_that_comes_to_a_region_again_does_not_write_over_what_is_left_there(table):
    give(RememberingIntake(table, 0), message(1), message(2))

    again = RememberingIntake(table, 0)
    give(again, message(3), message(4), message(5))

    assert [message(1), message(2)] == list(map(bytes, again.left([])))
    assert [] == list(again.left([])), "it is taken over once"
    assert {1, 2, 3, 4} == {wire.request(found).unique for found in RememberingIntake(table, 1).left([0])}


def test_without_a_slot_requests_are_read_and_not_remembered(table):
    intake = RememberingIntake(table, 0)
    messages = [message(unique) for unique in range(1, 7)]

    assert messages == give(intake, *messages)
    assert 4 == len(list(RememberingIntake(table, 1).left([0])))
    intake.answered(6)
    intake.answered(1)
    assert [message(7)] == give(intake, message(7))
    assert 4 == len(list(RememberingIntake(table, 1).left([0])))


def test_a_read_that_fails_leaves_nothing(table):
    intake = RememberingIntake(table, 0)
    slot = intake.buffers()[0]
    slot[:80] = message(1)
    intake.spoilt()

    assert [] == list(RememberingIntake(table, 1).left([0]))
    assert [message(2)] == give(intake, message(2))


def test_what_is_too_long_to_remember_is_not_half_remembered(table):
    intake = RememberingIntake(table, 0)
    give(intake, message(1, SLOT_BYTES + 1))

    assert [] == list(RememberingIntake(table, 1).left([0]))


def test_a_slot_that_is_given_back_meanwhile_does_not_take_the_place_of_the_one_in_use(table):
    intake = RememberingIntake(table, 0)
    give(intake, message(1))
    slot = intake.buffers()[0]
    intake.answered(1)  # by a thread that sends
    slot[:80] = message(2)
    intake.took(80)
    give(intake, message(3))

    assert [message(2), message(3)] == sorted(map(bytes, RememberingIntake(table, 1).left([0])))
