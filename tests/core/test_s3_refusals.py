import pytest

from lazyfs.core.s3_refusals import Passing, S3Refusal, parse


def document(**elements):
    return "<Error>" + "".join(f"<{name}>{text}</{name}>" for name, text in elements.items()) + "</Error>"


@pytest.mark.parametrize(
    ("code", "passing"),
    [
        ("SlowDown", Passing.THROTTLED),
        ("ThrottlingException", Passing.THROTTLED),
        ("KMS.ThrottlingException", Passing.THROTTLED),
        ("RequestTimeout", Passing.TROUBLE),
        ("InternalError", Passing.TROUBLE),
        ("KMS.KMSInternalException", Passing.TROUBLE),
        ("ExpiredToken", Passing.EXPIRED),
        ("TokenRefreshRequired", Passing.EXPIRED),
        ("RequestTimeTooSkewed", Passing.SKEWED),
        ("AccessDenied", None),
        ("InvalidAccessKeyId", None),
        ("SignatureDoesNotMatch", None),
        ("KMS.DisabledException", None),
        ("NoSuchKey", None),
    ],
)
def test_the_code_says_whether_a_refusal_passes(code, passing):
    assert passing is parse(document(Code=code, Message="Access Denied")).passing


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", "Request has expired"),
        ("AccessDenied", "Request is not yet valid"),
        ("SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier"),
    ],
)
def test_a_denial_for_the_date_of_a_signature_passes(code, message):
    assert Passing.SKEWED is S3Refusal(code, message).passing


@pytest.mark.parametrize("code", ["NoSuchKey", "SignatureDoesNotMatch"])
def test_the_words_about_dates_mean_nothing_with_another_code(code):
    assert S3Refusal(code, "Request has expired").passing is None


def test_a_document_names_code_message_and_region():
    said = document(Code="AuthorizationHeaderMalformed", Message="the region\n is wrong", Region="garage")

    assert S3Refusal("AuthorizationHeaderMalformed", "the region is wrong", "garage") == parse(said)


@pytest.mark.parametrize("region", ["", "a b", "-x", "x" * 64, "a.b", "eu/west", "é"])
def test_what_can_be_no_region_is_not_one(region):
    assert "" == parse(document(Code="AuthorizationHeaderMalformed", Region=region)).region


@pytest.mark.parametrize("text", ["", "<html></html>", "<Code></Code>", "<Code>not a code</Code>", "{}"])
def test_what_is_no_error_document_says_nothing(text):
    assert S3Refusal() == parse(text)


def test_the_first_element_of_a_name_counts():
    assert "SlowDown" == parse("<Code>SlowDown</Code><Code>AccessDenied</Code>").code
