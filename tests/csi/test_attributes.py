import pytest

from lazyfs.errors import UsageError
from lazyfs.sources.hub_answers import LOG_IN
from lazyfs_csi.attributes import filled_in, for_volumes, volume_of

POD = {"csi.storage.k8s.io/pod.name": "vllm-0", "csi.storage.k8s.io/ephemeral": "true"}


def refused(context):
    with pytest.raises(UsageError) as caught:
        volume_of(context)
    return str(caught.value)


@pytest.mark.parametrize(
    ("context", "sources"),
    [
        ({"source": "s3://bucket/llama"}, ("s3://bucket/llama",)),
        ({"source": "S3://bucket/llama/"}, ("s3://bucket/llama",)),
        ({"source": "hf://org/model", "revision": "v1"}, ("hf://org/model@v1",)),
        ({"source": "hf://org/model/sub", "revision": "a/b"}, ("hf://org/model@a%2Fb/sub",)),
        (
            {"source": "hf://datasets/org/data", "revision": "refs/pr/3"},
            ("hf://datasets/org/data@refs/pr/3",),
        ),
        ({"source": "file:///models/llama"}, ("file:///models/llama",)),
        ({"sourceType": "repo", "sourceId": "org/model", "revision": "main"}, ("hf://org/model@main",)),
        ({"sourceType": "dataset", "sourceId": "org/data"}, ("hf://datasets/org/data",)),
        ({"bucketName": "b", "prefix": "models/x/"}, ("s3://b/models/x",)),
        ({"bucketName": "b"}, ("s3://b",)),
        (
            {"source": "hf://a/b s3://c/d org/x=s3://e/f", "layout": "hf-cache"},
            ("hf://a/b", "s3://c/d", "org/x=s3://e/f"),
        ),
    ],
)
def test_a_source_can_be_written_in_many_ways(context, sources):
    assert sources == volume_of(context | POD).sources


@pytest.mark.parametrize(
    "name",
    [
        "storage.kubernetes.io/csiProvisionerIdentity",
        "csi.storage.k8s.io/serviceAccount.tokens",
        "volume.beta.kubernetes.io/storage-provisioner",
        "topology.kubernetes.io/zone",
        "kubernetes.io/created-by",
        "k8s.io/anything",
        "some.thing.new.k8s.io/x",
    ],
)
def test_names_that_belong_to_kubernetes_are_passed_over(name):
    assert volume_of({"source": "s3://b"}) == volume_of({"source": "s3://b", name: "anything \x00"})


@pytest.mark.parametrize(
    "name",
    [
        "evilkubernetes.io/x",
        "kubernetes.io.example.com/x",
        "storage.kubernetes.io",
        "k8s.io",
        "notk8s.io/source",
        "kubernetes.ioo/x",
        "example.com/kubernetes.io/x",
        "Storage.Kubernetes.IO/x",
        "storage.kubernetes.io csiProvisionerIdentity",
        "/k8s.io",
    ],
)
def test_a_name_that_only_looks_like_one_of_kubernetes_is_refused(name):
    assert refused({"source": "s3://b", name: "x"}).startswith(
        f"there is no attribute {name}; the attributes are"
    )


def test_what_is_done_anyway_may_be_asked_for():
    assert volume_of({"source": "s3://b", "verify": "true"}) == volume_of({"source": "s3://b"})


def test_options_are_those_of_a_mount():
    context = {
        "source": "s3://b/m", "policy": "file", "include": "*.json *.safetensors", "cacheSize": "10GB",
        "anonymous": "true", "region": "eu-central-1", "exclude": "",
    }  # fmt: skip

    volume = volume_of(context | POD)

    assert {
        "policy": "file", "include": ["*.json", "*.safetensors"], "cache_size": "10GB", "anonymous": True,
    } == volume.options  # fmt: skip
    assert {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"} == volume.environment


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (
            {"source": "s3://b", "polcy": "file"},
            "there is no attribute polcy; the attributes are addressingStyle",
        ),
        (
            {"source": "s3://b", "policy": "all"},
            "attribute policy: there is no attribute policy all; choose one",
        ),
        (
            {"source": "s3://b", "cacheSize": "much"},
            "attribute cacheSize: 'much' is not a size; write it like",
        ),
        (
            {"source": "s3://b", "anonymous": "perhaps"},
            "attribute anonymous: 'perhaps' is neither true nor false",
        ),
        (
            {"source": "s3://b", "verify": "false"},
            "attribute verify: files that have a publisher's digest are always verified",
        ),
        ({}, "no attribute says what to mount; give source"),
        ({"source": "bucket/model"}, "'bucket/model' is not a source; write it like s3://"),
        ({"source": "s3://b", "bucketName": "c"}, "attributes source and bucketName both say what to mount"),
        ({"source": "s3://b", "revision": "v1"}, "attribute revision is for hf:// sources"),
        ({"source": "hf://o/m@v2", "revision": "v1"}, "names a revision, and attribute revision too"),
        ({"sourceType": "bucket", "sourceId": "x"}, "attribute sourceType: bucket is not served"),
        ({"source": "s3://a s3://b"}, "2 sources for one mount"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(context, message):
    assert refused(context | POD).startswith(message) or message in refused(context | POD)


def test_a_class_fills_in_what_the_claim_is_called():
    parameters = {
        "source": "s3://models/${pvc.namespace}/${pvc.name}",
        "csi.storage.k8s.io/pvc/name": "llama",
        "csi.storage.k8s.io/pvc/namespace": "team-a",
        "csi.storage.k8s.io/pv/name": "pvc-1",
    }

    assert {"source": "s3://models/team-a/llama"} == filled_in(parameters)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "s3://b/${pvc.name}",
            "nobody says what ${pvc.name} is; start csi-provisioner with --extra-create-metadata",
        ),
        ("s3://b/${pod.name}", "there is no ${pod.name}; there are pvc.name, pvc.namespace, pv.name"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(source, message):
    with pytest.raises(UsageError) as caught:
        filled_in({"source": source})
    assert message == str(caught.value)


def test_messages_name_attributes_where_the_command_has_options():
    assert "check its name and attribute endpointUrl" == for_volumes("check its name and --endpoint-url")
    assert "see --cache-dir" == for_volumes("see --cache-dir")


def test_messages_name_the_secret_where_the_command_has_variables():
    """What `hf auth login` writes, and a variable of whose process, no user of a pod could say."""
    place = "in the volume's secret (nodePublishSecretRef)"
    page = "https://huggingface.co/settings/tokens"
    assert f"then set HF_TOKEN {place}" == for_volumes(f"then {LOG_IN}")
    assert f"set HF_TOKEN to one of {page} {place}" == for_volumes(
        f"set HF_TOKEN to one of {page}, or run `hf auth login`"
    )
    web = "LAZYFS_HTTP_TOKEN, or LAZYFS_HTTP_USER and LAZYFS_HTTP_PASSWORD"
    assert f"set {web} {place}" == for_volumes(f"set {web}, or put the host into ~/.netrc")
    assert "the name, and whose token HF_TOKEN is" == for_volumes("the name, and whose token HF_TOKEN is")
