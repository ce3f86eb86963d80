"""A privileged container of a pod, as containerd before the fix of its issues 3221 and 8445 makes it.

Its sysfs is that of the pod's network namespace, whose first mount was the pause container's: read-only. The
superblock is, not the mount, so a mount of one's own is read-only as well.
"""

from tests.deploy.objects import Object


def in_container(pod: Object, name: str) -> list[str]:
    """Return a command that runs another one in a container of a pod, with its `hostPath`s below /sys."""
    places = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
    containers = {one["name"]: one for one in (*pod.get("initContainers", []), *pod["containers"])}
    bound = {m["mountPath"]: places.get(m["name"], "") for m in containers[name]["volumeMounts"]}
    return container({there: of_host for there, of_host in bound.items() if of_host.startswith("/sys")})


def container(bound: dict[str, str]) -> list[str]:
    """Return a command that runs another one in a container that has directories of the host's sysfs."""
    opened = "".join(f"exec {fd}<{of_host}\n" for fd, of_host in enumerate(bound.values(), 3))
    # Not canonical: the path leads to what was opened, not to what is there now.
    binds = "".join(f"mount -c --bind /proc/self/fd/{fd} {there}\n" for fd, there in enumerate(bound, 3))
    closed = "".join(f"exec {fd}<&-\n" for fd in range(3, 3 + len(bound)))
    script = f"{opened}mount --make-private /sys\nmount -t sysfs -o ro none /sys\n{binds}{closed}"
    unshared = ["unshare", "--net", "--mount", "--propagation", "unchanged"]
    return [*unshared, "sh", "-ec", f'{script}exec "$@"', "sh"]
