import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef
from lazyfs.core.layout import (
    Asked,
    Layout,
    Listed,
    Repository,
    arrange,
    asked,
    in_order,
    part_of,
    refuse_several,
)
from lazyfs.core.manifest import Part, build, from_json
from lazyfs.core.tree import Kind
from lazyfs.errors import UsageError

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
SHA = "ab" * 32
GIT = "cd" * 20


def blob(name, *, version="v", digest=None, place="one", size=1):
    return BlobRef(name, f"s3://aws/{place}/{name}", version, size, digest and f"sha256:{digest}")


def listed(repository, *blobs, source="hf://org/one"):
    return Listed(repository, build(source, blobs))


def paths(manifest):
    """Every path of the mount, with what it is."""
    nodes = manifest.nodes()

    def below(inode, prefix):
        for name, child in nodes[inode].children.items():
            node, path = nodes[child], prefix + name.decode()
            if node.is_directory:
                yield from below(child, f"{path}/")
            else:
                yield path, node

    return dict(below(1, ""))


def texts(manifest):
    return {path: node.text.decode() for path, node in paths(manifest).items() if node.text is not None}


def test_a_model_is_laid_out_as_the_hub_caches_it():
    manifest = arrange(
        [listed(Repository("org/one", ONE), blob("config.json", version=GIT), blob("w", digest=SHA))]
    )

    found = paths(manifest)

    top = "models--org--one"
    assert {
        f"{top}/refs/main",
        f"{top}/blobs/{GIT}",
        f"{top}/blobs/{SHA}",
        f"{top}/snapshots/{ONE}/config.json",
        f"{top}/snapshots/{ONE}/w",
        "hub",
    } == set(found)
    assert {f"{top}/refs/main": ONE} == texts(manifest)
    assert b"." == found["hub"].target
    assert found[f"{top}/blobs/{SHA}"] is found[f"{top}/snapshots/{ONE}/w"]


def test_a_blob_without_digest_or_git_id_is_named_by_its_key_in_the_store():
    one = blob("w", version='"etag"')

    manifest = arrange([listed(Repository("org/one", ONE), one)])

    assert f"models--org--one/blobs/{one.store_key}" in paths(manifest)


@pytest.mark.parametrize(
    ("repository", "folder"),
    [
        (Repository("org/one", ONE), "models--org--one"),
        (Repository("gpt2", ONE), "models--gpt2"),
        (Repository("org/set", ONE, kind="dataset"), "datasets--org--set"),
    ],
)
def test_a_repository_has_the_directory_the_hub_gives_it(repository, folder):
    assert folder == repository.folder


@pytest.mark.parametrize(
    ("revision", "refs"),
    [
        ("main", {"main": ONE}),
        ("v1.0", {"v1.0": ONE}),
        ("refs/pr/1", {"refs/pr/1": ONE}),
        ("1111111", {"1111111": ONE}),
        (ONE, {}),
    ],
)
def test_the_revision_that_was_asked_for_leads_to_the_commit(revision, refs):
    manifest = arrange([listed(Repository("org/one", ONE, revision), blob("a"))])

    assert {f"models--org--one/refs/{name}": commit for name, commit in refs.items()} == texts(manifest)


def test_part_of_a_repository_lies_where_it_lies_there():
    manifest = arrange([listed(Repository("org/one", ONE, directory="gguf/q4"), blob("m.gguf"))])

    assert f"models--org--one/snapshots/{ONE}/gguf/q4/m.gguf" in paths(manifest)


def test_two_revisions_that_share_a_file_have_it_once_under_two_names():
    manifest = arrange(
        [
            listed(Repository("org/one", ONE), blob("w", digest=SHA)),
            listed(Repository("org/one", TWO, "v2"), blob("w", digest=SHA), source="hf://org/one@v2"),
        ]
    )

    found = paths(manifest)

    assert 1 == len(manifest.blobs)
    assert (
        found[f"models--org--one/snapshots/{ONE}/w"]
        is found[f"models--org--one/snapshots/{TWO}/w"]
        is found[f"models--org--one/blobs/{SHA}"]
    )


def test_files_that_only_have_the_same_digest_are_two_with_one_key_in_the_store():
    """Whoever states the digests of one model must not be able to replace a file of another."""
    manifest = arrange(
        [
            listed(Repository("org/one", ONE), blob("w", digest=SHA), source="s3://one"),
            listed(Repository("org/two", TWO), blob("v", digest=SHA, place="two"), source="s3://two"),
        ]
    )

    found = paths(manifest)

    places = {path[-1]: node.blob.origin for path, node in found.items() if "snapshots" in path}
    assert {"w": "s3://aws/one/w", "v": "s3://aws/two/v"} == places
    assert 1 == len({one.store_key for one in manifest.blobs})


def test_two_revisions_that_are_one_commit_are_one_snapshot_with_two_refs():
    one = [listed(Repository("org/one", ONE, name), blob("a"), source=f"hf://org/one@{name}")
           for name in ("main", "v1")]  # fmt: skip

    manifest = arrange(one)

    assert {"models--org--one/refs/main": ONE, "models--org--one/refs/v1": ONE} == texts(manifest)
    assert 1 == len(manifest.blobs)


def test_two_revisions_that_are_two_commits_are_two_snapshots():
    manifest = arrange(
        [
            listed(Repository("org/one", ONE), blob("a")),
            listed(Repository("org/one", TWO, "v2"), blob("a", version="2"), source="hf://org/one@v2"),
        ]
    )

    assert {f"models--org--one/snapshots/{commit}/a" for commit in (ONE, TWO)} < set(paths(manifest))


def test_one_revision_that_is_two_commits_is_refused():
    with pytest.raises(UsageError, match="hf://org/one and s3://b/one are both org/one@main"):
        arrange(
            [
                listed(Repository("org/one", ONE), blob("a")),
                listed(Repository("org/one", TWO), blob("a"), source="s3://b/one"),
            ]
        )


@pytest.mark.parametrize("revision", ["../up", "a//b", "x" * 256])
def test_a_revision_that_can_be_no_file_is_refused(revision):
    with pytest.raises(UsageError, match="refs"):
        arrange([listed(Repository("org/one", ONE, revision), blob("a"))])


def test_what_a_source_holds_and_cannot_be_shown_stays_refused():
    manifest = arrange([listed(Repository("org/one", ONE), blob("../a"), blob("b"))])

    assert ["../a"] == [refused.name for refused in manifest.refused]


def test_a_name_too_long_for_the_cache_is_refused_and_hides_no_other():
    long = "/".join(["d" * 250] * 16 + ["e" * 30])
    manifest = arrange([listed(Repository("org/one", ONE), blob(long), blob("z"))])

    assert 1 == len(manifest.refused)
    assert f"models--org--one/snapshots/{ONE}/z" in paths(manifest)


NAMES = st.lists(st.sampled_from(["a", "b", "c/d", "c/e"]), unique=True, min_size=1)
LISTS = st.lists(
    st.tuples(st.sampled_from(["org/one", "org/two"]), st.sampled_from([ONE, TWO, THREE]), NAMES),
    min_size=1,
    max_size=4,
)


@given(LISTS, st.sampled_from([None, SHA]))
def test_what_is_arranged_comes_back_from_json_and_every_file_is_there(given_lists, digest):
    every = [
        listed(
            Repository(name, commit, commit),
            *(blob(each, version=commit, digest=digest) for each in names),
            source=f"hf://{name}@{commit}",
        )
        for name, commit, names in given_lists
    ]

    manifest = arrange(every)
    back = from_json(manifest.to_json())

    assert (manifest.blobs, manifest.parts, manifest.extras) == (back.blobs, back.parts, back.extras)
    assert manifest.nodes() == back.nodes()
    assert manifest.snapshot_id == back.snapshot_id
    found = paths(back)
    for one in every:
        assert {f"{one.repository.snapshot}/{b.name}" for b in one.manifest.blobs} <= set(found)


# -- sources as they are typed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "revision", "kind", "address"),
    [
        ("org/name=s3://b/m", "org/name", None, "model", "s3://b/m"),
        ("org/name@v1=s3://b/a=b", "org/name", "v1", "model", "s3://b/a=b"),
        ("name@refs/pr/1=file:///m", "name", "refs/pr/1", "model", "file:///m"),
        ("datasets/org/set=https://h/x", "org/set", None, "dataset", "https://h/x"),
        ("models/org/m=s3://b", "org/m", None, "model", "s3://b"),
    ],
)
def test_a_source_can_be_given_a_name(text, name, revision, kind, address):
    assert Asked(text, address, name, revision, kind) == asked(text)


@pytest.mark.parametrize("text", ["s3://b/a=b", "hf://org/name@v=1", "org/name", "a b=s3://b", "=s3://b", ""])
def test_everything_else_is_an_address(text):
    assert Asked(text, text) == asked(text)


def test_a_source_that_knows_its_repository_needs_no_name():
    own = Repository("org/name", ONE)

    assert own == asked("hf://org/name").repository(own, "f" * 64)


def test_a_source_that_knows_its_repository_can_be_given_another_name():
    own = Repository("org/name", ONE, "v1")

    assert Repository("me/it", ONE, "v1") == asked("me/it=hf://org/name@v1").repository(own, "f" * 64)
    assert Repository("me/it", ONE, "v2") == asked("me/it@v2=hf://org/name@v1").repository(own, "f" * 64)


def test_a_source_without_commits_is_pinned_by_the_id_of_its_snapshot():
    found = asked("org/name=s3://b/m").repository(None, "0123456789" * 6 + "abcd")

    assert Repository("org/name", "0123456789" * 4) == found


def test_a_source_that_nobody_names_is_refused_with_the_cure():
    with pytest.raises(UsageError, match="write it like org/name=s3://b/m"):
        asked("s3://b/m").repository(None, "f" * 64)


@pytest.mark.parametrize(
    ("sources", "cure"),
    [(["s3://a", "s3://b"], "need --layout hf-cache"), (["o/n=s3://a"], "leave the name out")],
)
def test_the_flat_layout_has_one_source_without_a_name(sources, cure):
    with pytest.raises(UsageError, match=re.escape(cure)):
        refuse_several(sources, Layout.FLAT)


def test_the_other_layout_takes_both():
    refuse_several(["o/n=s3://a", "s3://b"], Layout.HF_CACHE)
    refuse_several(["s3://b"], Layout.FLAT)


# -- which blob is whose ----------------------------------------------------------------------------------


def test_a_name_belongs_to_the_part_with_the_longest_directory():
    parts = (Part("s", "m/snapshots/1"), Part("t", "m/snapshots/1/gguf"), Part("u", "m/snapshots/12"))

    assert "t" == part_of("m/snapshots/1/gguf/a", parts).source
    assert "s" == part_of("m/snapshots/1/ggufs", parts).source
    assert "u" == part_of("m/snapshots/12/a", parts).source


def test_models_come_in_the_order_they_were_given_by_the_names_their_sources_give():
    manifest = arrange(
        [
            listed(Repository("org/z", ONE), blob("a"), blob("b"), source="hf://org/z"),
            listed(Repository("org/a", TWO), blob("c", place="two"), source="hf://org/a"),
        ]
    )
    by_inode = {inode: node.blob for inode, node in manifest.nodes().items() if node.blob is not None}

    first, second = in_order(by_inode, manifest.parts)

    assert ["a", "b"] == [found.name for found in first.values()]
    assert ["c"] == [found.name for found in second.values()]
    assert set(by_inode) == set(first) | set(second)


def test_without_parts_all_blobs_are_one_model():
    blobs = {16: blob("a")}

    assert [blobs] == in_order(blobs, ())


def test_there_is_a_link_to_the_top_which_is_not_an_alias():
    manifest = arrange([listed(Repository("org/one", ONE), blob("a"))])

    assert [("hub", ".")] == [(e.name, e.content) for e in manifest.extras if e.kind is Kind.LINK]
