"""Several sources of one mount: each listed, each found again, and errors that say whose they are."""

import json
import os

import pytest

from lazyfs.config import MountOptions, SourceOptions
from lazyfs.core.blob import BlobRef
from lazyfs.core.layout import Layout
from lazyfs.core.manifest import build
from lazyfs.errors import AccessDenied, OriginMismatch, SourceMissing, UsageError
from lazyfs.mount.assembly import assemble
from lazyfs.mount.report import Origin
from lazyfs.mount.snapshot import Sources, pinned

OPTIONS = SourceOptions()


@pytest.fixture
def models(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(name)
        (tmp_path / name / "sub" / f"{name}.bin").write_text(name)
    return [f"org/{name}=file://{tmp_path}/{name}" for name in ("one", "two")]


@pytest.fixture
def kept():
    fd = os.memfd_create("manifest")
    yield fd
    os.close(fd)


def opened(texts, layout=Layout.HF_CACHE, options=OPTIONS):
    return Sources(texts, options, layout)


def test_each_blob_is_located_at_the_source_it_came_from(models, tmp_path):
    sources = opened(models)
    manifest = sources.take()

    urls = {blob.name.rpartition("/")[2]: sources.locate(blob).url for blob in manifest.blobs}

    assert f"file://{tmp_path}/one/sub/one.bin" == urls["one.bin"]
    assert f"file://{tmp_path}/two/sub/two.bin" == urls["two.bin"]


def test_a_worker_that_takes_over_finds_the_same_names_and_places(models, kept):
    first = pinned(opened(models), kept, first=True)
    later = opened(models)

    taken_over = pinned(later, kept, first=False)

    assert first.nodes() == taken_over.nodes()
    assert [b.origin for b in first.blobs] == [later.locate(blob).url for blob in taken_over.blobs]


def test_patterns_are_matched_against_the_names_in_the_source(models):
    options = SourceOptions(include=("sub/*",))

    names = [blob.name.rpartition("/")[2] for blob in opened(models, options=options).take().blobs]

    assert ["one.bin", "two.bin"] == names


def test_the_error_of_one_of_several_says_which(models, tmp_path):
    missing = f"org/three=file://{tmp_path}/three"

    with pytest.raises(SourceMissing, match=f"there is no {tmp_path}/three"):
        opened([*models, missing]).take()


def test_an_error_that_does_not_name_its_source_gets_its_name(models, monkeypatch):
    def refused(_address, _access):
        raise AccessDenied("the token is refused", "set HF_TOKEN")

    monkeypatch.setattr("lazyfs.sources.local.connect", refused)

    with pytest.raises(AccessDenied) as caught:
        opened(models).take()

    assert f"{models[0]}: the token is refused; set HF_TOKEN" == str(caught.value)


def test_a_source_without_a_name_is_refused(tmp_path):
    (tmp_path / "a").touch()

    with pytest.raises(UsageError, match="does not say which model it is"):
        opened([f"file://{tmp_path}"]).take()


def test_the_flat_layout_refuses_several(models):
    with pytest.raises(UsageError, match="need --layout hf-cache"):
        opened(models, Layout.FLAT)


def test_the_flat_layout_is_as_the_source_lists_it(models, tmp_path):
    sources = opened([f"file://{tmp_path}/one"], Layout.FLAT)

    manifest = sources.take()

    assert ["config.json", "sub/one.bin"] == [blob.name for blob in manifest.blobs]
    assert f"file://{tmp_path}/one/config.json" == sources.locate(manifest.blobs[0]).url


def test_the_same_content_has_the_same_commit_whatever_it_is_called(models):
    address = models[0].partition("=")[2]

    (one,) = opened([models[0]]).take().parts
    (other,) = opened([f"me/mine@v2={address}"]).take().parts

    assert one.directory.rpartition("/")[2] == other.directory.rpartition("/")[2]


# -- what was pinned by an older version, or elsewhere -------------------------------------------------


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
OLDER = {
    "s3://bucket/m": "s3://minio:9000/bucket/m/a",
    "hf://org/model": "hf://hub.example/models/org/model/a",
}


@pytest.fixture
def remote(monkeypatch):
    """An environment that says where S3 and the Hub are."""
    places = {"AWS_ENDPOINT_URL": "http://minio:9000", "HF_ENDPOINT": "https://hub.example"}
    for name, text in (KEYS | places).items():
        monkeypatch.setenv(name, text)
    return monkeypatch


def pinned_before(kept, source, origin):
    said = {"name": "a", "origin": origin, "version": 'etag:"1"', "size_bytes": 1}
    blobs = [said | {"digest": None, "modified_ns": 0}]
    text = json.dumps({"format": 1, "source": source, "blobs": blobs})
    os.pwrite(kept, text.encode(), 0)


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(("source", "origin"), OLDER.items())
def test_what_an_older_version_has_pinned_is_served_under_the_name_it_has_now(kept, source, origin):
    pinned_before(kept, source, origin)
    sources = opened([source], Layout.FLAT)

    (blob,) = pinned(sources, kept, first=False).blobs

    assert blob.origin in {"s3+http://minio:9000/bucket/#m/a", "hf+https://hub.example#models/org/model#a"}
    url = sources.locate(blob).url
    assert url.startswith(("http://minio:9000/bucket/m/a?", "https://hub.example/org/model/resolve/main/a"))
    sources.close()


@pytest.mark.logs("origins_unknown")
@pytest.mark.parametrize(("source", "origin"), OLDER.items())
def test_what_was_pinned_elsewhere_is_neither_read_from_here_nor_kept(kept, source, origin, remote, tmp_path):
    pinned_before(kept, source, origin)
    remote.setenv("AWS_ENDPOINT_URL", "http://evil1:9000")
    remote.setenv("HF_ENDPOINT", "https://evil.example")
    sources = opened([source], Layout.FLAT)

    manifest = pinned(sources, kept, first=False)

    with pytest.raises(OriginMismatch):
        sources.locate(manifest.blobs[0])
    parts = assemble(
        sources.locate,
        manifest,
        MountOptions(cache_dir=tmp_path),
        Origin(tmp_path, 0.0, 1, 0, (0, 0), first=False),
    )
    assert parts.store is None
    sources.close()


def test_a_manifest_of_today_that_was_pinned_elsewhere_is_refused_block_by_block(kept, remote):
    first = opened(["s3://bucket/m"], Layout.FLAT)
    place = "s3+http://minio:9000/bucket/#m/a"
    blob = BlobRef("a", place, 'etag:"1"', 1)
    os.pwrite(kept, build("s3://bucket/m", [blob]).to_json().encode(), 0)
    assert first.locate(blob).url.startswith("http://minio:9000/bucket/m/a")
    remote.setenv("AWS_ENDPOINT_URL", "http://evil1:9000")
    first.reconnect()
    later = opened(["s3://bucket/m"], Layout.FLAT)

    assert (blob,) == pinned(later, kept, first=False).blobs
    for sources in (first, later):
        with pytest.raises(OriginMismatch, match="evil1"):
            sources.locate(blob)
        sources.close()
