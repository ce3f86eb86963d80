import pytest

from benchmarks.cli import main
from benchmarks.report import growth_table, ratio, summary, table

GB = 1_000_000_000


def run(system, turn, total_s, phase="cold", **other):
    return {
        "system": system, "phase": phase, "turn": turn, "ready_s": 0.5, "first_s": 0.75, "total_s": total_s,
        "download_s": None, "cpu_s": 3.0, "rss_mb": 100.0 + turn, "rss_after_mb": 60.0, "needed_bytes": GB,
        "fetched_bytes": GB, "piece_p50_ms": 1.0, "piece_p99_ms": 9.0, "checksum": "00",
    } | other  # fmt: skip


def test_ratios_are_taken_turn_by_turn():
    ours = [run("lazyfs", turn, total_s) for turn, total_s in enumerate([1.0, 2.0, 30.0])]
    theirs = [run("peer", turn, total_s) for turn, total_s in enumerate([2.0, 4.0, 60.0])]
    assert ratio(ours, theirs, "total_s") == 0.5


def test_a_turn_that_one_of_two_failed_makes_no_pair():
    ours = [run("lazyfs", 1, 2.0)]
    theirs = [run("peer", 0, 100.0), run("peer", 1, 4.0)]
    assert ratio(ours, theirs, "total_s") == 0.5
    assert ratio([], theirs, "total_s") is None


def test_times_are_medians_and_memory_the_most():
    runs = [run("lazyfs", turn, total_s) for turn, total_s in enumerate([5.0, 1.0, 2.0])]
    row = summary(runs, GB, [], [])["cold"]["lazyfs"]
    assert (row["total_s"], row["total_s_min"], row["total_s_max"]) == (2.0, 1.0, 5.0)
    assert row["rss_peak_mb"] == 102.0
    assert row["cpu_s_per_gb"] == 3.0


def test_the_share_of_the_link_counts_what_was_fetched_beside_the_floor():
    row = summary([run("lazyfs", 0, 20.0, fetched_bytes=GB)], GB, [10.0], [])["cold"]["lazyfs"]
    assert row["link_busy"] == 0.5
    assert row["floor_ratio"] == 2.0
    twice = summary([run("peer", 0, 20.0, fetched_bytes=2 * GB)], GB, [10.0], [])["cold"]["peer"]
    assert twice["link_busy"] == 1.0
    assert twice["bytes_ratio"] == 2.0


def test_a_warm_run_stands_beside_the_floor_of_the_disk():
    runs = [run("lazyfs", 0, 4.0, "warm", fetched_bytes=0)]
    row = summary(runs, 2 * GB, [10.0], [1000.0])["warm"]["lazyfs"]
    assert row["floor_ratio"] == 2.0
    assert row["link_busy"] is None or row["link_busy"] == 0.0


def document(reader="mmap", phases=("cold", "warm", "hot"), **other):
    runs = [
        run(system, turn, total_s + turn, phase)
        for phase in phases
        for turn in range(3)
        for system, total_s in (("peer", 8.0), ("lazyfs", 4.0))
    ]
    return {
        "profile": "s3", "reader": reader, "turns": 3, "failures": [], "machine": {"cores": 2},
        "model": {"kind": "sharded", "shards": 4, "size_bytes": GB},
        "floors": {"link_s": [2.0], "disk_mb_per_s": [1000.0]},
        "phases": summary(runs, GB, [2.0], [1000.0]),
    } | other  # fmt: skip


@pytest.mark.parametrize("reader", ["mmap", "random"])
def test_a_table_has_a_row_for_each_system_with_as_many_cells_as_its_head(reader):
    lines = table(document(reader)).splitlines()
    rows = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert ["system", "lazyfs", "peer"] * 3 == [row.split(" | ")[0].removeprefix("| ") for row in rows]
    for number in range(0, len(rows), 3):
        assert len({row.count("|") for row in rows[number : number + 3]}) == 1


def test_a_table_says_what_is_missing_and_what_failed():
    text = table(document(left_out={"weed": "not installed"}, failures=["peer, cold: it took too long"]))
    assert "left out: weed (not installed)" in text
    assert "failed: peer, cold: it took too long" in text


def test_growth_is_in_seconds_per_gb():
    points = [document(model={"kind": "sharded", "shards": 8, "size_bytes": 2 * GB}, phases=("cold",))]
    assert growth_table(points).splitlines()[-1] == "| 2.00 | 8 | 2.50 | 4.50 |"


@pytest.mark.parametrize("command", [[], ["run"], ["set"], ["grow"], ["plot"], ["table"], ["systems"]])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exited:
        main([*command, "--help"])
    assert exited.value.code == 0
    assert "usage: python -m benchmarks" in capsys.readouterr().out
