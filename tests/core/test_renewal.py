import pytest

from lazyfs.core.renewal import CREDENTIALS, renewed

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "one"}
PLACES = {"AWS_ENDPOINT_URL": "https://here", "AWS_REGION": "us-east-1"}


def test_credentials_are_taken_and_those_before_are_gone():
    found = renewed(KEYS | PLACES, {"HF_TOKEN": "hf_2"} | PLACES)

    assert PLACES | {"HF_TOKEN": "hf_2"} == found.environment
    assert () == found.ignored


@pytest.mark.parametrize(
    "name",
    ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_ENDPOINT",
     "HTTPS_PROXY", "http_proxy", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_PROFILE",
     "AWS_CONFIG_FILE", "SOMETHING_NEW"],
)  # fmt: skip
def test_whom_it_asks_is_not_taken_whether_it_is_changed_added_or_left_out(name):
    for before, wanted in (("here", "there"), (None, "there"), ("here", None)):
        there = {} if before is None else {name: before}
        said = {} if wanted is None else {name: wanted}

        found = renewed(KEYS | there, KEYS | said)

        assert (KEYS | there, (name,)) == (found.environment, found.ignored)


def test_no_credential_says_where_something_is():
    assert not [name for name in CREDENTIALS if "ENDPOINT" in name or "REGION" in name or "PROXY" in name]
