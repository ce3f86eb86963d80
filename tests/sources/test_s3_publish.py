"""The S3 destination against a real server; what others do without checksums is done to its answers."""

import hashlib
import io

import pytest
from botocore.awsrequest import AWSResponse

from lazyfs.core.parts import PART_BYTES
from lazyfs.errors import AccessDenied, BadResponse, BlobChanged, UsageError
from lazyfs.sources import Access
from lazyfs.sources.destination import Check, Reading, open_destination
from lazyfs.sources.local import LocalSource
from lazyfs.sources.s3_multipart import Body, Stopped
from lazyfs.sources.s3_publish import Room
from tests.sources.places import Bucket

SIZE = 2 * PART_BYTES + 77


@pytest.fixture
def destination(bucket):
    found = open_destination(bucket.address, bucket.access)
    found.list()
    yield found
    found.close(resume=False)


@pytest.fixture
def root(tmp_path, pattern_bytes):
    (tmp_path / "large").write_bytes(pattern_bytes(SIZE))
    (tmp_path / "small").write_bytes(b"{}")
    return tmp_path


def file(root, name):
    return next(blob for blob in LocalSource(root).below() if blob.name == name)


def send(destination, root, name):
    told = []
    published = destination.send(
        root / name, file(root, name), lambda count, sent: told.append((count, sent))
    )
    return published, told


def uploads(bucket):
    return bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=bucket.prefix).get("Uploads", [])


def without_checksums(destination):
    """Have the server's answers say nothing of checksums."""

    def strip(response_dict, **_):
        for name in [name for name in response_dict["headers"] if name.lower().startswith("x-amz-checksum")]:
            del response_dict["headers"][name]
        body = response_dict["body"]
        for tag in (b"ChecksumCRC32", b"ChecksumType"):
            start, stop = body.find(b"<" + tag + b">"), body.find(b"</" + tag + b">")
            if start >= 0:
                body = body[:start] + body[stop + len(tag) + 3 :]
        response_dict["body"] = body

    destination.client.meta.events.register("before-parse.s3", strip)


class _Raw(io.BytesIO):
    def stream(self, **_):
        yield self.read()


def refusing_checksums(destination):
    """Have requests with checksums answered as by a server that does not know the headers."""
    refused = []

    def answer(request, **_):
        if any(name.lower().startswith("x-amz-checksum") for name in request.headers):
            refused.append(request.url)
            body = b"<Error><Code>NotImplemented</Code><Message>A header you provided</Message></Error>"
            return AWSResponse(request.url, 400, {}, _Raw(body))
        return None

    destination.client.meta.events.register("before-send.s3", answer)
    return refused


@pytest.mark.parametrize("name", ["small", "large"])
def test_the_server_has_compared_a_checksum_of_every_object(destination, bucket, root, name):
    published, told = send(destination, root, name)

    content = (root / name).read_bytes()
    head = bucket.client.head_object(Bucket=bucket.name, Key=bucket.key(name), ChecksumMode="ENABLED")
    assert head.get("ChecksumSHA256") or (head["ChecksumType"], len(head["ChecksumCRC32"])) == (
        "FULL_OBJECT",
        8,
    )
    assert (hashlib.sha256(content).hexdigest(), head["ETag"]) == (published.sha256, published.etag)
    assert content == bucket.client.get_object(Bucket=bucket.name, Key=bucket.key(name))["Body"].read()
    assert (len(content), {True}) == (sum(count for count, _ in told), {sent for _, sent in told})
    assert Check.CHECKSUM is destination.check


@pytest.mark.parametrize("name", ["small", "large"])
def test_of_a_server_that_says_nothing_of_checksums_etags_are_compared(destination, root, name):
    without_checksums(destination)

    send(destination, root, name)

    assert Check.MD5 is destination.check


@pytest.mark.parametrize(("name", "refusals"), [("small", 1), ("large", 1)])
def test_a_server_that_refuses_checksums_gets_none(destination, bucket, root, name, refusals):
    refused = refusing_checksums(destination)
    without_checksums(destination)

    published, _ = send(destination, root, name)

    assert refusals == len(refused)
    assert Check.MD5 is destination.check
    assert (
        published.size_bytes
        == bucket.client.head_object(Bucket=bucket.name, Key=bucket.key(name))["ContentLength"]
    )


def test_bytes_that_arrive_as_others_are_told(destination, root):
    def spoil(response_dict, **_):
        response_dict["headers"]["ETag"] = f'"{"0" * 32}"'

    without_checksums(destination)
    destination.client.meta.events.register("before-parse.s3.PutObject", spoil)

    with pytest.raises(BadResponse, match="other bytes than were sent"):
        send(destination, root, "small")


def test_with_a_key_of_the_servers_own_only_sizes_can_be_compared(destination, root):
    def encrypt(response_dict, **_):
        response_dict["headers"]["x-amz-server-side-encryption"] = "aws:kms"

    without_checksums(destination)
    destination.client.meta.events.register("before-parse.s3.PutObject", encrypt)
    send(destination, root, "small")

    assert Check.SIZE is destination.check


def test_an_upload_that_was_broken_off_is_gone_on_with(destination, bucket, root, pattern_bytes):
    parts = [pattern_bytes(SIZE)[:PART_BYTES], b"others, of another cut"]
    begun = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=bucket.key("large"))["UploadId"]
    for number, part in enumerate(parts, start=1):
        bucket.client.upload_part(
            Bucket=bucket.name, Key=bucket.key("large"), UploadId=begun, PartNumber=number, Body=part
        )
    destination.prepare([file(root, "large")])

    _, told = send(destination, root, "large")

    assert [(PART_BYTES, False)] == [entry for entry in told if not entry[1]]
    assert SIZE - PART_BYTES == sum(count for count, sent in told if sent)
    assert (
        pattern_bytes(SIZE)
        == bucket.client.get_object(Bucket=bucket.name, Key=bucket.key("large"))["Body"].read()
    )
    assert [] == uploads(bucket)


def test_of_several_that_were_broken_off_one_is_left_and_others_are_nobodys_business(
    destination, bucket, root
):
    for name in ("large", "large", "somebody-elses"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=bucket.key(name))
    destination.prepare([file(root, "large")])
    between = sorted(upload["Key"] for upload in uploads(bucket))

    send(destination, root, "large")
    after = [upload["Key"] for upload in uploads(bucket)]

    assert [bucket.key("large"), bucket.key("somebody-elses")] == between
    assert [bucket.key("somebody-elses")] == after


def test_what_nobody_goes_on_with_is_forgotten_at_the_end(bucket, root):
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key=bucket.key("large"))
    found = open_destination(bucket.address, bucket.access)
    found.list()
    found.prepare([file(root, "large")])
    found.close(resume=False)

    assert [] == uploads(bucket)


@pytest.mark.parametrize(("resume", "left"), [(True, 1), (False, 0)])
def test_a_file_that_changed_is_not_completed_and_its_parts_go_unless_they_are_wanted(
    bucket, root, resume, left
):
    found = open_destination(bucket.address, bucket.access)
    found.list()
    before = file(root, "large")
    (root / "large").touch()

    with pytest.raises(BlobChanged, match="was written to"):
        found.send(root / "large", before, lambda *_: None)
    found.close(resume=resume)

    assert left == len(uploads(bucket))
    assert [] == [blob.name for blob in open_again(bucket)]


def open_again(bucket):
    found = open_destination(bucket.address, bucket.access)
    try:
        return found.list()
    finally:
        found.close(resume=True)


@pytest.mark.parametrize("name", ["small", "large"])
def test_what_is_there_is_known_by_the_servers_checksum(destination, root, name):
    send(destination, root, name)
    (held,) = destination.list()
    digest = hashlib.sha256((root / name).read_bytes()).hexdigest()

    assert digest == destination.digest_if_same(root / name, file(root, name), held)


@pytest.mark.parametrize("name", ["small", "large"])
def test_what_is_there_and_is_something_else_is_known_too(destination, root, name):
    send(destination, root, name)
    (held,) = destination.list()
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[:-1] + b"?")

    assert destination.digest_if_same(root / name, file(root, name), held) is None


def test_what_says_nothing_of_its_bytes_is_not_taken_for_the_same(destination, bucket, root):
    bucket.client.upload_file(str(root / "large"), bucket.name, bucket.key("large"))
    (held,) = destination.list()
    without_checksums(destination)

    assert destination.digest_if_same(root / "large", file(root, "large"), held) is None


@pytest.mark.parametrize(
    "name", ["x" * 250 + "/" + "y" * 250 + "/" + "z" * 250 + "/" + "w" * 250 + "/v" * 20, "\udcff"]
)
def test_a_name_that_no_object_can_have_is_refused_before_anything_is_sent(destination, root, name):
    from dataclasses import replace

    with pytest.raises(UsageError, match="cannot be the name of an object"):
        destination.prepare([replace(file(root, "small"), name=name)])


def test_a_version_is_nothing_to_publish_to(bucket):
    with pytest.raises(UsageError, match="names one version"):
        open_destination(f"{bucket.address}?versionId=1", bucket.access)


def test_without_the_right_to_write_that_is_said(aws, root):
    Bucket(aws, "public").close()
    found = open_destination("s3://public/model", Access(aws.endpoint_url, anonymous=True))
    found.list()
    with pytest.raises(AccessDenied) as raised:
        send(found, root, "small")
    found.close(resume=True)

    assert "s3:PutObject" in raised.value.cure


def test_a_body_ends_its_request_when_all_is_stopped():
    import threading

    stopped = threading.Event()
    body = Body(b"x" * (3 << 20), stopped)
    first = body.read(16)
    stopped.set()

    assert 1 << 20 == len(first)
    with pytest.raises(Stopped):
        body.read(16)


def test_room_is_waited_for_and_a_part_larger_than_all_of_it_goes_alone():
    import threading

    room = Room(10)
    room.take(100)
    waiter = threading.Thread(target=room.take, args=(1,), daemon=True)
    waiter.start()
    waiter.join(0.05)
    waited = waiter.is_alive()
    room.give(100)
    waiter.join(60)

    assert (True, False) == (waited, waiter.is_alive())


def test_reading_notices_a_write_and_a_removal(root):
    before = file(root, "large")
    reading = Reading(root / "large", before)
    pieces = reading.pieces(1000)
    next(pieces)
    with (root / "large").open("ab") as opened:
        opened.write(b"more")
    with pytest.raises(BlobChanged):
        list(pieces)

    (root / "large").unlink()
    with pytest.raises(BlobChanged):
        Reading(root / "large", before).read()
