"""Limits and what is left of them, from trees of files like those of cgroups."""

import os

import pytest

from lazyfs.mount.memory import headroom_bytes, limit_bytes, limits

MIB = 1 << 20
RAM = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V2 = "0::/pod/container\n"
V1 = "5:cpu:/x\n4:memory:/pod/container\n0::/x\n"
POD, MAX = "memory/pod", "memory.limit_in_bytes"
NONE = "9223372036854771712"


def tree(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


@pytest.mark.parametrize(
    ("cgroups", "files", "expected"),
    [
        (V2, {}, RAM),
        (V2, {"pod/container/memory.max": "max"}, RAM),
        (V2, {"pod/container/memory.max": 500 * MIB}, 500 * MIB),
        (V2, {"pod/container/memory.max": "max", "pod/memory.max": 300 * MIB}, 300 * MIB),
        (V2, {"pod/container/memory.max": 200 * MIB, "pod/memory.max": 300 * MIB}, 200 * MIB),
        (V2, {"pod/container/memory.max": 500 * MIB, "pod/container/memory.high": 400 * MIB}, 400 * MIB),
        # In a container the path may only exist outside, and the root is its own.
        (V2, {"memory.max": 256 * MIB}, 256 * MIB),
        ("0::/\n", {"memory.max": 256 * MIB}, 256 * MIB),
        ("0::/../../pod\n", {"memory.max": 256 * MIB}, 256 * MIB),
        (V1, {"memory/pod/container/memory.limit_in_bytes": 500 * MIB}, 500 * MIB),
        (V1, {"memory/pod/container/memory.limit_in_bytes": NONE}, RAM),
        (V1, {f"{POD}/container/{MAX}": NONE, f"{POD}/{MAX}": MIB}, MIB),
        (V1, {"memory/memory.limit_in_bytes": 300 * MIB}, 300 * MIB),
        # A parent that cannot be seen from here.
        (V1, {f"memory/{MAX}": NONE, "memory/memory.stat": f"hierarchical_memory_limit {MIB}"}, MIB),
        # v2 beside v1, as systemd has it.
        (V2, {"unified/pod/memory.max": 300 * MIB}, 300 * MIB),
        ("nonsense", {}, RAM),
        ("", {}, RAM),
    ],
)  # fmt: skip
def test_the_limit_is_the_tightest_there_is(tmp_path, cgroups, files, expected):
    assert expected == limit_bytes(cgroups, tree(tmp_path, files))


def test_the_limit_of_this_very_process_is_no_more_than_its_memory():
    assert 0 < limit_bytes() <= RAM


def left(root, cgroups, available_mib=10**6):
    meminfo = root / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:  {available_mib * 1024} kB\n")
    return headroom_bytes(limits(cgroups, root), meminfo)


def test_what_the_kernel_takes_back_by_itself_counts_as_left(tmp_path):
    tree(
        tmp_path,
        {
            "pod/container/memory.max": 500 * MIB,
            "pod/container/memory.current": 400 * MIB,
            "pod/container/memory.stat": f"anon 1\nactive_file {50 * MIB}\ninactive_file {30 * MIB}\nshmem 7",
        },
    )
    assert 180 * MIB == left(tmp_path, V2)


def test_what_is_left_is_least_of_all_groups_and_of_the_machine(tmp_path):
    for name, limit, used in (("pod/container", 500, 100), ("pod", 300, 200)):
        tree(tmp_path, {f"{name}/memory.max": limit * MIB, f"{name}/memory.current": used * MIB})

    assert 100 * MIB == left(tmp_path, V2)
    assert 70 * MIB == left(tmp_path, V2, available_mib=70)


def test_beyond_memory_high_less_than_nothing_is_left(tmp_path):
    files = {"max": 500, "high": 100, "current": 130}
    tree(tmp_path, {f"pod/container/memory.{name}": value * MIB for name, value in files.items()})

    assert -30 * MIB == left(tmp_path, V2)


def test_groups_of_the_first_version_count_their_children(tmp_path):
    place = "memory/pod/container/memory"
    tree(
        tmp_path,
        {
            f"{place}.limit_in_bytes": 500 * MIB,
            f"{place}.usage_in_bytes": 450 * MIB,
            f"{place}.stat": f"active_file 1\ntotal_active_file {20 * MIB}\ntotal_inactive_file {10 * MIB}",
        },
    )
    assert 80 * MIB == left(tmp_path, V1)


def test_where_nobody_knows_what_is_left_it_is_not_guessed(tmp_path):
    tree(tmp_path, {"pod/container/memory.max": 500 * MIB})

    assert headroom_bytes(limits(V2, tmp_path), tmp_path / "nothing") is None
