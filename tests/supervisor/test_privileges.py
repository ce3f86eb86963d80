import os
import subprocess
import sys

import pytest

from lazyfs.errors import UsageError
from lazyfs.supervisor.privileges import identity, make_for

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")
SCRIPT = """
import os, sys
from lazyfs.supervisor.privileges import drop
drop({user!r})
print(open("/proc/self/status").read())
print(os.system("cat /proc/self/status"))
"""


def after_drop(user):
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(user=user)], capture_output=True, text=True, check=True
    )
    first = ran.stdout.split("\n\n")[0]
    return dict(line.split(":", 1) for line in first.splitlines() if ":" in line)


@pytest.mark.real
@root
def test_root_keeps_its_name_and_nothing_else():
    state = after_drop(None)

    assert ["0"] * 4 == state["Uid"].split()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert 0 == int(state[name], 16), name
    assert "1" == state["NoNewPrivs"].strip()


@pytest.mark.real
@root
def test_another_user_is_that_user_with_its_groups_only():
    # The interpreter of this test may lie where that user cannot look: what matters here is who it was.
    script = (
        "import os\nfrom lazyfs.supervisor import privileges\nprivileges.os.access = lambda *_: True\n"
        "privileges.drop('12345:54321')\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "print([line for line in open('/proc/self/status') if line.startswith('CapEff')])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "(12345, 12345, 12345) (54321, 54321, 54321) []" == ran.stdout.splitlines()[0]
    assert "0000000000000000" in ran.stdout


def test_what_a_user_is():
    assert (65534, 65534, []) == identity("65534")
    assert (1, 2, []) == identity("1:2")
    assert (0, 0) == identity("root")[:2]
    with pytest.raises(UsageError, match="there is no user nobody-of-that-name; .*--user 65534"):
        identity("nobody-of-that-name")


@root
def test_a_directory_is_made_for_its_user_and_one_that_is_there_is_left(tmp_path):
    make_for("12345:54321", tmp_path / "a" / "cache")
    make_for("1", tmp_path / "a" / "cache")

    state = (tmp_path / "a" / "cache").stat()
    assert (12345, 54321, 0o700) == (state.st_uid, state.st_gid, state.st_mode & 0o777)
