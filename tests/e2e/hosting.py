"""A bucket served by the fault server: just enough S3 to be mounted, and GETs that misbehave when told to."""

import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

from tests.faults.server import Asked, Behaviour, FaultServer

BUCKET = "faulty"
Behave = Callable[[Asked], Behaviour | None]


class FaultyBucket:
    """Files by name in a bucket; `behave` says how a ranged GET departs from the right one."""

    def __init__(self, files: dict[str, bytes], port: int = 0) -> None:
        self.server = FaultServer(port=port)
        self.server.files = {f"/{BUCKET}/{name}": content for name, content in files.items()}
        self.server.etag = '"0123456789abcdef0123456789abcdef"'
        self.server.behave = self._behave
        self.behave: Behave = lambda _asked: None
        self.address = f"s3://{BUCKET}"
        self.endpoint_url = f"http://127.0.0.1:{self.server.port}"
        self.gets: list[tuple[float, Asked]] = []
        """Ranged GETs, and when they came."""

    def _behave(self, asked: Asked) -> Behaviour:
        url = urlsplit(asked.path)
        if asked.span is None and "list-type" in parse_qs(url.query):
            return Behaviour(body=self._listing().encode(), headers={"Content-Type": "application/xml"})
        self.gets.append((time.monotonic(), asked))
        return self.behave(asked) or Behaviour()

    def _listing(self) -> str:
        entries = "".join(
            f"<Contents><Key>{unquote(path).removeprefix(f'/{BUCKET}/')}</Key><Size>{len(content)}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{self.server.etag}</ETag></Contents>"
            for path, content in sorted(self.server.files.items())
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix></Prefix><KeyCount>{len(self.server.files)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        )

    def close(self) -> None:
        self.server.close()
