"""Servers that give out AWS credentials: STS, SSO, SSO OIDC, a container's endpoint, a machine's (IMDSv2)."""

import json
from collections.abc import Callable
from html import escape

from tests.aws.asked import Answer, Request, Server
from tests.aws.signing import Key, Keys, Refused

ROLE = "arn:aws:iam::123456789012:role/reader"
ACCOUNT, ROLE_NAME = "123456789012", "reader"
_ROLES = "/latest/meta-data/iam/security-credentials/"
_TTL = "x-aws-ec2-metadata-token-ttl-seconds"
_STS = "https://sts.amazonaws.com/doc/2011-06-15/"


class Issuer(Server):
    """Gives out keys that live `life_s` seconds to those who show a token or a key that it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(Keys())

    def begin(self, keys: Keys) -> None:
        """Be as new: nobody was given anything."""
        self.requests.clear()
        self.keys = keys
        self.life_s = 3600.0
        self.tokens = {"token-of-a-pod"}
        """Web identities, and tokens of SSO and containers."""
        self.refused: Refused | None = None
        self.issued: list[str] = []
        """By which way each key was given out."""
        self.away = 0
        """So many requests will be answered with 503."""
        self.odd: Answer | None = None
        """What is answered to everything."""

    def answer(self, request: Request) -> Answer:
        if self.away:
            self.away -= 1
            return Answer(503)
        if self.odd is not None:
            return self.odd
        if self.refused is not None:
            return _refusal(self.refused)
        ways: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("POST", "/"): self._sts,
            ("GET", "/federation/credentials"): self._sso,
            ("POST", "/token"): self._oidc,
            ("GET", "/container"): self._container,
            ("PUT", "/latest/api/token"): lambda _request: Answer(200, b"imds", {_TTL: "60"}),
            ("GET", _ROLES): lambda _request: Answer(200, ROLE_NAME.encode()),
            ("GET", f"{_ROLES}{ROLE_NAME}"): self._machine,
        }  # fmt: skip
        way = ways.get((request.method, request.url.path))
        return Answer(404) if way is None else way(request)

    def _issue(self, way: str) -> Key:
        self.issued.append(way)
        return self.keys.issue(self.life_s)

    def _sts(self, request: Request) -> Answer:
        asked = request.form
        action = asked["Action"]
        if action == "AssumeRole":
            refused = self.keys.refuse(request, "", "sts")
            if refused is not None:
                return _refusal(refused)
        elif asked["WebIdentityToken"] not in self.tokens:
            return _refusal(Refused(400, "InvalidIdentityToken", "Couldn't retrieve verification key"))
        if asked["RoleArn"] != ROLE:
            return _refusal(Refused(403, "AccessDenied", f"Not authorized to perform sts:{action}"))
        key = self._issue(action)
        body = (
            f'<{action}Response xmlns="{_STS}"><{action}Result><Credentials>'
            f"<AccessKeyId>{key.access}</AccessKeyId><SecretAccessKey>{key.secret}</SecretAccessKey>"
            f"<SessionToken>{key.token}</SessionToken><Expiration>{key.expires}</Expiration></Credentials>"
            f"<AssumedRoleUser><AssumedRoleId>A:s</AssumedRoleId><Arn>{escape(ROLE)}/s</Arn></AssumedRoleUser>"
            f"</{action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
        )
        return Answer(200, body.encode(), {"Content-Type": "text/xml"})

    def _sso(self, request: Request) -> Answer:
        if request.headers.get("x-amz-sso_bearer_token") not in self.tokens:
            return _json({"message": "Session token not found or invalid"}, 401, "UnauthorizedException")
        if request.query != {"role_name": ROLE_NAME, "account_id": ACCOUNT}:
            return _json({"message": "No access"}, 403, "ForbiddenException")
        key = self._issue("SSO")
        said = {"accessKeyId": key.access, "secretAccessKey": key.secret, "sessionToken": key.token}
        return _json({"roleCredentials": said | {"expiration": int(key.expires_at_s or 0) * 1000}})

    def _oidc(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        if asked["refreshToken"] not in self.tokens:
            return _json({"error": "invalid_grant"}, 400, "InvalidGrantException")
        self.issued.append("CreateToken")
        return _json(
            {
                "accessToken": "token-of-a-pod",
                "expiresIn": 3600,
                "tokenType": "Bearer",
                "refreshToken": asked["refreshToken"],
            }
        )

    def _container(self, request: Request) -> Answer:
        if request.headers.get("authorization") not in self.tokens:
            return _json({"message": "no"}, 403)
        return _json(_of_metadata(self._issue("container")))

    def _machine(self, request: Request) -> Answer:
        if request.headers.get("x-aws-ec2-metadata-token") != "imds":
            return Answer(401)
        return _json(_of_metadata(self._issue("machine")) | {"Code": "Success"})


def _refusal(refused: Refused) -> Answer:
    said = f"<Type>Sender</Type><Code>{refused.code}</Code><Message>{refused.message}</Message>"
    body = f'<ErrorResponse xmlns="{_STS}"><Error>{said}</Error><RequestId>1</RequestId></ErrorResponse>'
    return Answer(refused.status, body.encode(), {"Content-Type": "text/xml"})


def _of_metadata(key: Key) -> dict[str, str]:
    return {
        "AccessKeyId": key.access,
        "SecretAccessKey": key.secret,
        "Token": key.token,
        "Expiration": key.expires,
    }


def _json(said: object, status: int = 200, kind: str = "") -> Answer:
    headers = {"Content-Type": "application/json"} | ({"x-amzn-ErrorType": kind} if kind else {})
    return Answer(status, json.dumps(said).encode(), headers)
