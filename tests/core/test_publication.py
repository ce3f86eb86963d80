import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import NUMBER_MAX, refusal
from lazyfs.core.publication import (
    CONTENT_BYTES_MAX,
    FILE_NAME,
    TENSOR_NAMES_BYTES_MAX,
    Publication,
    Published,
    Unmet,
    encode,
    parse,
    parse_unfinished,
    reading_order,
    require_met,
    same_file,
    same_object,
    with_digests,
)
from lazyfs.errors import BadPublication, UnfinishedPublication

SHA = "5f" * 32


def document(*entries, **fields):
    return json.dumps({"lazyfs": 1, "files": entries} | fields).encode()


def one(**fields):
    (file,) = parse(document({"name": "a", "size": 1} | fields)).files
    return file


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: refusal(name) is None and name != FILE_NAME
)
numbers = st.integers(0, NUMBER_MAX)
publications = st.builds(
    lambda files: Publication(tuple(sorted(files, key=lambda file: reading_order(file.name)))),
    st.lists(
        st.builds(
            Published,
            names,
            numbers,
            st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
            st.none() | st.text(max_size=40),
            st.none() | st.integers(-NUMBER_MAX, NUMBER_MAX),
            st.none() | st.lists(st.text(max_size=20), max_size=4).map(tuple),
        ),
        max_size=6,
        unique_by=lambda file: file.name,
    ),
)


@given(publications)
def test_what_is_encoded_is_parsed_again(publication):
    assert publication == parse(encode(publication))


@given(publications)
def test_one_that_is_not_complete_is_read_by_nobody_who_does_not_ask_for_it(publication):
    content = encode(publication, complete=False)

    assert publication == parse_unfinished(content)
    with pytest.raises(BadPublication, match="not been completed"):
        parse(content)


@given(publications)
def test_a_complete_one_can_be_gone_on_from_too(publication):
    assert publication == parse_unfinished(encode(publication))


@given(st.binary(max_size=200))
@example(b'{"lazyfs": 1, "files": [{"name": "a", "size": ' + b"9" * 5000 + b"}]}")
@example(b"[" * 100_000)
@example(b"\xff\xfe")
def test_any_bytes_are_a_publication_or_a_bad_one(content):
    try:
        parse(content)
    except BadPublication as error:
        assert error.cure


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"lazyfs": st.just(1) | values},
        optional={
            "files": values
            | st.lists(
                st.fixed_dictionaries(
                    {"name": st.just("a") | values, "size": st.just(1) | values},
                    optional=dict.fromkeys(("sha256", "etag", "modified_ns", "tensors", "others"), values),
                ),
                max_size=3,
            ),
            "sent": values,
        },
    )
)
def test_any_json_is_a_publication_or_a_bad_one(found):
    content = json.dumps(found).encode()
    for read in (parse, parse_unfinished):
        try:
            publication = read(content)
        except BadPublication:
            continue
        assert all(refusal(file.name) is None for file in publication.files)


def test_what_people_write_by_hand_is_enough():
    content = b'{"lazyfs": 1, "by": "me", "files": [{"size": 3, "name": "a/b", "licence": "MIT"}]}'

    assert (Published("a/b", 3),) == parse(content).files


def test_a_digest_may_be_in_capitals_and_is_what_blobs_have():
    assert f"sha256:{SHA}" == one(sha256=SHA.upper()).digest
    assert one().digest is None


def test_null_is_the_same_as_nothing():
    assert one() == one(sha256=None, etag=None, modified_ns=None, tensors=None)


def test_the_file_itself_is_left_out():
    assert () == parse(document({"name": FILE_NAME, "size": 0})).files


def test_it_is_larger_than_anybody_needs():
    with pytest.raises(BadPublication, match="larger than"):
        parse(b" " * (CONTENT_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"[]", 'does not say "lazyfs": 1'),
        (b"{}", 'does not say "lazyfs": 1'),
        (b'{"lazyfs": true, "files": []}', 'does not say "lazyfs": 1'),
        (b'{"lazyfs": 0, "files": []}', 'does not say "lazyfs": 1'),
        (b'{"lazyfs": 2, "files": []}', "of format 2, this lazyfs knows 1; install a newer lazyfs"),
        (b'{"lazyfs": 1}', "no list of files"),
        (b'{"lazyfs": 1, "files": {}}', "no list of files"),
        (document(7), "without a name"),
        (document({"size": 1}), "without a name"),
        (document({"name": "../a", "size": 1}), "has a component '..'"),
        (document({"name": "/etc/passwd", "size": 1}), "has a component ''"),
        (document({"name": "./a", "size": 1}), "has a component '.'"),
        (document({"name": "a", "size": 1}, {"name": "a", "size": 1}), "lists 'a' twice"),
        (document({"name": "a"}), "no proper size of 'a'"),
        (document({"name": "a", "size": -1}), "no proper size"),
        (document({"name": "a", "size": 1.0}), "no proper size"),
        (document({"name": "a", "size": True}), "no proper size"),
        (document({"name": "a", "size": NUMBER_MAX + 1}), "no proper size"),
        (document({"name": "a", "size": 1, "sha256": "5f"}), "no proper sha256"),
        (document({"name": "a", "size": 1, "sha256": 5}), "no proper sha256"),
        (document({"name": "a", "size": 1, "etag": 5}), "no proper etag"),
        (document({"name": "a", "size": 1, "modified_ns": "now"}), "no proper modified_ns"),
        (document({"name": "a", "size": 1, "tensors": "w"}), "no proper tensors"),
        (document({"name": "a", "size": 1, "tensors": [1]}), "no proper tensors"),
    ],
)
def test_what_is_wrong_is_said(content, says):
    with pytest.raises(BadPublication) as raised:
        parse(content)

    assert says in str(raised.value)
    assert FILE_NAME in raised.value.cause


def test_files_are_listed_as_an_engine_reads_them():
    wanted = [
        "config.json", "tokenizer.json",
        "model-1.safetensors", "model-2.safetensors", "model-10.safetensors",
        "original/params.json", "pytorch_model.bin",
    ]  # fmt: skip
    publication = Publication(tuple(Published(name, 1) for name in sorted(wanted)))

    assert wanted == [file.name for file in parse(encode(publication)).files]


def test_a_line_is_a_file():
    publication = Publication((Published("a", 1, etag='"x"'), Published("b", 2)))

    assert ['{"lazyfs": 1, "files": [', '  {"name": "a", "size": 1, "etag": "\\"x\\""},'] == (
        encode(publication).decode().splitlines()[:2]
    )


def test_more_names_of_tensors_than_a_mount_should_wait_for_are_left_out():
    few = Published("a.safetensors", 1, tensors=("w", "v"))
    many = Published("b.safetensors", 1, tensors=("x" * TENSOR_NAMES_BYTES_MAX,))

    assert (few,) == parse(encode(Publication((few,)))).files
    assert [None, None] == [file.tensors for file in parse(encode(Publication((few, many)))).files]


def blob(name, version='"v"', size_bytes=1):
    return BlobRef(name, f"s3://x/{name}", version, size_bytes)


def by_version(claim, found):
    return same_object(claim, found.version)


def test_what_it_still_speaks_of_has_its_digest():
    publication = Publication((Published("a", 1, SHA, "v"), Published("b", 1, None, "v")))

    found, stale = with_digests(publication, [blob("a"), blob("b"), blob("c")], by_version)

    assert ([f"sha256:{SHA}", None, None], []) == ([b.digest for b in found], stale)


@pytest.mark.parametrize("other", [blob("a", '"w"'), blob("a", size_bytes=2)])
def test_what_was_replaced_since_has_no_digest_and_is_told(other):
    publication = Publication((Published("a", 1, SHA, "v"),))

    assert ([other], ["a"]) == with_digests(publication, [other], by_version)


def test_what_is_gone_is_told():
    publication = Publication((Published("z", 1), Published("a", 1)))

    assert ([], ["a", "z"]) == with_digests(publication, [], by_version)


def test_a_claim_about_no_version_in_particular_counts_for_nothing():
    publication = Publication((Published("a", 1, SHA),))

    assert ([blob("a")], []) == with_digests(publication, [blob("a")], by_version)


@pytest.mark.parametrize(
    ("claimed", "answer"),
    [(None, None), ("v", True), ('"v"', True), ("w", False)],
)
def test_an_object_is_known_by_its_etag(claimed, answer):
    assert answer is same_object(Published("a", 1, etag=claimed), '"v"')


@pytest.mark.parametrize(("claimed", "answer"), [(None, None), (5, True), (6, False)])
def test_a_file_is_known_by_its_modification_time(claimed, answer):
    assert answer is same_file(Published("a", 1, modified_ns=claimed), 5)


def test_a_place_that_fits_its_publication_is_taken_for_complete():
    require_met(Unmet(), lambda _name: True)
    require_met(Unmet(("a",)), lambda _name: False)


def test_what_is_still_being_published_is_refused():
    with pytest.raises(UnfinishedPublication, match="not yet"):
        require_met(Unmet(unfinished="not yet"), lambda _name: False)


@pytest.mark.parametrize(
    ("stale", "says"), [(("a", "b"), "'a', 'b': replaced"), (tuple("abcdefg"), "'e' and 2 more: replaced")]
)
def test_stale_files_are_refused_by_their_names(stale, says):
    with pytest.raises(BadPublication, match=says):
        require_met(Unmet(stale), lambda _name: True)
