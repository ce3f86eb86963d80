import pytest

from lazyfs.errors import UsageError
from lazyfs_csi.attributes import volume_of
from lazyfs_csi.credentials import environment_of, identity_of, key_of

SALT = b"salt"
VOLUME = volume_of({"source": "s3://bucket/model"})
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret-one"}


def identity(environment, namespace="a"):
    return identity_of(environment, {"csi.storage.k8s.io/pod.namespace": namespace}, SALT)


def test_names_of_other_drivers_are_understood():
    assert KEYS == environment_of({"key_id": "AKIA1", "access_key": "secret-one\n"})
    assert {"HF_TOKEN": "hf_x"} == environment_of({"token": "hf_x", "unrelated": "y"})


def test_a_web_server_s_are_known_too():
    assert {"LAZYFS_HTTP_TOKEN": "t"} == environment_of({"LAZYFS_HTTP_TOKEN": "t", "other": "y"})


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_DATA_PATH", "HF_HOME", "HTTPS_PROXY", "https_proxy",
     "HTTP_PROXY", "ALL_PROXY", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"],
)  # fmt: skip
def test_no_variable_but_those_known_gets_to_a_worker(name):
    """With a proxy or a CA of one's own anybody is anybody's server, whatever the key of a block says."""
    assert KEYS == environment_of(KEYS | {name: "/evil"})


def test_a_secret_without_any_known_key_is_refused_without_its_values():
    with pytest.raises(UsageError) as caught:
        environment_of({"password": "hunter2"})
    assert "but password" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_token_the_kubelet_puts_among_the_secrets_is_no_key_nobody_knows():
    """CSIDriver, `serviceAccountTokenInSecrets` (Kubernetes 1.35)."""
    token = {"csi.storage.k8s.io/serviceAccount.tokens": '{"sts": {"token": "t"}}'}

    assert ({}, KEYS) == (environment_of(token), environment_of(token | KEYS))


def test_nobody_s_credentials_are_everybody_s():
    assert "" == identity({}, "a") == identity({}, "b")


def test_the_same_credentials_in_two_namespaces_are_two_identities():
    assert identity(KEYS, "a") != identity(KEYS, "b")


def test_a_wrong_secret_key_is_another_identity():
    assert identity(KEYS) != identity(KEYS | {"AWS_SECRET_ACCESS_KEY": "guess"})


@pytest.mark.parametrize(
    "context",
    [
        {"source": "s3://bucket/other"},
        {"source": "s3://bucket/model", "policy": "file"},
        {"source": "s3://bucket/model", "region": "eu-central-1"},
    ],
)
def test_what_differs_is_not_shared(context):
    assert key_of(VOLUME, "", SALT) != key_of(volume_of(context), "", SALT)


def test_what_is_written_differently_and_means_the_same_is_shared():
    other = volume_of({"bucketName": "bucket", "prefix": "/model/", "exclude": " "})

    assert key_of(VOLUME, "id", SALT) == key_of(other, "id", SALT)


def test_identities_and_nodes_do_not_share():
    assert 3 == len(
        {key_of(VOLUME, "one", SALT), key_of(VOLUME, "two", SALT), key_of(VOLUME, "one", b"other")}
    )
