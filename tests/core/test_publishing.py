import pytest

from lazyfs.core.blob import BlobRef
from lazyfs.core.publication import Publication, Published
from lazyfs.core.publishing import Step, left_out, plan

SHA = "0" * 64
LOCAL = BlobRef("a", "file:///a", "v", 5, modified_ns=7)
HELD = BlobRef("a", "s3://x/a", "etag:x", 5)
CLAIM = Published("a", 5, SHA, "x", 7)


def step(known=(), held=(HELD,), same=True):
    (task,) = plan([LOCAL], Publication(tuple(known)), {blob.name: blob for blob in held}, {"a": same})
    return task.step, task.published


def test_what_was_published_of_both_sides_as_they_are_is_kept():
    assert (Step.KEEP, CLAIM) == step([CLAIM])


def test_what_is_not_there_is_sent():
    assert (Step.SEND, None) == step([CLAIM], held=())


def test_what_has_another_size_there_is_sent():
    assert (Step.SEND, None) == step([CLAIM], held=[BlobRef("a", "s3://x/a", "etag:x", 6)])


def test_a_local_file_of_another_time_is_compared_with_what_was_published():
    older = Published("a", 5, SHA, "x", 6)

    assert (Step.COMPARE, older) == step([older])


@pytest.mark.parametrize(
    ("known", "same"), [([], True), ([CLAIM], False), ([Published("a", 5, None, "x", 7)], True)]
)
def test_without_a_digest_of_what_is_there_the_destination_is_asked(known, same):
    assert (Step.COMPARE, None) == step(known, same=same)


def test_the_order_of_files_stays():
    files = [BlobRef(name, f"file:///{name}", "v", 1) for name in ("b", "a")]

    assert ["b", "a"] == [task.file.name for task in plan(files, Publication(()), {}, {})]


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("model.safetensors", False),
        ("sub/config.json", False),
        ("a.b", False),
        (".gitattributes", True),
        (".cache/huggingface/x.lock", True),
        ("sub/.git/config", True),
        ("model.safetensors.incomplete", True),
    ],
)
def test_what_is_no_part_of_a_model(name, out):
    assert out is left_out(name)
