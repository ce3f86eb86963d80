import os

import pytest
from botocore.credentials import SSOProvider
from botocore.tokens import SSOTokenProvider

from tests.aws.configuration import Configuration
from tests.aws.issuing import ROLE, Issuer
from tests.aws.signing import Keys
from tests.aws.storage import Storage


@pytest.fixture(scope="session")
def servers():
    """A storage and an issuer of keys, for the whole run."""
    found = Storage(), Issuer()
    yield found
    for server in found:
        server.close()


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def storage(servers, keys):
    storage, _ = servers
    storage.begin(keys)
    return storage


@pytest.fixture
def issuer(servers, keys):
    _, issuer = servers
    issuer.begin(keys)
    return issuer


@pytest.fixture
def environment(monkeypatch, tmp_path, storage):
    """An environment without anything of AWS but the endpoint of S3."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAZYFS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", storage.url)
    return monkeypatch


@pytest.fixture
def signed(environment, keys):
    """The environment with a key that does not expire."""
    key = keys.issue()
    environment.setenv("AWS_ACCESS_KEY_ID", key.access)
    environment.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    return environment


@pytest.fixture
def configuration(environment, tmp_path, issuer):
    for service in ("STS", "SSO", "SSO_OIDC"):
        environment.setenv(f"AWS_ENDPOINT_URL_{service}", issuer.url)
    environment.setenv("AWS_PROFILE", "model")
    # botocore looks where the home directory is when it is imported, and no more.
    for provider in (SSOProvider, SSOTokenProvider):
        environment.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path / ".aws" / "sso" / "cache"))
    return Configuration(tmp_path, issuer.keys)


@pytest.fixture
def web_identity(environment, tmp_path, issuer):
    """What EKS puts into a pod whose service account has a role; the file of the token."""
    file = tmp_path / "token"
    file.write_text("token-of-a-pod")
    environment.setenv("AWS_ENDPOINT_URL_STS", issuer.url)
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    environment.setenv("AWS_ROLE_ARN", ROLE)
    return file
