"""Several sources of one mount: each listed, each found again, and errors that say whose they are."""

import os

import pytest

from lazyfs.config import SourceOptions
from lazyfs.core.layout import Layout
from lazyfs.errors import AccessDenied, SourceMissing, UsageError
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
