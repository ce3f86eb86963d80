"""Real web servers on loopback, in the foreground, with a configuration of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazyfs.demo.seaweed import free_ports

START_S = 20.0

NGINX = """
daemon off; master_process off; pid {state}/nginx.pid; error_log {state}/error.log;
user root;
events {{ worker_connections 256; }}
http {{
    access_log {state}/access.log;
    client_body_temp_path {state}/b; proxy_temp_path {state}/p; fastcgi_temp_path {state}/f;
    uwsgi_temp_path {state}/u; scgi_temp_path {state}/s;
    server {{
        listen 127.0.0.1:{port}{ssl};
        root {root};
        autoindex on;
        {extra}
    }}
}}
"""
APACHE = """
ServerRoot {state}
PidFile {state}/apache.pid
Listen 127.0.0.1:{port}
ServerName 127.0.0.1
ErrorLog {state}/error.log
CustomLog {state}/access.log "%m %U %>s"
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule autoindex_module {modules}/mod_autoindex.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule alias_module {modules}/mod_alias.so
TypesConfig /dev/null
DocumentRoot {root}
<Directory {root}>
    Require all granted
    Options Indexes FollowSymLinks
    IndexIgnore ..
    {extra}
</Directory>
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server for the length of a block, from when it accepts connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.01)
            else:
                break
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nginx(root: Path, state: Path, extra: str = "", tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Serve `root` by nginx; give the port."""
    binary = shutil.which("nginx", path=f"/usr/sbin:{os.environ['PATH']}")
    assert binary is not None, "run scripts/install-system"
    (port,), ssl = free_ports(1), ""
    if tls is not None:
        ssl = " ssl"
        extra += f"\nssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};"
    state.mkdir(parents=True, exist_ok=True)
    configuration = state / "nginx.conf"
    configuration.write_text(NGINX.format(state=state, port=port, root=root, extra=extra, ssl=ssl))
    with running([binary, "-p", str(state), "-c", str(configuration)], port, state / "out.log"):
        yield port


@contextmanager
def apache(root: Path, state: Path, extra: str = "") -> Iterator[int]:
    """Serve `root` by Apache; give the port."""
    binary = shutil.which("apache2", path=f"/usr/sbin:{os.environ['PATH']}")
    assert binary is not None, "run scripts/install-system"
    (port,) = free_ports(1)
    state.mkdir(parents=True, exist_ok=True)
    configuration = state / "apache.conf"
    configuration.write_text(
        APACHE.format(state=state, port=port, root=root, extra=extra, modules=APACHE_MODULES)
    )
    with running([binary, "-X", "-f", str(configuration)], port, state / "out.log"):
        yield port


@contextmanager
def python(root: Path, state: Path) -> Iterator[int]:
    """Serve `root` by `python -m http.server`, which serves no ranges; give the port."""
    (port,) = free_ports(1)
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", str(root), str(port)]
    with running(command, port, state / "out.log"):
        yield port
