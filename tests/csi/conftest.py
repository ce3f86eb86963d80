import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.csi.rig import Node
from tests.e2e.conftest import digests, hosted, model  # noqa: F401 - the same model


@pytest.fixture
def secrets(seaweed):
    """What a Secret of the S3 server holds."""
    return {
        "AWS_ACCESS_KEY_ID": seaweed.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweed.secret_key,
        "AWS_ENDPOINT_URL": seaweed.endpoint_url,
    }


@contextmanager
def a_node(**options):
    """A node that is not started; its directory has a short name: that of a socket has 108 bytes at most."""
    root = tempfile.mkdtemp(prefix="lfs-", dir="/tmp")
    found = Node(root, dict(os.environ), **options)
    try:
        yield found
    finally:
        found.close()
        for process in (found.plugin, found.mounter):
            assert "Traceback" not in process.log, process.log
        shutil.rmtree(Path(root))


@pytest.fixture
def node():
    with a_node() as found:
        yield found.start()
