"""The Helm chart: rendered, linted and validated, without a cluster."""

import json
import os
import subprocess
from pathlib import Path

import helm_python
import pytest

from lazyfs import __version__
from scripts.deployment import CHART, rendered
from tests.deploy.objects import containers_of, named, pod_of
from tests.deploy.restricted import violations
from tests.deploy.validating import EDGES, PARAMETERS, invalid

VALUES = {
    "its own": {},
    "no controller": {"controller": {"enabled": False}},
    "claims choose": {"controller": {"readClaims": True, "replicas": 2}},
    "everything observed": {
        "metrics": {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Storage"}},
        }
    },
    "another place": {
        "driverName": "models.example.com", "kubeletDir": "/var/lib/k0s/kubelet", "logLevel": "debug",
        "image": {"repository": "registry.example.com/a/lazyfs", "digest": f"sha256:{'0' * 64}"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "cache of the pod": {"mounter": {"cache": {"type": "emptyDir", "volumeSize": "200Gi", "size": "200GB"}}},
    "cache on a volume": {
        "mounter": {"cache": {"type": "ephemeral", "volumeSize": "1Ti", "storageClassName": "local-nvme"}}
    },
    "identity of its own": {
        "mounter": {
            "serviceAccount": {
                "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"},
                "automountToken": True,
            },
            "allowNodeIdentity": True, "allowSources": ["private", "10.1.0.0/16"], "memory": "1GiB",
            "hostNetwork": True, "seLinuxOptions": {"type": "spc_t"}, "podLabels": {"team": "models"},
            "extraArgs": ["--log-format=text"],
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        },
        "node": {
            "sidecarsPrivileged": True, "maxVolumes": 40, "nodeSelector": {"gpu": "true"}, "tolerations": [],
            "podAnnotations": {"a": "b"},
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}},
            ]}},
        },
    },
    "classes": {
        "storageClasses": [
            {"name": "models", "parameters": {"source": "s3://models/${pvc.namespace}/${pvc.name}"}},
            {"name": "kept", "parameters": {"source": "hf://org/model"}, "reclaimPolicy": "Retain",
             "annotations": {"storageclass.kubernetes.io/is-default-class": "false"}},
        ]
    },
}  # fmt: skip


def objects(values=None):
    return [found for file in rendered(values).values() for found in file]


@pytest.mark.parametrize("version", PARAMETERS)
def test_what_is_rendered_is_valid_for_every_version(version):
    assert [] == invalid(objects(), version)


@pytest.mark.parametrize("version", EDGES)
def test_what_other_values_render_is_valid(version):
    assert [] == invalid([found for values in VALUES.values() for found in objects(values)], version)


def test_what_is_not_valid_is_found():
    (driver,) = [found for found in objects() if found["kind"] == "CSIDriver"]
    wrong = {**driver, "spec": {**driver["spec"], "attachRequired": "no", "mountRequired": True}}

    for version in EDGES:
        (said,) = invalid([driver, wrong], version)
        assert driver["metadata"]["name"] in said


def test_there_is_nothing_to_lint():
    for values in VALUES.values():
        report = helm_python.lint(CHART, values, strict=True, namespace="lazyfs")
        said = {message["error"] for message in report["messages"]}
        assert ([], {"icon is recommended"}) == (report["errors"], said)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"mouter": {}}, "mouter"),
        ({"node": {"nodeselector": {}}}, "nodeselector"),
        ({"driverName": "Lazy_FS"}, "driverName"),
        ({"kubeletDir": "var/lib/kubelet"}, "kubeletDir"),
        ({"image": {"tag": 1}}, "tag"),
        ({"mounter": {"cache": {"size": "lots"}}}, "size"),
        ({"mounter": {"cache": {"type": "ephemeral"}}}, "volumeSize"),
        ({"mounter": {"cache": {"type": "emptyDir", "volumeSize": "9Gi", "size": "auto"}}}, "cache.size"),
        ({"mounter": {"runAsUser": 0}}, "runAsUser"),
    ],
)
def test_values_that_cannot_be_right_are_refused_by_name(values, word):
    with pytest.raises(helm_python.HelmError, match=word):
        rendered(values)


def test_every_value_is_in_the_schema_and_nothing_else_is():
    schema = json.loads((CHART / "values.schema.json").read_text())
    with helm_python.Chart.load(CHART) as chart:
        assert set(chart.values) | {"global"} == set(schema["properties"])


def test_the_driver_is_what_the_kubelet_should_know_of_it():
    spec = named(objects(), "CSIDriver", "csi.lazyfs.dev")["spec"]

    assert {
        "attachRequired": False, "podInfoOnMount": True, "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        "fsGroupPolicy": "None", "requiresRepublish": True, "storageCapacity": False, "seLinuxMount": False,
    } == spec  # fmt: skip


def test_nothing_on_the_nodes_may_ask_the_api_server():
    found = objects()
    bound = {
        subject["name"] for one in found if one["kind"].endswith("RoleBinding") for subject in one["subjects"]
    }

    assert {"lazyfs-controller"} == bound
    for half in ("lazyfs-node", "lazyfs-mounter"):
        assert named(found, "ServiceAccount", half)["automountServiceAccountToken"] is False
        pod = named(found, "DaemonSet", half)["spec"]["template"]["spec"]
        assert (half, False) == (pod["serviceAccountName"], pod["automountServiceAccountToken"])


def test_only_one_container_is_privileged():
    pods = {one["metadata"]["name"]: pod_of(one) for one in objects() if pod_of(one)}
    privileged = [
        (name, container["name"])
        for name, pod in pods.items()
        for container in containers_of(pod)
        if container["securityContext"].get("privileged")
    ]

    assert [("lazyfs-node", "node")] == privileged


def test_the_controller_could_run_where_pods_are_restricted():
    assert [] == violations(named(objects(), "Deployment", "lazyfs-controller")["spec"]["template"])


def test_the_mounter_departs_from_restricted_by_its_directories_of_the_host_and_by_who_makes_them_its_own():
    pod = named(objects(), "DaemonSet", "lazyfs-mounter")["spec"]["template"]

    assert [
        "volume run: hostPath", "volume cache: hostPath",
        "own: adds CHOWN", "own: adds FOWNER", "own: runAsNonRoot", "own: runAsUser 0",
    ] == violations(pod)  # fmt: skip


@pytest.mark.skipif(bool(os.geteuid()), reason="only root can give directories away")
@pytest.mark.parametrize("owner", [0, 65534])
def test_the_mounter_is_given_its_directories_with_no_more_capabilities_than_it_takes(tmp_path, owner):
    (own,) = named(objects(), "DaemonSet", "lazyfs-mounter")["spec"]["template"]["spec"]["initContainers"]
    places = [tmp_path / mount["mountPath"].strip("/") for mount in own["volumeMounts"]]
    for place in places:
        place.mkdir(parents=True)
        os.chown(place, owner, owner)
    kept = ",".join(f"+{name.lower()}" for name in own["securityContext"]["capabilities"]["add"])
    arguments = [f"{tmp_path}{argument}" if argument[0] == "/" else argument for argument in own["args"]]

    subprocess.run(["setpriv", f"--bounding-set=-all,{kept}", *own["command"], *arguments], check=True)

    assert [(65534, 65534, 0o40700)] * 2 == [
        (found.st_uid, found.st_gid, found.st_mode) for found in (place.stat() for place in places)
    ]


def test_the_mounter_stays_when_the_chart_is_upgraded_and_the_node_half_is_replaced_a_few_at_a_time():
    found = objects()

    assert {"type": "OnDelete"} == named(found, "DaemonSet", "lazyfs-mounter")["spec"]["updateStrategy"]
    assert (
        "10%"
        == named(found, "DaemonSet", "lazyfs-node")["spec"]["updateStrategy"]["rollingUpdate"][
            "maxUnavailable"
        ]
    )


def test_both_halves_mean_the_same_socket():
    found = objects({"driverName": "models.example.com", "kubeletDir": "/k"})
    node = named(found, "DaemonSet", "lazyfs-node")["spec"]["template"]["spec"]
    mounter = named(found, "DaemonSet", "lazyfs-mounter")["spec"]["template"]["spec"]
    directory = next(v for v in mounter["volumes"] if v["name"] == "run")["hostPath"]["path"]

    assert f"--mounter=unix://{directory}/mounter.sock" in node["containers"][0]["args"]
    assert "--socket=/run/lazyfs/mounter.sock" in mounter["containers"][0]["args"]
    assert len(f"{directory}/mounter.sock") < 108  # sun_path


def test_no_container_but_the_one_that_mounts_has_copies_of_the_mounts():
    """A runtime binds a directory with all that is mounted below it, and such a copy outlasts the mount."""
    node = named(objects(), "DaemonSet", "lazyfs-node")["spec"]["template"]["spec"]
    (state,) = (a for a in node["containers"][0]["args"] if a.startswith("--state-dir="))
    state = Path(state.partition("=")[2])
    above = {
        v["name"] for v in node["volumes"] if state.is_relative_to(v.get("hostPath", v).get("path", "/-"))
    }

    seen = [
        (one["name"], mount.get("mountPropagation"))
        for one in containers_of({"spec": node})
        for mount in one["volumeMounts"]
        if mount["name"] in above
    ]

    assert [("node", "Bidirectional")] == seen


def test_every_volume_is_mounted_and_every_mount_has_its_volume():
    for values in VALUES.values():
        for pod in filter(None, map(pod_of, objects(values))):
            volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
            mounted = {mount["name"] for one in containers_of(pod) for mount in one["volumeMounts"]}
            assert volumes == mounted


def test_the_chart_is_of_this_version():
    with helm_python.Chart.load(CHART) as chart:
        assert (__version__, __version__) == (chart.metadata["appVersion"], chart.version)
