"""nginx as an S3-like server whose link has a shape: so long to the first byte, so fast per connection.

It answers what S3 clients ask of a read-only bucket: ListObjects (1 and 2), HEAD, ranged GET, If-Match.
Signatures are not checked, so that what is measured is reading.
"""

import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.network import Namespace
from lazyfs.demo.seaweed import free_ports
from lazyfs.errors import LazyfsError

BUCKET = "models"
SENDFILE_CHUNK = "256k"
"""nginx waits between pieces of this size, so it is the grain of the shaping."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A link: seconds to the first byte, MB/s of one connection and of all (None: as fast as it goes)."""

    name: str
    about: str
    first_byte_s: float = 0.0
    per_connection_mb: int | None = None
    total_mb: int | None = None


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("unshaped", "as fast as this machine goes"),
        Profile("s3", "20 ms to the first byte, 90 MB/s per connection", 0.020, 90),
        Profile("wan", "50 ms to the first byte, 25 MB/s per connection", 0.050, 25),
        Profile("slow", "20 ms to the first byte, 100 MB/s for all together", 0.020, None, 100),
    )
}

_CONFIG = """
load_module modules/ndk_http_module.so;
load_module modules/ngx_http_lua_module.so;
user root;
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    default_type application/octet-stream;
    log_format bytes '$request_method $status $body_bytes_sent $http_range $uri';
    access_log {directory}/access.log bytes buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    sendfile_max_chunk {chunk};
    keepalive_requests 1000000;
    client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2; fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;
    init_by_lua_block {{
        keys = {{
{keys}
        }}
    }}
    server {{
        listen {address}:{port};
        root {root};
        {rate}
        location = / {{ content_by_lua_block {{ ngx.say("<ListAllMyBucketsResult/>") }} }}
        location ~ ^/{bucket}/?$ {{
            access_by_lua_block {{ {delay} }}
            content_by_lua_block {{
                ngx.header["Content-Type"] = "application/xml"
                if ngx.req.get_method() == "HEAD" then return end
                local args = ngx.req.get_uri_args()
                if args.location then
                    ngx.say('<LocationConstraint/>')
                    return
                end
                local prefix, delimiter = args.prefix or "", args.delimiter or ""
                if prefix == true then prefix = "" end
                local out, common, count = {{}}, {{}}, 0
                for _, entry in ipairs(keys) do
                    if entry.key:sub(1, #prefix) == prefix then
                        local cut = delimiter ~= "" and entry.key:find(delimiter, #prefix + 1, true)
                        count = count + 1
                        if cut then
                            common[entry.key:sub(1, cut)] = true
                        else
                            out[#out + 1] = "<Contents><Key>" .. entry.key .. "</Key><LastModified>" ..
                                entry.modified .. "</LastModified><ETag>&quot;" .. entry.etag ..
                                "&quot;</ETag><Size>" .. entry.size ..
                                "</Size><StorageClass>STANDARD</StorageClass></Contents>"
                        end
                    end
                end
                for name in pairs(common) do
                    out[#out + 1] = "<CommonPrefixes><Prefix>" .. name .. "</Prefix></CommonPrefixes>"
                end
                ngx.say('<?xml version="1.0" encoding="UTF-8"?><ListBucketResult ' ..
                    'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name><Prefix>' .. prefix
                    .. "</Prefix><KeyCount>" .. count .. "</KeyCount><MaxKeys>1000</MaxKeys>" ..
                    "<IsTruncated>false</IsTruncated>" .. table.concat(out) .. "</ListBucketResult>")
            }}
        }}
        location ~ /$ {{ return 404; }}
        location / {{
            access_by_lua_block {{ {delay} }}
            # a directory is no key, and must not be redirected to
            try_files $uri =404;
        }}
    }}
}}
"""


class ShapedServer:
    """Serves `root/models/...` as the bucket `models` for the length of a `with` block."""

    def __init__(self, root: Path, profile: Profile, directory: Path) -> None:
        self._root = root
        self._profile = profile
        self._directory = directory
        self._closing = ExitStack()
        self._address = "127.0.0.1"
        (self._nginx_port,) = free_ports(1)
        self.port = self._nginx_port
        self.link = "none"
        """What shares the rate among all connections: a namespace of the kernel, a relay, or none."""

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint."""
        return f"http://{self._address}:{self.port}"

    def __enter__(self) -> Self:
        """Start nginx, behind its link, and wait until it answers."""
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if program is None:
            raise LazyfsError("nginx is not installed", "apt-get install nginx-light libnginx-mod-http-lua")
        shutil.rmtree(self._directory, ignore_errors=True)  # the log counts this server's bytes only
        self._directory.mkdir(parents=True)
        with self._closing:
            prefix = self._namespace()
            config = self._directory / "nginx.conf"
            config.write_text(self._config())
            self._start([*prefix, program, "-c", str(config)])
            self._wait()
            if self._profile.total_mb is not None and not prefix:
                self._start_relay(self._profile.total_mb)
            self._closing = self._closing.pop_all()
        return self

    def _namespace(self) -> list[str]:
        """Make a shared link if the profile asks for one; return what a command behind it begins with."""
        if self._profile.total_mb is None:
            return []
        try:
            namespace = self._closing.enter_context(Namespace(self._profile.total_mb))
        except OSError as error:
            sys.stderr.write(f"no link by the kernel, a relay instead: {error}\n")
            return []
        self.link, self._address = "namespace", namespace.address
        return namespace.prefix()

    def _start(self, command: list[str], stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.DEVNULL, start_new_session=True
        )

        def end() -> None:
            process.terminate()
            process.wait()

        self._closing.callback(end)
        return process

    def _wait(self) -> None:
        """Wait until nginx answers."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline_s = time.monotonic() + 10
        while True:
            try:
                with direct.open(self.endpoint_url, timeout=1):
                    return
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)

    def _start_relay(self, rate_mb: int) -> None:
        """Put a process in front that all connections share."""
        command = [sys.executable, "-m", "lazyfs.demo.link", str(self._nginx_port), str(rate_mb * 1e6)]
        relay = self._start(command, subprocess.PIPE)
        assert relay.stdout is not None
        self.port, self.link = int(relay.stdout.readline()), "relay"

    def _config(self) -> str:
        entries = []
        for file in sorted((self._root / BUCKET).rglob("*")):
            if file.is_file():
                state = file.stat()
                modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(state.st_mtime))
                # nginx's own ETag: time and size in hexadecimal
                etag = f"{int(state.st_mtime):x}-{state.st_size:x}"
                key = file.relative_to(self._root / BUCKET)
                entries.append(
                    f'{{key="{key}", size={state.st_size}, etag="{etag}", modified="{modified}"}},'
                )
        profile = self._profile
        rate = profile.per_connection_mb
        return _CONFIG.format(
            directory=self._directory,
            root=self._root,
            bucket=BUCKET,
            address=self._address,
            port=self._nginx_port,
            chunk=SENDFILE_CHUNK if rate else "0",
            keys="\n".join(entries),
            rate=f"limit_rate {rate * 1_000_000};" if rate else "",
            delay=f"ngx.sleep({profile.first_byte_s})" if profile.first_byte_s else "",
        )

    def sent_bytes(self) -> int:
        """Return the bytes of objects sent so far, from the access log (which is a second behind)."""
        time.sleep(1.2)
        total = 0
        for line in (self._directory / "access.log").read_text().splitlines():
            method, _, sent, *_ = line.split(" ")
            total += int(sent) if method == "GET" else 0
        return total

    def __exit__(self, *_: object) -> None:
        """Stop nginx, and the link."""
        self._closing.close()
