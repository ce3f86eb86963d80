from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.allowance import Allowance, allowance, class_of, plain
from lazyfs.errors import UsageError


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("169.254.169.254", "link-local"),
        ("169.254.170.2", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "link-local"),
        ("fd20:ce::254", "link-local"),
        ("100.100.100.200", "link-local"),
        ("168.63.129.16", "link-local"),
        ("192.0.0.192", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::1", "link-local"),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12::1", "private"),
        ("8.8.8.8", "public"),
        ("172.32.0.1", "public"),
        ("2606:4700::1", "public"),
    ],
)
def test_every_address_is_of_a_class_however_it_is_wrapped(address, name):
    assert name == class_of(plain(address))


def test_by_default_only_link_local_addresses_are_refused():
    default = allowance(())

    assert "link-local" == default.refused("169.254.169.254")
    assert all(default.refused(address) is None for address in ("127.0.0.1", "10.0.0.1", "8.8.8.8"))
    assert default.holds("/anywhere")


def test_a_word_of_the_operator_leaves_nothing_else_but_public_addresses():
    strict = allowance(("public",))

    assert "loopback" == strict.refused("127.0.0.1")
    assert "private" == strict.refused("10.0.0.1")
    assert "link-local" == strict.refused("169.254.169.254")
    assert strict.refused("8.8.8.8") is None
    assert not strict.holds("/models")


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("private", "10.0.0.1", "127.0.0.1"),
        ("loopback", "::1", "10.0.0.1"),
        ("link-local", "169.254.169.254", "127.0.0.1"),
        ("10.1.0.0/16", "10.1.2.3", "10.2.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("fd00:1::/32", "fd00:1::5", "fd00:2::5"),
    ],
)
def test_classes_and_networks(text, good, bad):
    found = allowance((text,))

    assert found.refused(good) is None
    assert found.refused(bad) is not None


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("file:///models/*", ["/models", "/models/a/b"], ["/models2", "/", "/etc"]),
        ("file:///models", ["/models", "/models/a"], ["/modelsx"]),
        ("file:///*", ["/", "/etc/passwd"], []),
    ],
)
def test_directories(text, good, bad):
    found = allowance((text, "loopback"))

    assert all(found.holds(path) for path in good)
    assert not any(found.holds(path) for path in bad)


@pytest.mark.parametrize(
    "text", ["", "everything", "10.1.0.1/16", "file://models", "file:///a/*/b", "file:///a/../b", "http://x"]
)
def test_what_means_nothing_is_refused(text):
    with pytest.raises(UsageError) as raised:
        allowance((text,))

    assert raised.value.cure


def test_what_is_no_address_is_not_guessed_at():
    with pytest.raises(ValueError):
        Allowance().refused("localhost")


@given(st.ip_addresses(v=4))
def test_an_address_in_its_ipv6_wrapping_is_the_same_one(address: IPv4Address):
    assert address == plain(f"::ffff:{address}")
