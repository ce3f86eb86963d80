import signal
import threading

import pytest

from lazyfs.bench.crew import together


def test_all_work_is_done_when_it_returns():
    done = []

    together([lambda _over: done.append(1)] * 5)

    assert 5 == len(done)


def test_an_error_stops_the_others_and_is_raised():
    ended = []

    def waits(over):
        ended.append(over.wait(20))

    def fails(_over):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together([waits, fails, waits])
    assert [True, True] == ended


def test_a_signal_stops_all():
    ended = []

    def interrupted(_number, _frame):
        raise SystemExit(130)

    def interrupts(over):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
        ended.append(over.wait(20))

    before = signal.signal(signal.SIGUSR2, interrupted)
    try:
        with pytest.raises(SystemExit):
            together([interrupts])
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert [True] == ended
