"""The two programs as they are installed, and what they say when they cannot begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs_csi.mounter import parse_socket

PATHS = os.pathsep.join(path for path in sys.path if path)

NOWHERE = "/nowhere/at/all.sock"
CLIENTS = {"trio", "pyfuse3", "botocore", "boto3", "huggingface_hub"}


def run(module, *arguments, **variables):
    plain = {name: text for name, text in os.environ.items() if not name.startswith("LAZYFS_")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, check=False, timeout=30,
        env=plain | {"PYTHONPATH": PATHS} | variables,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "arguments", "variables", "message"),
    [
        ("lazyfs_csi", [], {}, "lazyfs-csi: --node-id is missing; give it, or set LAZYFS_CSI_NODE_ID"),
        (
            "lazyfs_csi", ["--mode", "both"], {},
            "lazyfs-csi: --mode: there is no both; choose one of node, controller",
        ),
        (
            "lazyfs_csi", ["--node-id", "n", "--max-volumes", "-1"], {},
            "lazyfs-csi: --max-volumes: -1 is less than none; give 0 or more",
        ),
        (
            "lazyfs_csi", ["--mode", "controller"], {"CSI_ENDPOINT": "tcp://:1"},
            "lazyfs-csi: tcp://:1 is not a socket; write it like unix:///csi/csi.sock",
        ),
        (
            "lazyfs_csi", ["--mode", "controller", "--endpoint", f"unix://{NOWHERE}"], {},
            f"lazyfs-csi: cannot listen at {NOWHERE}; does its directory exist, and may it be written?",
        ),
        (
            "lazyfs_csi.mounter", [], {"LAZYFS_MOUNTER_CACHE_SIZE": "much"},
            "lazyfs-mounter: --cache-size: 'much' is not a size; write it like 512MiB, 100GB or 4096",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_an_exit_code(module, arguments, variables, message):
    ran = run(module, *arguments, **variables)

    assert (2, message + "\n", "") == (ran.returncode, ran.stderr, ran.stdout)


@pytest.mark.parametrize("module", ["lazyfs_csi", "lazyfs_csi.mounter"])
def test_help_names_the_variables(module):
    ran = run(module, "--help")

    assert 0 == ran.returncode
    assert "LOG_LEVEL]" in ran.stdout


@pytest.mark.parametrize(
    ("module", "none_of"),
    [
        ("lazyfs_csi.driver", CLIENTS | {"typer", "rich", "urllib3"}),
        ("lazyfs_csi.mounter", CLIENTS | {"grpc", "google.protobuf", "urllib3"}),
    ],
)  # fmt: skip
def test_neither_brings_what_only_workers_need(module, none_of):
    """import-linter sees imports; this sees what is there."""
    script = f"import sys, {module}; print(*sys.modules)"

    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": PATHS},
    )  # fmt: skip

    assert set() == none_of & set(ran.stdout.split())


def test_the_mounters_socket_may_be_written_as_the_node_plugin_wants_it():
    assert (
        Path("/x/mounter.sock") == parse_socket("unix:///x/mounter.sock") == parse_socket("/x/mounter.sock")
    )
