from hypothesis import given
from hypothesis import strategies as st

from lazyfs.fuse.mountinfo import Mounted, mounts, parse

TEXT = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 22 0:38 / /mnt/with\\040space rw,nosuid - fuse.lazyfs s3://bucket/a\\040b\\134c rw,user_id=0
41 22 0:39 / /mnt/x rw master:1 propagate_from:2 - tmpfs none rw
"""


def test_each_line_says_where_what_and_from_where():
    assert [
        Mounted("/", "253:0", "ext4", "/dev/vda"),
        Mounted("/mnt/with space", "0:38", "fuse.lazyfs", "s3://bucket/a b\\c"),
        Mounted("/mnt/x", "0:39", "tmpfs", "none"),
    ] == parse(TEXT)


def test_this_machine_has_a_root():
    assert "/" in {mounted.mountpoint for mounted in mounts()}


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text):
    parse(text)
