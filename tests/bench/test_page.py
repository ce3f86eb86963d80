import json
from dataclasses import replace

import pytest

from lazyfs.bench.ceiling import Ceiling, NoCeiling
from lazyfs.bench.disk import Disk, NoDisk
from lazyfs.bench.link import Latency, Measurement
from lazyfs.bench.node import Node
from lazyfs.bench.page import as_json, as_lines
from lazyfs.bench.report import Linked, Listed, Report
from lazyfs.core.advice import DiskRates, FuseRates, Measured, Step, judge

GB, MB = 10**9, 10**6


def measurement(connections, rate, failed=0):
    step = Step(connections, rate * MB, failed)
    return Measurement(step, 0.5 / GB, "the host answered 503" if failed else "")


CURVE = tuple(measurement(count, 90 * count) for count in (1, 2, 4, 8, 16))
MEASURED = Measured(
    model_bytes=16 * GB,
    curve=tuple(found.step for found in CURVE),
    disk=DiskRates(2 * GB, 3 * GB),
    fuse=FuseRates(2.4 * GB, 2.5 * GB),
    cpus=8,
    cold_cpu_s_per_byte=1.5 / GB,
    warm_cpu_s_per_byte=1 / GB,
    capacity_bytes=500 * GB,
    memory_limit_bytes=64 * GB,
    memory_auto_max_bytes=16 * GB,
    block_bytes=8 << 20,
    auto_connections=16,
)
REPORT = Report(
    node=Node(8, 64 * GB, 402 * MB, 16 * GB, "6.8.0"),
    model=Listed("s3://models/llama", 16 * GB, 9, 0.2),
    link=Linked(Latency(0.031, 0.0124, 0.029), CURVE, 3 * GB, repeated=False),
    cache_dir="/var/cache/lazyfs",
    disk=Disk(DiskRates(2 * GB, 3 * GB), 0.1 / GB, 0.2 / GB, 512 * MB, direct=True),
    fuse=Ceiling(2.4 * GB, 2.5 * GB, 2.9 * GB, 0.6 / GB, ()),
    seconds=12.0,
    measured=MEASURED,
    verdict=judge(MEASURED),
)


def page(**changes):
    return "\n".join(as_lines(replace(REPORT, **changes)))


def test_a_page():
    assert page() == """\
node     8 CPUs, 64.0 GB of memory, 402.0 MB of it for blocks; Linux 6.8.0
model    s3://models/llama
         16.0 GB in 9 files, reached and listed in 0.20 s
request  first byte after 12 ms, one in twenty after 29 ms; a new connection 31 ms
link     connections   MB/s each   MB/s in all
                   1          90            90   ██
                   2          90           180   ████
                   4          90           360   ████████
                   8          90           720   ███████████████
                  16          90         1,440   ██████████████████████████████
disk     /var/cache/lazyfs, room for 500.0 GB
         writes 2,000 MB/s, reads 3,000 MB/s
FUSE     2,500 MB/s mapped, 2,900 MB/s by plain reads, when nothing else is slow
CPU      1.5 s of CPU time per GB of a cold start, 1.0 s of a warm one

A cold start, nothing cached: 16.0 GB in 11 s, 1,440 MB/s. The limit is the link.
A warm start, from the cache: 16.0 GB in 6.4 s, 2,500 MB/s. The limit is FUSE: faster processors would help.

The defaults are right.

Measuring this downloaded 3.0 GB and took 12 s."""  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disk": NoDisk("no room")}, "         not measured: no room"),
        ({"fuse": NoCeiling("there is no /dev/fuse")}, "FUSE     not measured: there is no /dev/fuse"),
        ({"disk": replace(REPORT.disk, direct=False)}, "no O_DIRECT"),
        ({"fuse": replace(REPORT.fuse, untuned=("read-ahead",))}, "\n         read-ahead\n"),
        ({"fuse": replace(REPORT.fuse, fresh_bytes_per_s=GB)}, "1,000 MB/s mapped, into memory that was not"),
        ({"link": replace(REPORT.link, repeated=True)}, "More was read than the model holds"),
        (
            {"link": replace(REPORT.link, curve=(*CURVE, measurement(32, 99, failed=2)))},
            "         2 of them failed: the host answered 503",
        ),
        ({"link": replace(REPORT.link, curve=(measurement(1, 3.21),))}, "  3.2"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(changes, words):
    assert words in page(**changes)


def test_options_worth_setting_come_with_their_reason():
    measured = replace(MEASURED, capacity_bytes=GB)

    text = page(measured=measured, verdict=judge(measured))

    assert "Worth setting:\n  --cache-dir on another disk\n      there is room for 1.0 GB of 16.0 GB" in text


def test_the_document_is_json():
    document = json.loads(as_json(REPORT))

    assert 16 * GB == document["model"]["size_bytes"]
    assert "link" == document["verdict"]["cold"]["limited_by"]
