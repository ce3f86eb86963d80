"""The Pod Security Standard *restricted*, as its admission plugin checks a pod (Kubernetes 1.30 and later).

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (Baseline and Restricted).
"""

from collections.abc import Iterator

from tests.deploy.objects import Object, containers_of

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip


def violations(pod: Object) -> list[str]:
    """Return what a namespace that enforces `restricted` would refuse a pod for."""
    return [
        *_of_the_pod(pod),
        *(f"{c['name']}: {what}" for c in containers_of(pod) for what in _of_one(c, pod)),
    ]


def _of_the_pod(pod: Object) -> Iterator[str]:
    spec = pod["spec"]
    own = spec.get("securityContext", {})
    yield from (field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field))
    for volume in spec.get("volumes", []):
        yield from (f"volume {volume['name']}: {kind}" for kind in set(volume) - {"name"} - VOLUMES)
    yield from (f"sysctl {one['name']}" for one in own.get("sysctls", []) if one["name"] not in SYSCTLS)
    if own.get("runAsUser") == 0:
        yield "runAsUser 0"


def _of_one(container: Object, pod: Object) -> Iterator[str]:
    of_pod = pod["spec"].get("securityContext", {})
    own = container.get("securityContext", {})
    both = of_pod | own
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in capabilities.get("drop", []):
        yield "does not drop ALL"
    yield from (f"adds {name}" for name in capabilities.get("add", []) if name != "NET_BIND_SERVICE")
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if own.get("runAsUser") == 0:
        yield "runAsUser 0"
    if both.get("seccompProfile", {}).get("type") not in SECCOMP:
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    selinux = both.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if both.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "appArmorProfile"
    yield from (
        f"port {port['hostPort']} of the host" for port in container.get("ports", []) if port.get("hostPort")
    )
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name, {}).get("httpGet", {}).get("host"):
            yield f"{name}: another host"
