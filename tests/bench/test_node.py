import os

import pytest

from lazyfs.bench.node import cpus, look

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, ALL),
        ({"pod/container/cpu.max": "max 100000"}, ALL),
        ({"pod/container/cpu.max": "50000 100000"}, 0.5),
        ({"pod/cpu.max": "25000 100000", "pod/container/cpu.max": "50000 100000"}, 0.25),
        ({"cpu.max": "40000 100000"}, 0.4),
    ],
)
def test_processors_are_those_a_quota_allows(tmp_path, limits, expected):
    for name, content in limits.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    assert expected == cpus("0::/pod/container\n", tmp_path)


def test_groups_of_the_first_version_are_passed_over(tmp_path):
    assert ALL == cpus("4:cpu:/x\n", tmp_path)


def test_a_node_is_what_a_mount_would_find():
    node = look(16, 8 << 20)

    assert 0 < node.memory_budget_bytes <= node.memory_auto_max_bytes
    assert node.cpus > 0
