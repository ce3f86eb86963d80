"""`~/.aws` of whoever runs a test, with a profile `model`."""

import hashlib
import json
from pathlib import Path

from tests.aws.issuing import ACCOUNT, ROLE, ROLE_NAME
from tests.aws.signing import Keys

SSO_SESSION, START_URL = "corporate", "https://corporate.example/start"
_REGION = "region = us-east-1\n"
_SSO = f"sso_account_id = {ACCOUNT}\nsso_role_name = {ROLE_NAME}\n"


class Configuration:
    """Writes the files that the AWS command would."""

    def __init__(self, home: Path, keys: Keys) -> None:
        self.home = home
        self._directory = home / ".aws"
        self._keys = keys
        self._directory.mkdir()

    def write(self, *lines: str, more: str = "") -> None:
        """Write the lines of the profile, and what is to stand after it."""
        (self._directory / "config").write_text("\n".join(("[profile model]", *lines, _REGION, more)))

    def assume_role(self, *lines: str, source: str = "source", more: str = "") -> None:
        """Have the profile assume the role with the key of another."""
        key = self._keys.issue()
        keys = f"aws_access_key_id = {key.access}\naws_secret_access_key = {key.secret}\n"
        self.write(
            f"role_arn = {ROLE}", f"source_profile = {source}", *lines, more=f"[profile source]\n{keys}{more}"
        )

    def sso(self) -> None:
        """Have the profile use an SSO session."""
        session = f"[sso-session {SSO_SESSION}]\nsso_region = us-east-1\nsso_start_url = {START_URL}\n"
        self.write(
            f"sso_session = {SSO_SESSION}",
            _SSO,
            more=f"{session}sso_registration_scopes = sso:account:access",
        )

    def sso_of_old(self, role: str = ROLE_NAME) -> None:
        """Have the profile use SSO as it did before there were sessions, and name a role."""
        self.write(f"sso_start_url = {START_URL}", "sso_region = us-east-1", _SSO.replace(ROLE_NAME, role))

    def sign_in(
        self, name: str, expires: str = "2099-01-01T00:00:00Z", token: str = "token-of-a-pod"
    ) -> None:
        """Put a token where `aws sso login` does, for a session or a URL."""
        cache = self._directory / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        said = {
            "startUrl": START_URL, "region": "us-east-1", "accessToken": token, "expiresAt": expires,
            "clientId": "id", "clientSecret": "secret", "refreshToken": "token-of-a-pod",
            "registrationExpiresAt": "2099-01-01T00:00:00Z",
        }  # fmt: skip
        (cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(json.dumps(said))
