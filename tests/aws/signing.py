"""Keys, and whether a request is signed with one of them (Signature Version 4)."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from tests.aws.asked import Request

SKEW_MAX_S = 900


@dataclass(frozen=True)
class Key:
    access: str
    secret: str
    token: str = ""
    expires_at_s: float | None = None

    @property
    def expires(self) -> str:
        return datetime.fromtimestamp(self.expires_at_s or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Refused:
    """What is wrong with a request."""

    status: int
    code: str
    message: str = "said so"
    region: str = ""


class Keys:
    """The keys there are. `ahead_s`: how far its servers' clocks are ahead of this machine's."""

    def __init__(self) -> None:
        self.known: dict[str, Key] = {}
        self.ahead_s = 0.0
        self.count = 0

    def issue(self, life_s: float | None = None) -> Key:
        """Make a key; one with a life comes with a token. Its end is a whole second, as AWS writes it."""
        self.count += 1
        token, end = ("", None) if life_s is None else (secrets.token_hex(8), int(time.time() + life_s))
        key = Key(f"AKIA{self.count:04d}{secrets.token_hex(4).upper()}", secrets.token_hex(16), token, end)
        self.known[key.access] = key
        return key

    def refuse(  # noqa: PLR0911 - one for each thing that can be wrong
        self, request: Request, region: str, service: str = "s3"
    ) -> Refused | None:
        """Return what is wrong with the signature of a request; None when it is right."""
        try:
            signature = _Signature(request)
        except (KeyError, ValueError, IndexError):
            return Refused(403, "AccessDenied", "Access Denied")
        key = self.known.get(signature.access)
        if key is None:
            return Refused(403, "InvalidAccessKeyId")
        now_s = time.time() + self.ahead_s
        if signature.life_s is None and abs(now_s - signature.at_s) > SKEW_MAX_S:
            return Refused(403, "RequestTimeTooSkewed")
        if signature.life_s is not None and now_s > signature.at_s + signature.life_s:
            return Refused(403, "AccessDenied", "Request has expired")
        if signature.region != region and service == "s3":
            code = (
                "AuthorizationHeaderMalformed"
                if signature.life_s is None
                else "AuthorizationQueryParametersError"
            )
            return Refused(
                400, code, f"the region '{signature.region}' is wrong; expecting '{region}'", region
            )
        if key.expires_at_s is not None and now_s >= key.expires_at_s:
            return Refused(400, "ExpiredToken")
        if signature.token != key.token:
            return Refused(400, "InvalidToken")
        if not hmac.compare_digest(signature.made_with(key.secret, service), signature.signature):
            return Refused(403, "SignatureDoesNotMatch")
        return None


class _Signature:
    """The parts of a signature, wherever a request has them."""

    def __init__(self, request: Request) -> None:
        self._request, headers, query = request, request.headers, request.query
        if "X-Amz-Signature" in query:
            said = {name.removeprefix("X-Amz-"): value for name, value in query.items()}
            self.life_s: int | None = int(said["Expires"])
            self.token, self._hash = said.get("Security-Token", ""), "UNSIGNED-PAYLOAD"
        else:
            fields = headers["authorization"].partition(" ")[2].split(",")
            said = dict(field.strip().split("=", 1) for field in fields) | {"Date": headers["x-amz-date"]}
            self.life_s = None
            self.token = headers.get("x-amz-security-token", "")
            self._hash = headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
        self.access, self._day, self.region, _, _ = said["Credential"].split("/")
        self._date, self._names, self.signature = said["Date"], said["SignedHeaders"], said["Signature"]
        self.at_s = datetime.strptime(f"{self._date}+0000", "%Y%m%dT%H%M%SZ%z").timestamp()

    def made_with(self, secret: str, service: str) -> str:
        request = self._request
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(pairs) if name != "X-Amz-Signature"
        )  # fmt: skip
        signed = "".join(f"{name}:{request.headers[name].strip()}\n" for name in self._names.split(";"))
        parts = (request.method, request.url.path, query, signed, self._names, self._hash)
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        scope = f"{self._day}/{self.region}/{service}/aws4_request"
        made = f"AWS4{secret}".encode()
        for part in (self._day, self.region, service, "aws4_request"):
            made = hmac.digest(made, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{self._date}\n{scope}\n{digest}"
        return hmac.digest(made, text.encode(), "sha256").hex()
