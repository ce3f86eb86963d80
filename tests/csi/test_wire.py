"""What is committed of generated code is what the generator makes of the .proto files."""

import sys
from pathlib import Path
from typing import Any

import pytest

from lazyfs_csi.wire import csi_pb2
from scripts.generate_wire import WIRE, generate

SECRET: Any = csi_pb2.csi_secret
ROOT = Path(__file__).parents[2]


def test_the_generated_modules_are_those_of_the_proto_files(tmp_path):
    generate(tmp_path)

    made = {file.name: file.read_text() for file in (tmp_path / WIRE).iterdir()}
    kept = {f.name: f.read_text() for f in (ROOT / "csi" / WIRE).glob("*_pb2*.py*")}
    assert made == kept


# Field numbers, as the specification has them: by hand, so that the .proto file itself is checked.
NUMBERS = {
    "NodePublishVolumeRequest": {
        "volume_id": 1, "publish_context": 2, "staging_target_path": 3, "target_path": 4,
        "volume_capability": 5, "readonly": 6, "secrets": 7, "volume_context": 8,
    },
    "NodeGetVolumeStatsResponse": {"usage": 1, "volume_condition": 2},
    "VolumeUsage": {"available": 1, "total": 2, "used": 3, "unit": 4},
    "Volume": {"capacity_bytes": 1, "volume_id": 2, "volume_context": 3},
    "CreateVolumeRequest": {
        "name": 1, "capacity_range": 2, "volume_capabilities": 3, "parameters": 4, "secrets": 5,
        "volume_content_source": 6, "mutable_parameters": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("message", NUMBERS)
def test_fields_have_the_numbers_of_the_specification(message):
    fields = getattr(csi_pb2, message).DESCRIPTOR.fields

    assert NUMBERS[message] == {field.name: field.number for field in fields}


def test_every_field_of_secrets_is_marked_as_one():
    fields = [
        field
        for message in csi_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.name == "secrets"
    ]

    assert 4 == len(fields)
    assert all(field.GetOptions().Extensions[SECRET] for field in fields)


def test_what_is_generated_needs_no_newer_protobuf_than_is_declared():
    assert "lazyfs_csi.wire.csi_pb2" in sys.modules
    assert "Protobuf Python Version: 6.31.1" in (ROOT / "csi" / WIRE / "csi_pb2.py").read_text()
