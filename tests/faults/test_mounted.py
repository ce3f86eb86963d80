"""Every row of the table, seen by a reader of a real mount: right bytes or the right errno."""

import errno
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lazyfs.errors import BlobChanged
from tests.e2e.mounting import mounted
from tests.faults.bucket import FaultBucket, key_of
from tests.faults.pattern import Pattern
from tests.faults.scenarios import SCENARIOS
from tests.faults.server import GOOD

BLOCK = 256 << 10
SIZE = 2 * BLOCK + 4321
DEADLINE_S = 2.0
ALONE = {"down for a while", "trickling"}
"""The first takes all connections; the other takes 15 s with blocks so small that they have no pace."""


def outcome(path, expected):
    """What reading a file comes to: its errno, or None."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return error.errno
    assert expected.matches(0, content), path
    assert len(content) == SIZE
    return None


def read_all(mnt, rows, expected):
    with ThreadPoolExecutor(len(rows)) as pool:
        found = pool.map(lambda row: outcome(mnt / f"{row.name}.bin", expected[f"{row.name}.bin"]), rows)
        return dict(zip((row.name for row in rows), found, strict=True))


@pytest.fixture
def misbehaving():
    """Makes a bucket with a file per row, to each of which its fault happens `tries` times a range."""
    made = []

    def make(rows, tries):
        objects = {f"{row.name}.bin": Pattern(number, SIZE) for number, row in enumerate(rows)}
        bucket = FaultBucket(objects)
        counts, chance = Counter(), random.Random(tries)

        def behave(asked):
            key = key_of(asked)
            row = SCENARIOS[key.removesuffix(".bin")]
            counts[key, asked.span[1]] += 1
            return row.make(asked, chance) if counts[key, asked.span[1]] <= tries else GOOD

        bucket.behave = behave
        made.append(bucket)
        return bucket, objects

    yield make
    for bucket in made:
        bucket.close()


def options(cache_dir):
    return ("--cache-dir", cache_dir, "--block-size", BLOCK, "--policy", "demand")


def test_a_fault_that_happens_once_is_not_noticed_and_a_final_one_is_told(misbehaving, mnt, cache_dir):
    rows = [row for row in SCENARIOS.values() if row.name not in ALONE]
    bucket, objects = misbehaving(rows, tries=1)
    with mounted(bucket.address, mnt, *options(cache_dir), env=bucket.environment) as mount:
        found = read_all(mnt, rows, objects)

    assert not mount.logged("internal_error")
    # Where a read ahead fails the kernel asks once more: a reader may never hear of an AccessDenied.
    final = {row.name for row in rows if row.verdict is BlobChanged}
    assert final == {name for name, number in found.items() if number == errno.ESTALE}
    assert {None, errno.ESTALE} >= {number for name, number in found.items() if SCENARIOS[name].passes}


def test_a_fault_that_lasts_is_a_clean_error_after_the_deadline(misbehaving, mnt, cache_dir):
    rows = [row for row in SCENARIOS.values() if not row.slow and row.name not in ALONE]
    bucket, objects = misbehaving(rows, tries=10**9)
    with mounted(
        bucket.address, mnt, *options(cache_dir), "--read-deadline", f"{DEADLINE_S}s", env=bucket.environment
    ) as mount:
        found = read_all(mnt, rows, objects)

    assert not mount.logged("internal_error")
    assert {row.name: row.errno_lasting for row in rows} == found
