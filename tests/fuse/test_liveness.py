import pytest

from lazyfs.fuse.liveness import Liveness, liveness, read_status, state_of


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (None, Liveness.HANGS),
        ((0, b"{}", ""), Liveness.ALIVE),
        ((1, b"", "cat: /m: Transport endpoint is not connected"), Liveness.DEAD),
        ((1, b"", "cat: /m: Software caused connection abort"), Liveness.DEAD),
        ((1, b"", "cat: /m: No such device"), Liveness.DEAD),
        ((1, b"", "cat: /m: Permission denied"), Liveness.HIDDEN),
    ],
)
def test_an_answer_tells_the_state(answer, state):
    assert state is state_of(answer)


@pytest.mark.real
def test_a_file_system_that_works_is_alive_and_one_without_a_status_hides_it(tmp_path):
    assert Liveness.ALIVE is liveness(tmp_path)
    assert Liveness.HIDDEN is read_status(tmp_path)
