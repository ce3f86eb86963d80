from tests.vllm.timeline import WIDTH, Timeline, picture, table

QUICK = Timeline("quick", 0.0, 2.0, 4.0, 5.0, 6.0, 7.5)
LATE = Timeline("after a wait", 7.5, 9.5, 11.5, 12.5, 13.5, 15.0)


def test_the_longest_start_has_the_longest_bar_and_others_their_share():
    _, quick, late, *_ = picture([QUICK, LATE])
    bars = [line.removeprefix(f"{name:12}  ")[:WIDTH] for name, line in (("quick", quick), (LATE.name, late))]
    assert [WIDTH // 2, WIDTH] == [len(bar.rstrip()) for bar in bars]


def test_each_phase_is_drawn_as_long_as_it_takes():
    bar = picture([LATE])[1]
    assert {"·": 30, "░": 8, "▒": 8, "█": 4, "▓": 10} == {drawn: bar.count(drawn) for drawn in "·░▒█▓"}


def test_the_table_has_a_row_for_each_start_and_a_column_for_each_event():
    rows = table([QUICK, LATE])
    assert ["| quick | 0.0 | 2.0 | 4.0 | 5.0 | 6.0 | 7.5 |"] == rows[2:3]
    assert {8} == {row.count("|") for row in rows}
