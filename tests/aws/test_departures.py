"""Servers that depart from S3 in one thing: all of a model is listed and read, or one line says why not."""

from dataclasses import replace

import pytest

from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    ClockSkewed,
    CredentialsExpired,
    CredentialsInvalid,
    LazyfsError,
    LocationLapsed,
    SourceThrottled,
    SourceUnavailable,
    UsageError,
)
from lazyfs.sources import Access, open_source, s3_listing
from tests.aws.reading import read
from tests.aws.signing import Refused
from tests.aws.storage import BUCKET, Departure

ADDRESS = f"s3://{BUCKET}/llama"
NAMES = [f"{number:05d} é&%" for number in range(25)]
PAGE = 10

pytestmark = pytest.mark.usefixtures("signed")


@pytest.fixture(autouse=True)
def objects(storage):
    storage.page = PAGE
    storage.objects = {f"llama/{name}": name.encode() for name in NAMES}


def listed(address=ADDRESS):
    source = open_source(address, Access())
    try:
        return list(source.list())
    finally:
        source.close()


def names(address=ADDRESS):
    return [blob.name for blob in listed(address)]


def refused(address=ADDRESS):
    with pytest.raises(LazyfsError) as raised:
        listed(address)
    assert raised.value.cure
    assert "\n" not in str(raised.value)
    return raised.value


# -- listings in pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "departure",
    [
        Departure(),
        Departure(first_version=True),
        Departure(first_version=True, next_marker=False),
        Departure(token="none"),
        Departure(first_version=True, untruncated=True),
        Departure(untruncated=True, token="none", next_marker=False),
        Departure(truncated_as="false"),
        Departure(truncated_as="false", first_version=True),
        Departure(truncated_as="1", token="none"),
        Departure(truncated_as=" True\n", first_version=True, next_marker=False),
    ],
    ids=[
        "S3", "only the first version", "and no NextMarker", "no token", "cut, by a marker alone",
        "nothing at all", "by a token alone", "by a marker alone", "one is true", "True is true",
    ],
)  # fmt: skip
def test_all_of_a_model_is_listed_whatever_a_server_makes_of_pages(storage, departure):
    storage.departure = departure

    assert NAMES == names()


def test_as_many_objects_as_fit_on_a_page_are_all_there_is(storage):
    storage.departure = Departure(first_version=True, untruncated=True, next_marker=False)
    storage.objects = {f"llama/{name}": b"" for name in NAMES[:PAGE]}

    assert NAMES[:PAGE] == names()


@pytest.mark.parametrize(
    "departure",
    [
        Departure(first_version=True, marker=False),
        Departure(token="same"),
        Departure(token="circle"),
        Departure(token="empty"),
    ],
    ids=["ignores the marker", "the same token again", "two pages by turns", "empty pages"],
)
def test_pages_without_end_are_an_error(storage, departure):
    storage.departure = departure
    error = refused()

    assert BadResponse is type(error)
    assert "without end" in error.cause


def test_more_objects_than_any_model_has_are_refused(storage, monkeypatch):
    monkeypatch.setattr(s3_listing, "ENTRIES_MAX", 45)
    storage.departure = Departure(endless=True)

    assert UsageError is type(refused())
    assert 5 == len(storage.listings)


def test_a_listing_that_breaks_off_out_of_order_is_refused(storage):
    storage.departure = Departure(token="none", reversed=True)
    error = refused()

    assert BadResponse is type(error)
    assert "nor lists in order" in error.cause


def test_a_listing_out_of_order_that_says_how_to_go_on_is_taken(storage):
    storage.departure = Departure(reversed=True)

    assert NAMES[::-1] == names()


@pytest.mark.parametrize(
    "page",
    [
        b"<html><body>Sign in</body></html>",
        b"<ListBucketResult/>",
        b"<Listing><a/></Listing>",
        b"",
        b"<ListBucketResult><Name>models</Name><Contents><Key>llama/x",
    ],
    ids=["a page of a proxy", "an empty one", "another document", "nothing", "one that is cut"],
)
def test_a_second_page_that_is_no_listing_is_an_error(storage, page):
    storage.departure = Departure(raw=page)

    assert isinstance(refused(), SourceUnavailable)


# -- entries that say too little -----------------------------------------------------------------------


@pytest.mark.parametrize("element", ["ETag", "Size", "LastModified"])
def test_what_a_listing_leaves_out_the_object_is_asked_for(storage, element):
    right = listed()
    storage.departure = Departure(without=(element,))

    assert [(blob.name, blob.version, blob.size_bytes) for blob in right] == [
        (blob.name, blob.version, blob.size_bytes) for blob in listed()
    ]


@pytest.mark.parametrize(
    ("element", "header", "words"),
    [("ETag", "ETag", "no ETag of 'llama/00000"), ("Key", "", "not S3's")],
)
def test_what_nobody_says_is_named_in_one_line(storage, element, header, words):
    storage.departure = Departure(without=(element,), head_without=(header,))

    assert words in refused().cause


def test_one_object_without_an_etag_is_named_too(storage):
    storage.departure = Departure(head_without=("ETag",))

    assert "00000 é&%" in refused(f"{ADDRESS}/{NAMES[0]}").cause


@pytest.mark.parametrize("text", [b"many", b"-5", b"1e9"])
def test_a_size_that_is_none_is_an_error(storage, text):
    storage.page = 1
    storage.departure = Departure(
        raw=b"<ListBucketResult><Name>models</Name><IsTruncated>false</IsTruncated><Contents><Key>llama/x</Key>"
        b"<ETag>x</ETag><Size>" + text + b"</Size></Contents></ListBucketResult>"
    )

    assert isinstance(refused(), SourceUnavailable)


# -- a region of one's own -----------------------------------------------------------------------------


@pytest.fixture
def source():
    found = open_source(ADDRESS, Access())
    yield found
    found.close()


def test_reads_are_signed_for_the_region_a_listing_was_signed_for(storage, source):
    storage.region = "garage"
    blob = next(source.list())

    assert NAMES[0].encode() == read(source, blob)
    assert "garage" == source.bucket.region
    assert 1 == len(storage.refused)


def test_one_object_by_its_address_is_signed_for_its_region_too(storage):
    storage.region = "garage"
    source = open_source(f"{ADDRESS}/{NAMES[0]}", Access())
    (blob,) = source.list()

    assert NAMES[0].encode() == read(source, blob)
    source.close()


def test_a_region_that_changes_is_signed_for_once_a_location_was_refused(storage, source):
    blobs = list(source.list())
    storage.region = "garage"
    with pytest.raises(AccessDenied):
        read(source, blobs[0])

    assert NAMES[0].encode() == read(source, blobs[0])
    assert NAMES[1].encode() == read(source, blobs[1])


def test_who_takes_over_without_a_listing_finds_the_region(storage, source):
    blob = next(source.list())
    storage.region = "garage"
    other = open_source(ADDRESS, Access())
    with pytest.raises(AccessDenied):
        read(other, blob)

    assert NAMES[0].encode() == read(other, blob)
    other.close()


# -- refusals that pass, whatever their status ---------------------------------------------------------

PASSING = [
    (400, "SlowDown"),
    (403, "ThrottlingException"),
    (400, "KMS.ThrottlingException"),
    (400, "RequestTimeout"),
    (403, "InternalError"),
    (409, "OperationAborted"),
    (403, "RequestTimeTooSkewed"),
]


def times(number, answer, storage):
    """Refuse so many requests."""
    left = [answer] * number
    storage.refuse = lambda _request: left.pop() if left else None


@pytest.mark.parametrize(("status", "code"), PASSING)
def test_a_listing_that_is_refused_for_what_passes_is_asked_for_again(storage, status, code):
    times(2, Refused(status, code), storage)

    assert NAMES == names()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "SlowDown", SourceThrottled),
        (400, "KMS.ThrottlingException", SourceThrottled),
        (403, "InternalError", SourceUnavailable),
        (403, "RequestTimeTooSkewed", ClockSkewed),
        (400, "ExpiredToken", CredentialsExpired),
        (403, "InvalidAccessKeyId", CredentialsInvalid),
        (403, "AccessDenied", AccessDenied),
    ],
)
def test_what_does_not_pass_is_told(storage, status, code, kind):
    times(1000, Refused(status, code), storage)

    assert kind is type(refused())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "SlowDown", SourceThrottled),
        (403, "ThrottlingException", SourceThrottled),
        (400, "KMS.ThrottlingException", SourceThrottled),
        (400, "RequestTimeout", SourceUnavailable),
        (403, "InternalError", SourceUnavailable),
        (403, "RequestTimeTooSkewed", LocationLapsed),
        (400, "ExpiredToken", LocationLapsed),
    ],
)
def test_a_read_that_is_refused_for_what_passes_may_be_tried_again(storage, source, status, code, kind):
    blob = next(source.list())
    times(1, Refused(status, code), storage)
    with pytest.raises(LazyfsError) as raised:
        read(source, blob)

    assert kind is type(raised.value)
    assert raised.value.retryable
    assert NAMES[0].encode() == read(source, blob)


def test_a_clock_that_is_wrong_is_told_and_once_it_is_right_reads_go_on(storage, source):
    blob = next(source.list())
    storage.keys.ahead_s = 7200
    with pytest.raises(LocationLapsed):
        read(source, blob)
    with pytest.raises(ClockSkewed):
        source.locate(blob)
    storage.keys.ahead_s = 0

    assert NAMES[0].encode() == read(source, blob)


def test_a_key_that_was_replaced_in_its_file_is_read_anew(environment, storage, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    file = tmp_path / "credentials"
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(key):
        file.write_text(
            f"[default]\naws_access_key_id = {key.access}\naws_secret_access_key = {key.secret}\n"
            f"aws_session_token = {key.token}\n"
        )

    write(storage.keys.issue(3600))
    source = open_source(ADDRESS, Access())
    blob = next(source.list())
    storage.keys.known.clear()
    write(storage.keys.issue(3600))
    with pytest.raises(AccessDenied):
        read(source, blob)

    assert NAMES[0].encode() == read(source, blob)
    source.close()


def test_a_page_that_counts_more_than_it_lists_is_an_error(storage):
    storage.page = 1000
    storage.departure = Departure(uncounted=3)

    assert "counts 28 objects on a page, and lists 25" in refused().cause


@pytest.mark.parametrize("etag", ['""', 'W/""', '"a\tb"', '"é"'.encode().decode("latin-1")])
@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/{NAMES[0]}"])
def test_an_etag_that_pins_nothing_or_cannot_be_sent_is_none(storage, etag, address):
    storage.departure = Departure(etag=etag)

    assert "no ETag" in refused(address).cause


NAMESPACED = '<?xml version="1.0"?><Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</Error>'


def test_the_code_of_an_error_with_a_namespace_is_read(storage):
    storage.departure = Departure(refusal_as=NAMESPACED)
    storage.region = "garage"
    assert NAMES == names()

    storage.refuse = lambda _request: Refused(403, "AccessDenied")
    assert AccessDenied is type(refused())


@pytest.mark.parametrize(
    ("status", "kind"), [(403, AccessDenied), (400, LazyfsError), (503, SourceThrottled)]
)
def test_a_refusal_that_is_no_document_is_told_by_its_status(storage, status, kind):
    storage.departure = Departure(refusal_as="<html><body>a proxy</body></html>")
    storage.refuse = lambda _request: Refused(status, "")
    error = refused()

    assert kind is type(error)
    assert str(status) in error.cause


def test_a_secret_that_was_replaced_in_its_file_is_read_anew(environment, storage, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    file = tmp_path / "credentials"
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    key = storage.keys.issue()
    text = f"[default]\naws_access_key_id = {key.access}\naws_secret_access_key = "
    file.write_text(text + key.secret)
    source = open_source(ADDRESS, Access())
    blob = next(source.list())
    storage.keys.known[key.access] = replace(key, secret="another")
    file.write_text(text + "another")
    with pytest.raises(AccessDenied):
        read(source, blob)

    assert NAMES[0].encode() == read(source, blob)
    source.close()
