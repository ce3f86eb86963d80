import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lazyfs.core.webindex import Entry, entries
from lazyfs.errors import BadIndex

URL = "https://host:8080/models/llama/"


def html(*links, title="Index of /models/llama/"):
    anchors = "".join(f'<a href="{link}">{link[:10]}..&gt;</a>   01-Jan-2026  12K\n' for link in links)
    return f"<html><head><title>{title}</title></head><body><pre>{anchors}</pre></body></html>".encode()


def names(body, **more):
    return [(entry.name, entry.is_directory) for entry in entries(body, URL, **more)]


APACHE = b"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html><head><title>Index of /models/llama</title></head><body><h1>Index of /models/llama</h1>
<table><tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/models/">Parent Directory</a></td></tr>
<tr><td><a href="model.safetensors"><img src="/icons/x.gif"></a></td>
<td><a href="model.safetensors">model.s..</a></td></tr>
<tr><td><a href="original/">original/</a></td></tr></table></body></html>"""


def test_the_table_of_apache_without_its_sort_links_and_its_parent():
    assert [("model.safetensors", False), ("original", True)] == names(APACHE)


@pytest.mark.parametrize("title", ["Index of /models/llama/", "Directory listing for /x/", " index of x"])
def test_a_page_that_says_it_is_an_index(title):
    assert [("a", False), ("b", True)] == names(html("../", "a", "b/", title=title))


@pytest.mark.parametrize("body", [html("a", title="Welcome"), html("a", title="Index offer"), b"", b"<html>"])
def test_a_page_of_links_that_does_not_is_none(body):
    with pytest.raises(BadIndex):
        names(body)


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("with%20space", "with space"),
        ("a+b", "a+b"),
        ("100%25", "100%"),
        ("100%", "100%"),
        ("q%3Fx=1&amp;y", "q?x=1&y"),
        ("./a%3Ab", "a:b"),
        ("%E6%A8%A1", "模"),
        ("模", "模"),
        ("n%ff", "n\udcff"),
        ("/models/llama/x", "x"),
        ("/models/%6clama/x", "x"),
        ("https://host:8080/models/llama/x", "x"),
        ("x#part", "x"),
    ],
)
def test_a_link_is_decoded_once(link, name):
    assert [(name, False)] == names(html(link))


def test_a_name_that_is_no_utf_8_is_asked_for_as_it_is():
    body = html("a").replace(b'"a"', b'"n\xff"')

    assert (Entry("n\udcff", "n%FF", is_directory=False),) == entries(body, URL)


@pytest.mark.parametrize(
    "link",
    [
        "../", "/", "/models/", "/models/llama/", "?C=N;O=D", "x?download", "https://elsewhere/models/llama/x",
        "//elsewhere/models/llama/x", "http://host:8080/models/llama/x", "a/b", "/models/llama-2/x", "/x",
        "mailto:a@b", "javascript:x()", "../../etc/passwd", "http://[/x", "", "#top", "http:",
    ],
)  # fmt: skip
def test_what_does_not_lead_directly_below_the_directory_is_no_entry(link):
    assert [] == names(html(link))


@pytest.mark.parametrize(
    ("link", "name"), [("..%2f..%2fetc%2fpasswd", "../../etc/passwd"), ("%2e%2e/", ".."), ("a%00b", "a\0b")]
)
def test_a_hostile_name_is_an_entry_for_the_manifest_to_refuse(link, name):
    assert [name] == [entry.name for entry in entries(html(link), URL)]


def test_a_link_without_a_target_and_one_outside_the_title_count_for_nothing():
    body = b"<title>Index of /<b></b></title>Index<a>x</a><a name=y></a><a href=z>z</a>"

    assert [("z", False)] == names(body)


@pytest.mark.parametrize("how", [{}, {"content_type": "application/json; charset=utf-8"}])
def test_the_json_of_nginx(how):
    body = json.dumps(
        [
            {"name": "original", "type": "directory", "mtime": "Thu, 01 Jan 2026 00:00:00 GMT"},
            {"name": "a b#?%", "type": "file", "mtime": "Thu, 01 Jan 2026 00:00:00 GMT", "size": 1},
            {"name": "socket", "type": "other", "mtime": "Thu, 01 Jan 2026 00:00:00 GMT"},
        ]
    ).encode()

    assert (
        Entry("original", "original", is_directory=True),
        Entry("a b#?%", "a%20b%23%3F%25", is_directory=False),
    ) == entries(body, URL, **how)


def test_a_name_in_json_is_as_it_is_on_the_disk():
    body = b'[{"name": "n\xff", "type": "file"}, {"name": "\\ud800", "type": "file"}]'

    assert [("n\udcff", "n%FF"), ("\ud800", "%3F")] == [(e.name, e.segment) for e in entries(body, URL)]


@pytest.mark.parametrize(
    "body",
    [b"[", b"[1]", b'[{"name": 1, "type": "file"}]', b'[{"name": "x"}]', b'[{"name": "x", "type": "?"}]',
     b"[" * 100_000],
)  # fmt: skip
def test_other_json_is_no_index(body):
    with pytest.raises(BadIndex):
        names(body)


def test_an_object_that_says_it_is_json_is_no_index():
    with pytest.raises(BadIndex):
        names(b"{}", content_type="application/json")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1))
@example("?C=N;O=D")
@example("%2e")
def test_any_name_comes_back_by_json(name):
    (entry,) = entries(json.dumps([{"name": name, "type": "file"}]).encode(), URL)

    assert name == entry.name
    assert not set(entry.segment) - set(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%")


@given(st.binary(max_size=300), st.sampled_from(["text/html", "application/json", ""]))
@example(b"<![x", "")
@example(b"<title>Index of</title><!", "")
def test_whatever_comes_is_entries_or_a_refusal(noise, content_type):
    for body in (noise, html("a") + noise, b"[" + noise, html(noise.decode("latin-1").replace('"', ""))):
        try:
            found = entries(body, URL, content_type)
        except BadIndex:
            continue
        assert all(entry.segment and "/" not in entry.segment for entry in found)
