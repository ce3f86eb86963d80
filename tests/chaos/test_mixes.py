"""Thousands of reads while a third of all requests goes wrong, by seeds."""

import errno
import time

import pytest

from tests.chaos.crowd import EVERY, some, untroubled
from tests.chaos.stage import model, number, seed, staged
from tests.faults.mix import FINAL, FLEETING, Mix

pytestmark = pytest.mark.chaos

READS = number("READS", 1000)
ROUND = 2000
"""Reads of one mount with one seed."""
READERS = 8
BLOCK = 256 << 10
AMPLIFICATION_MAX = 1.5
FILES = model(16, 8 << 20)
SIZE = sum(len(content) for content in FILES.values())


def read_under(mix, root, seed_, *options):
    """Have a crowd read a fresh mount, whose server plays `mix`; return what they saw and what it cost."""
    reads = min(READS, ROUND)
    with staged(root, FILES, "--block-size", BLOCK, *options) as stage:
        stage.bucket.behave = mix
        with stage.read_by(some(EVERY, READERS), seed_, count=-(-reads // READERS)) as crowd:
            seen = crowd.finish(120, at_once=False)
        if not options:
            stage.mount.wait_for(lambda status: status["phase"] == "complete", 60)
        sent_bytes = stage.bucket.sent_bytes
    assert not stage.mount.logged("internal_error")
    return seen, sent_bytes


@pytest.mark.timeout(300)
@pytest.mark.parametrize("round_", range(max(1, READS // ROUND)))
def test_every_read_is_right_and_little_is_fetched_twice(tmp_path, round_):
    chosen = seed() + round_
    mix = Mix(chosen, FLEETING)

    seen, sent_bytes = read_under(mix, tmp_path, chosen)

    untroubled(seen)
    reads, longest_s = sum(one.sheet.reads for one in seen), max(one.longest_s for one in seen)
    asked = sum(mix.done.values())
    print(
        f"{reads} reads right; {asked - mix.done['good']} of {asked} requests went wrong; fetched "
        f"{sent_bytes / SIZE:.3f} x; longest read {longest_s:.2f} s"
    )
    assert reads >= min(READS, ROUND)
    assert sent_bytes <= AMPLIFICATION_MAX * SIZE


def test_what_ends_a_blob_is_a_clean_error_and_never_a_wrong_byte(tmp_path):
    chosen = seed()
    seen, _ = read_under(Mix(chosen, {**FLEETING, **FINAL}), tmp_path, chosen, "--policy", "demand")

    # Who has a file mapped that ends so dies by SIGBUS.
    alive = [one for one in seen if one.sheet is not None]
    assert {0, -7} >= {one.code for one in seen}
    untroubled(alive, frozenset({errno.ESTALE, errno.EACCES}))
    assert any(one.sheet.errors for one in alive)


@pytest.mark.timeout(180)
def test_a_source_that_is_away_for_a_while_is_waited_for(tmp_path):
    with staged(tmp_path, FILES, "--block-size", BLOCK, "--policy", "demand") as stage:
        with stage.read_by(some(EVERY, READERS), seed()) as crowd:
            for _ in range(3):
                time.sleep(0.5)
                stage.bucket.go_down(1.0)
                stage.bucket.wait_until_up()
            time.sleep(1.0)
            seen = crowd.finish(30)
        untroubled(seen)
