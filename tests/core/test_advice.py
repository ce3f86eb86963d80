from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.advice import DiskRates, FuseRates, Measured, Part, Step, judge, knee

GB, MB = 10**9, 10**6
MIB = 1 << 20

GOOD = Measured(
    model_bytes=20 * GB,
    curve=tuple(Step(n, min(n * 90, 1000) * MB) for n in (1, 2, 4, 8, 16, 32)),
    disk=DiskRates(2 * GB, 3 * GB),
    fuse=FuseRates(2.4 * GB, 2.5 * GB),
    cpus=8,
    cold_cpu_s_per_byte=1.5 / GB,
    warm_cpu_s_per_byte=1 / GB,
    capacity_bytes=500 * GB,
    memory_limit_bytes=64 * GB,
    memory_auto_max_bytes=16 * GB,
    block_bytes=8 * MIB,
    auto_connections=16,
)


def curve(**rates):
    """Steps from `_1=90`: megabytes a second by connections."""
    return tuple(Step(int(n[1:]), rate * MB) for n, rate in rates.items())


def settings(found):
    return {setting.option: setting.why for setting in judge(found).settings}


def test_a_good_node_needs_no_options():
    verdict = judge(GOOD)

    assert () == verdict.settings
    assert (Part.LINK, 1000 * MB, 20.0) == (
        verdict.cold.limited_by,
        verdict.cold.bytes_per_s,
        verdict.cold.seconds,
    )
    assert (Part.FUSE, 8.0) == (verdict.warm.limited_by, verdict.warm.seconds)


@pytest.mark.parametrize(
    ("change", "cold", "warm"),
    [
        ({"curve": curve(_1=50)}, Part.LINK, Part.FUSE),
        ({"disk": DiskRates(2 * GB, 1 * GB)}, Part.LINK, Part.DISK),
        ({"fuse": FuseRates(0.5 * GB, 0.5 * GB)}, Part.FUSE, Part.FUSE),
        ({"fuse": FuseRates(0.5 * GB, 2.5 * GB)}, Part.MEMORY, Part.MEMORY),
        ({"cpus": 0.5}, Part.CPU, Part.CPU),
    ],
)
def test_the_slowest_part_is_the_limit(change, cold, warm):
    verdict = judge(replace(GOOD, **change))

    assert (cold, warm) == (verdict.cold.limited_by, verdict.warm.limited_by)


def test_what_could_not_be_measured_limits_nothing():
    found = replace(GOOD, disk=None, fuse=None, cold_cpu_s_per_byte=0.0)

    assert (Part.LINK, None, ()) == (
        judge(found).cold.limited_by,
        judge(found).warm,
        judge(found).settings,
    )


def test_the_knee_is_where_more_connections_bring_little():
    assert 8 == knee(replace(GOOD, curve=curve(_1=100, _4=400, _8=760, _16=800, _32=790))).connections


def test_more_connections_than_the_default_are_advised_where_they_pay():
    found = replace(GOOD, curve=curve(_1=20, _2=40, _4=80, _8=160, _16=320, _32=360))

    assert {"--connections 32": "32 connections bring 360 MB/s, the default's 16 bring 320 MB/s"} == settings(
        found
    )


def test_a_curve_that_still_grows_says_so():
    found = replace(GOOD, curve=curve(_16=320, _32=640))

    assert "still growing" in settings(found)["--connections 32"]


def test_a_curve_of_one_step_beyond_the_default_needs_no_comparison():
    found = replace(GOOD, curve=(Step(1, 10 * MB), Step(32, 640 * MB, failed=1)))

    assert {} == settings(found)


def test_more_connections_are_not_advised_where_something_else_is_the_limit():
    found = replace(GOOD, curve=curve(_16=600, _32=900), fuse=FuseRates(0.5 * GB, 0.5 * GB))

    assert {} == settings(found)


def test_fewer_connections_are_advised_where_the_source_fails_so_many():
    found = replace(GOOD, curve=(*curve(_1=90, _2=180, _4=300), Step(8, 100 * MB, failed=3)))

    assert {"--connections 4": "with 8 connections the source failed 3 of them"} == settings(found)
    assert 300 * MB == judge(found).cold.bytes_per_s


def test_a_cache_too_small_is_another_directory_and_the_rest_is_downloaded_again():
    found = replace(GOOD, capacity_bytes=10 * GB)

    assert "room for 10.0 GB of 20.0 GB" in settings(found)["--cache-dir on another disk"]
    assert pytest.approx(10 / 2.5 + 10 / 1) == judge(found).warm.seconds


def test_a_disk_slower_than_the_link_is_worse_than_none():
    found = replace(GOOD, disk=DiskRates(2 * GB, 0.4 * GB))

    assert (
        "400 MB/s) is slower than downloading (1,000 MB/s)" in settings(found)["--cache-dir on another disk"]
    )


def test_a_disk_about_as_fast_as_the_link_is_good_enough():
    assert {} == settings(replace(GOOD, disk=DiskRates(2 * GB, 0.9 * GB)))


def test_a_disk_that_cannot_keep_up_loses_what_memory_cannot_hold():
    slow = DiskRates(0.5 * GB, 3 * GB)

    assert {} == settings(replace(GOOD, disk=slow))  # 10 GB stay behind, and memory has room for 16
    assert (
        "writes 500 MB/s while 1,000 MB/s come in"
        in (settings(replace(GOOD, disk=slow, memory_auto_max_bytes=GB))["--cache-dir on another disk"])
    )


def test_too_little_memory_for_the_connections_is_more_of_it():
    found = replace(GOOD, memory_limit_bytes=300 * MIB, memory_auto_max_bytes=75 * MIB)

    assert ["--memory 128MiB"] == list(settings(found))


def test_a_limit_too_tight_for_the_memory_is_a_higher_one():
    found = replace(GOOD, memory_limit_bytes=256 * MIB, memory_auto_max_bytes=64 * MIB)

    assert ["a memory limit of 288MiB or more"] == list(settings(found))


rates = st.floats(1e5, 1e11)


@st.composite
def nodes(draw):
    counts = draw(st.sampled_from([(1,), (1, 2, 4), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)]))
    steps = [Step(count, draw(rates)) for count in counts]
    if len(steps) > 1 and draw(st.booleans()):
        steps[-1] = replace(steps[-1], failed=1)
    return replace(
        GOOD,
        model_bytes=draw(st.integers(1, 10**13)),
        curve=tuple(steps),
        disk=draw(st.none() | st.builds(DiskRates, rates, rates)),
        fuse=draw(st.none() | st.builds(FuseRates, rates, rates)),
        cpus=draw(st.floats(0.1, 256)),
        capacity_bytes=draw(st.integers(0, 10**14)),
        memory_auto_max_bytes=draw(st.integers(1 << 26, 1 << 40)),
    )


@given(nodes())
def test_no_start_is_faster_than_any_part_of_it(found):
    verdict = judge(found)

    best = max(step.bytes_per_s for step in found.curve if not step.failed)
    assert verdict.cold.bytes_per_s <= best
    assert verdict.cold.seconds >= found.model_bytes / best * 0.999
    if found.disk is not None:
        assert verdict.warm.bytes_per_s <= found.disk.read_bytes_per_s
    if found.fuse is not None:
        assert verdict.cold.bytes_per_s <= found.fuse.again_bytes_per_s


@given(nodes())
def test_an_option_is_advised_once_and_with_a_reason(found):
    settings = judge(found).settings

    assert len(settings) == len({setting.option.split()[0] for setting in settings})
    assert all(setting.option and setting.why for setting in settings)


@given(nodes(), st.floats(1.01, 10))
def test_a_faster_link_never_makes_a_cold_start_slower(found, factor):
    faster = replace(
        found, curve=tuple(replace(step, bytes_per_s=step.bytes_per_s * factor) for step in found.curve)
    )

    assert judge(faster).cold.seconds <= judge(found).cold.seconds
