from lazyfs_csi.redaction import shown
from lazyfs_csi.wire import csi_pb2


def test_secrets_and_tokens_are_not_shown_and_all_else_is():
    request = csi_pb2.NodePublishVolumeRequest(
        volume_id="v1",
        target_path="/t",
        secrets={"HF_TOKEN": "hf_secret"},
        volume_context={
            "source": "s3://b",
            "csi.storage.k8s.io/serviceAccount.tokens": '{"a":{"token":"ey"}}',
        },
        volume_capability=csi_pb2.VolumeCapability(access_mode={"mode": "SINGLE_NODE_WRITER"}),
    )

    line = shown(request)

    assert "hf_secret" not in line
    assert "ey" not in line.replace("target_path", "")
    assert "volume_id='v1'" in line
    assert "secrets={'HF_TOKEN': '***'}" in line
    assert "'source': 's3://b'" in line


def test_a_password_in_an_address_is_not_shown():
    request = csi_pb2.NodePublishVolumeRequest(
        volume_context={"source": "https://me:hush@host/m hf://a/b@main"}
    )

    assert "volume_context={'source': 'https://***@host/m hf://a/b@main'}" == shown(request)


def test_every_message_with_secrets_hides_them():
    for name in ("CreateVolumeRequest", "DeleteVolumeRequest", "ValidateVolumeCapabilitiesRequest"):
        assert "hush" not in shown(getattr(csi_pb2, name)(secrets={"k": "hush"}))
