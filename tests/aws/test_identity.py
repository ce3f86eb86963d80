"""Every way to credentials that the chain of AWS knows, against servers that give them out and check them."""

import json
import sys
import time
from contextlib import suppress

import pytest
from botocore.credentials import AssumeRoleProvider

from lazyfs.errors import (
    AccessDenied,
    ClockSkewed,
    CredentialsExpired,
    CredentialsInvalid,
    LazyfsError,
    SourceThrottled,
    SourceUnavailable,
)
from lazyfs.sources import Access, open_source
from tests.aws.asked import Answer
from tests.aws.configuration import SSO_SESSION, START_URL
from tests.aws.issuing import ROLE
from tests.aws.reading import read
from tests.aws.signing import Refused
from tests.aws.storage import BUCKET

CONTENT = b"weights" * 1000
ADDRESS = f"s3://{BUCKET}/llama"


@pytest.fixture(autouse=True)
def objects(storage):
    storage.objects = {"llama/a": CONTENT, "llama/b": b"b"}


def names_and_bytes(access=None):
    """List, and read the first file."""
    source = open_source(ADDRESS, access or Access())
    try:
        blobs = list(source.list())
        return [blob.name for blob in blobs], read(source, blobs[0])
    finally:
        source.close()


def refused(access=None):
    with pytest.raises(LazyfsError) as raised:
        names_and_bytes(access)
    assert raised.value.cure
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.usefixtures("web_identity")
def test_a_web_identity_reads(issuer):
    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["AssumeRoleWithWebIdentity"] == issuer.issued


def test_a_profile_assumes_a_role_with_the_keys_of_another(configuration, issuer):
    configuration.assume_role()

    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["AssumeRole"] == issuer.issued


def test_a_profile_assumes_a_role_with_the_keys_of_the_environment(configuration, issuer, signed):
    configuration.write(f"role_arn = {ROLE}", "credential_source = Environment")
    signed.setenv("AWS_PROFILE", "model")
    key = issuer.keys.issue()
    # Keys in the environment win over the profile, but for those it names as its source.
    signed.setenv("AWS_ACCESS_KEY_ID", key.access)
    signed.setenv("AWS_SECRET_ACCESS_KEY", key.secret)

    assert (["a", "b"], CONTENT) == names_and_bytes()


def test_a_profile_assumes_a_role_with_a_web_identity(configuration, issuer, tmp_path):
    (tmp_path / "token").write_text("token-of-a-pod")
    configuration.write(f"role_arn = {ROLE}", f"web_identity_token_file = {tmp_path}/token")

    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["AssumeRoleWithWebIdentity"] == issuer.issued


@pytest.mark.parametrize("session", [True, False], ids=["sso_session", "legacy"])
def test_an_sso_token_is_taken_from_its_cache(configuration, issuer, session):
    if session:
        configuration.sso()
        configuration.sign_in(SSO_SESSION)
    else:
        configuration.sso_of_old()
        configuration.sign_in(START_URL)

    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["SSO"] == issuer.issued


def test_an_sso_token_that_has_expired_is_renewed_where_it_can_be(configuration, issuer):
    configuration.sso()
    configuration.sign_in(SSO_SESSION, expires="2026-01-01T00:00:00Z", token="old")

    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["CreateToken", "SSO"] == issuer.issued


def test_a_container_gives_out_credentials(environment, issuer, tmp_path):
    (tmp_path / "token").write_text("token-of-a-pod")
    environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{issuer.url}/container")
    environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))

    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["container"] == issuer.issued


def test_a_machine_gives_out_credentials(environment, issuer):
    environment.delenv("AWS_EC2_METADATA_DISABLED")
    environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", issuer.url)

    assert (["a", "b"], CONTENT) == names_and_bytes()
    assert ["machine"] == issuer.issued


def test_a_program_gives_out_credentials(configuration, issuer):
    key = issuer.keys.issue(3600)
    said = {
        "Version": 1, "AccessKeyId": key.access, "SecretAccessKey": key.secret, "SessionToken": key.token,
        "Expiration": key.expires,
    }  # fmt: skip
    script = configuration.home / "give.py"
    script.write_text(f"print({json.dumps(json.dumps(said))})")
    configuration.write(f"credential_process = {sys.executable} {script}")

    assert (["a", "b"], CONTENT) == names_and_bytes()


@pytest.mark.usefixtures("web_identity")
def test_the_endpoint_of_s3_that_a_mount_names_is_not_that_of_sts(environment, issuer, storage):
    environment.delenv("AWS_ENDPOINT_URL_S3")

    assert (["a", "b"], CONTENT) == names_and_bytes(Access(storage.url))
    assert ["AssumeRoleWithWebIdentity"] == issuer.issued


def test_the_endpoint_of_sts_can_come_from_the_services_of_a_profile(configuration, environment, issuer):
    environment.delenv("AWS_ENDPOINT_URL_STS")
    configuration.assume_role(
        "services = ours", more=f"[services ours]\nsts =\n  endpoint_url = {issuer.url}\n"
    )

    assert (["a", "b"], CONTENT) == names_and_bytes()


@pytest.mark.usefixtures("web_identity")
def test_credentials_are_asked_for_once_for_all_that_is_read_while_they_last(issuer):
    source = open_source(ADDRESS, Access())
    for blob in source.list():
        read(source, blob)
    source.close()

    assert ["AssumeRoleWithWebIdentity"] == issuer.issued


@pytest.mark.usefixtures("web_identity")
def test_a_location_ends_with_the_credentials_it_was_signed_with(issuer):
    issuer.life_s = 1800
    source = open_source(ADDRESS, Access())
    blob = next(source.list())
    life_s = source.locate(blob).expires_at_s - time.time()
    source.close()

    assert 1700 < life_s <= 1800


# -- refused: what is wrong, and where to mend it -----------------------------------------------------


def test_a_token_file_that_is_not_there_is_named(web_identity):
    web_identity.unlink()
    error = refused()

    assert isinstance(error, CredentialsInvalid)
    assert f"{web_identity} cannot be read: No such file" in error.cause
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in error.cure


def test_a_token_that_sts_does_not_know(web_identity):
    web_identity.write_text("another")
    error = refused()

    assert isinstance(error, CredentialsInvalid)
    assert "AssumeRoleWithWebIdentity was refused (InvalidIdentityToken" in error.cause
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in error.cure


def test_a_token_file_without_a_token(web_identity):
    web_identity.write_text("")

    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in refused().cure


@pytest.mark.usefixtures("web_identity")
def test_a_role_that_may_not_be_assumed(environment):
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/other")
    error = refused()

    assert AccessDenied is type(error)
    assert "Not authorized to perform sts:AssumeRoleWithWebIdentity" in error.cause
    assert "trust policy" in error.cure


@pytest.mark.usefixtures("web_identity")
def test_a_web_identity_without_a_role(environment):
    environment.delenv("AWS_ROLE_ARN")

    assert "AWS_ROLE_ARN" in refused().cause


@pytest.mark.usefixtures("web_identity")
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Refused(400, "ExpiredTokenException"), CredentialsExpired, "renew the token"),
        (Refused(400, "Throttling"), SourceThrottled, "later"),
        (Refused(400, "IDPCommunicationError"), SourceUnavailable, "later"),
        (Refused(500, "InternalFailure"), SourceUnavailable, "later"),
        (Refused(403, "RequestTimeTooSkewed"), ClockSkewed, "clock"),
        (Refused(403, "RegionDisabledException"), AccessDenied, "check AWS_ROLE_ARN"),
    ],
)
def test_what_sts_answers(issuer, answer, kind, words):
    issuer.refused = answer
    error = refused()

    assert kind is type(error)
    assert words in error.cure
    assert answer.code in error.cause


@pytest.mark.usefixtures("web_identity")
def test_an_sts_that_nobody_runs_is_named(environment, issuer):
    environment.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    error = refused()

    assert isinstance(error, SourceUnavailable)
    assert "127.0.0.1:9, which gives them out, does not answer" in error.cause
    assert "AWS_ENDPOINT_URL_STS" in error.cure


@pytest.mark.usefixtures("web_identity")
def test_an_endpoint_for_all_services_is_asked_for_credentials_too_and_named(environment, storage):
    environment.delenv("AWS_ENDPOINT_URL_STS")
    environment.setenv("AWS_ENDPOINT_URL", storage.url)
    error = refused()

    assert isinstance(error, AccessDenied)
    assert "AssumeRoleWithWebIdentity was refused" in error.cause


def test_a_source_profile_that_is_not_there(configuration):
    configuration.assume_role(source="nobody")
    error = refused()

    assert AccessDenied is type(error)
    assert "nobody" in error.cause
    assert "AWS_PROFILE" in error.cure


def test_a_role_that_is_assumed_with_a_key_nobody_knows(configuration, issuer):
    configuration.assume_role()
    issuer.keys.known.clear()
    error = refused()

    assert isinstance(error, CredentialsInvalid)
    assert "AssumeRole was refused (InvalidAccessKeyId" in error.cause


def test_an_mfa_code_cannot_be_typed_in(configuration, monkeypatch):
    configuration.assume_role("mfa_serial = arn:mfa")

    def nobody(_prompt):
        raise EOFError

    # What asks is the default of an argument. The real one would ask whoever runs the tests in a terminal.
    monkeypatch.setattr(AssumeRoleProvider.__init__, "__defaults__", (nobody, None, None))
    error = refused()

    assert AccessDenied is type(error)
    assert "MFA code" in error.cause


def test_nobody_has_signed_in(configuration):
    configuration.sso()
    error = refused()

    assert isinstance(error, CredentialsInvalid)
    assert "aws sso login" in error.cure


def test_an_sso_token_that_has_expired(configuration):
    configuration.sso_of_old()
    configuration.sign_in(START_URL, expires="2026-01-01T00:00:00Z")
    error = refused()

    assert isinstance(error, CredentialsExpired)
    assert "aws sso login" in error.cure


def test_an_sso_token_that_was_taken_back(configuration, issuer):
    configuration.sso_of_old()
    configuration.sign_in(START_URL)
    issuer.tokens.clear()

    assert "aws sso login" in refused().cure


def test_an_sso_role_that_nobody_gave(configuration):
    configuration.sso_of_old(role="admin")
    configuration.sign_in(START_URL)
    error = refused()

    assert AccessDenied is type(error)
    assert "sso_role_name" in error.cure


def test_a_container_that_answers_something_else(environment, issuer):
    environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{issuer.url}/odd")
    issuer.odd = Answer(200, b'{"AccessKeyId": "x"}')
    error = refused()

    assert isinstance(error, AccessDenied)
    assert "in another form" in error.cause


def test_a_profile_that_does_not_exist_is_named(configuration, environment):
    configuration.write()
    environment.setenv("AWS_PROFILE", "other")

    assert "other" in refused().cause


@pytest.mark.usefixtures("web_identity")
def test_a_gate_is_in_the_way_to_sts_too(monkeypatch, storage):
    from lazyfs.core.allowance import Allowance
    from lazyfs.transport import gate

    gate.allow(Allowance())
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://169.254.169.254")
        error = refused()
    finally:
        gate.allow(Allowance())

    assert "link-local" in error.cause


@pytest.mark.parametrize("trouble", ["refused", "odd", "away"])
def test_keys_that_cannot_be_had_for_a_while_are_asked_for_again(web_identity, storage, issuer, trouble):
    storage.objects = {"llama/a": b"a", "llama/b": b"b"}
    source = open_source(f"s3://{BUCKET}/llama", Access())
    first, second = source.list()
    assert b"a" == read(source, first)
    storage.keys.known.clear()
    before = getattr(issuer, trouble)
    answers = {"refused": Refused(403, "AccessDenied"), "odd": Answer(403, b"<html>"), "away": 1000}
    setattr(issuer, trouble, answers[trouble])
    for blob in (first, second, first, second):
        with pytest.raises(LazyfsError):
            read(source, blob)
    setattr(issuer, trouble, before)

    for blob in (second, first):
        with suppress(LazyfsError):  # the one that shows that the location is refused
            read(source, blob)
        assert blob.name.encode() == read(source, blob)
    source.close()


def test_who_is_asked_for_credentials_and_is_no_sts_is_told_with_the_way_out(web_identity, issuer):
    issuer.odd = Answer(405, b"<html>not allowed</html>")
    error = refused()

    assert "does not answer as AWS does" in error.cause
    assert "AWS_ENDPOINT_URL_S3" in error.cure
