"""The examples: valid objects, pods that restricted namespaces take, attributes that there are."""

import re

import pytest
import yaml

from lazyfs_csi.attributes import KNOWN, filled_in, volume_of
from lazyfs_csi.credentials import environment_of
from scripts.deployment import rendered
from tests.deploy.manifests import EXAMPLES, VALUES, ours
from tests.deploy.objects import DEPLOY, ROOT, containers_of, named, pod_of, read
from tests.deploy.restricted import violations
from tests.deploy.validating import EDGES, PARAMETERS, invalid

DRIVER = "csi.lazyfs.dev"
KUBERNETES = "csi.storage.k8s.io/"
MANIFESTS = [file for file in EXAMPLES if file not in VALUES]
PRIVILEGED = {
    "sidecar.yaml": {"lazyfs"},  # hands a mount to others
    "warm-job.yaml": {"cache"},  # a directory of the node
}
"""Examples that a restricted namespace refuses, and the container or volume for which it does."""


def example(name):
    return read(DEPLOY / "examples" / name)


def volumes(found):
    """Every inline volume of the driver in a document, at whatever depth."""
    if isinstance(found, dict):
        if isinstance(found.get("csi"), dict):
            yield found
        for value in found.values():
            yield from volumes(value)
    elif isinstance(found, list):
        for value in found:
            yield from volumes(value)


@pytest.mark.parametrize("version", PARAMETERS)
def test_the_examples_are_valid_for_every_version(version):
    assert [] == invalid([found for file in MANIFESTS for found in read(file)], version)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_the_pods_of_the_examples_are_restricted_but_for_those_that_say_why(file):
    found = [what for pod in filter(None, map(pod_of, read(file))) for what in violations(pod)]

    blamed = {re.sub(r"^volume ", "", what).partition(":")[0] for what in found}
    if file.name == "sidecar.yaml":
        assert "lazyfs: privileged" in found
    else:
        assert PRIVILEGED.get(file.name, set()) == blamed


@pytest.mark.parametrize(
    "file", [f for f in EXAMPLES if f.name != "static-pv.yaml"], ids=lambda file: file.name
)
def test_an_inline_volume_is_one_the_driver_takes(file):
    for volume in volumes(read(file)):
        csi = volume["csi"]
        assert (DRIVER, True) == (csi["driver"], csi["readOnly"])
        assert volume_of(csi["volumeAttributes"]).sources


def test_a_volume_of_the_examples_is_one_the_driver_takes():
    spec = named(example("static-pv.yaml"), "PersistentVolume", "llama-3-8b")["spec"]

    assert ("s3://models/llama-3-8b",) == volume_of(spec["csi"]["volumeAttributes"]).sources
    assert (DRIVER, True, ["ReadOnlyMany"]) == (
        spec["csi"]["driver"],
        spec["csi"]["readOnly"],
        spec["accessModes"],
    )


@pytest.mark.parametrize(("file", "name"), [("storageclass.yaml", "models"), ("nebari.yaml", "qwen3-8b")])
def test_a_class_of_the_examples_is_one_the_driver_makes_volumes_of(file, name):
    found = named(example(file), "StorageClass", name)
    own = {key: text for key, text in found["parameters"].items() if not key.startswith(KUBERNETES)}
    said = {f"{KUBERNETES}pvc/name": "llama-3-8b", f"{KUBERNETES}pvc/namespace": "team-a"}

    assert DRIVER == found["provisioner"]
    (source,) = volume_of(filled_in(own | said)).sources
    assert source in {"s3://models/team-a/llama-3-8b", "hf://Qwen/Qwen3-8B"}


def test_the_annotations_of_claims_are_attributes():
    annotated = [found["metadata"].get("annotations", {}) for found in example("storageclass.yaml")]
    names = {key.partition("/")[2] for found in annotated for key in found if key.startswith(f"{DRIVER}/")}

    assert {"source", "revision"} == names
    assert names <= set(KNOWN)


def test_the_secret_of_the_examples_is_one_the_driver_understands():
    secret = named(example("inline.yaml"), "Secret", "s3")["stringData"]

    assert set(secret) == set(environment_of(secret))


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_the_volumes_of_values_for_other_charts_are_valid_in_a_pod(file):
    (values,) = read(file)
    (section,) = values.get("modelGroups", {}).values() or values["servingEngineSpec"]["modelSpec"]
    mounts = list(section.get("volumeMounts") or section["extraVolumeMounts"])
    volumes_there = section.get("volumes") or section["extraVolumes"]
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "engine"},
        "spec": {
            "volumes": volumes_there,
            "containers": [
                {"name": "engine", "image": "vllm", "env": section["env"], "volumeMounts": mounts}
            ],
        },
    }  # fmt: skip

    assert [[]] * 2 == [invalid([pod], version) for version in EDGES]
    assert [mount["name"] for mount in mounts] == [volume["name"] for volume in volumes_there]
    (mount,) = mounts
    assert mount["mountPath"] in str(section.get("modelURL") or section["command"])


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_every_mount_of_an_example_has_its_volume(file):
    for pod in filter(None, map(pod_of, read(file))):
        declared = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert declared == {mount["name"] for one in containers_of(pod) for mount in one["volumeMounts"]}


def test_kserve_is_given_the_claim_that_there_is():
    claims = {found["metadata"]["name"] for found in example("static-pv.yaml") if "Claim" in found["kind"]}
    service = named(example("kserve-inferenceservice.yaml"), "InferenceService", "llama")["spec"]
    of_llms = named(example("kserve-llminferenceservice.yaml"), "LLMInferenceService", "llama")["spec"]

    for uri in (service["predictor"]["model"]["storageUri"], of_llms["model"]["uri"]):
        assert uri.removeprefix("pvc://") in claims


def test_a_sidecar_gates_the_engine_and_hands_it_the_mount():
    pod = named(example("sidecar.yaml"), "Deployment", "llama-sidecar")["spec"]["template"]["spec"]
    (sidecar,), (engine,) = pod["initContainers"], pod["containers"]
    propagation = {mount["name"]: mount.get("mountPropagation") for mount in sidecar["volumeMounts"]}

    assert "Always" == sidecar["restartPolicy"]
    assert "Bidirectional" == propagation["models"]
    assert "HostToContainer" == engine["volumeMounts"][0]["mountPropagation"]
    mountpoint = sidecar["args"][0].split()[-1]
    assert ["lazyfs", "ready", mountpoint] == sidecar["startupProbe"]["exec"]["command"]
    assert mountpoint in engine["args"]
    assert "lifecycle" not in sidecar
    assert 60 <= pod["terminationGracePeriodSeconds"]


def test_warming_fills_the_cache_that_the_mounter_uses_as_who_it_is():
    job = named(example("warm-job.yaml"), "Job", "warm-llama-3-8b")["spec"]["template"]["spec"]
    chart = [found for file in rendered().values() for found in file]
    mounter = named(chart, "DaemonSet", "lazyfs-mounter")["spec"]["template"]["spec"]
    (theirs, own) = (
        [v["hostPath"]["path"] for v in spec["volumes"] if v["name"] == "cache"] for spec in (mounter, job)
    )

    assert theirs == own
    assert mounter["securityContext"]["runAsUser"] == job["securityContext"]["runAsUser"]
    (size,) = [one["value"] for one in job["containers"][0]["env"] if one["name"] == "LAZYFS_CACHE_SIZE"]
    assert f"--cache-size={size}" in mounter["containers"][0]["args"]


def test_every_example_uses_this_version_of_the_image():
    images = {
        c["image"]
        for file in MANIFESTS
        for pod in filter(None, map(pod_of, read(file)))
        for c in containers_of(pod)
    }
    chart = [found for file in rendered().values() for found in file]
    mounter = named(chart, "DaemonSet", "lazyfs-mounter")["spec"]["template"]["spec"]["containers"][0]

    assert {image for image in images if ours({"image": image})} == {mounter["image"]}


def test_every_example_is_in_the_guide():
    guide = (ROOT / "docs" / "kubernetes.md").read_text() + (ROOT / "docs" / "migration.md").read_text()

    assert set() == {file.name for file in EXAMPLES} - set(re.findall(r"deploy/examples/([\w.-]+)\)", guide))


def test_the_guide_names_every_attribute_and_no_other():
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    (table,) = re.findall(r"\| attribute \| meaning \|\n(.*?)\n\n", guide, re.DOTALL)
    named_there = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}

    assert set(KNOWN) == named_there


@pytest.mark.parametrize("page", ["kubernetes.md", "migration.md"])
def test_what_the_guides_show_is_valid_in_a_pod(page):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)

    assert blocks
    for block in map(yaml.safe_load, blocks):
        engine = {"name": "engine", "image": "vllm"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"containers": [engine], **block},
        }
        assert [[]] * 2 == [invalid([pod], version) for version in EDGES]
        for volume in volumes(block):
            assert volume_of(volume["csi"]["volumeAttributes"]).sources
