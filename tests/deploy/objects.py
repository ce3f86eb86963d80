"""Objects of Kubernetes, as dictionaries: reading them from files, and finding the pods in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
Object = dict[str, Any]


def read(file: Path) -> list[Object]:
    return [found for found in yaml.safe_load_all(file.read_text()) if found]


def key(found: Object) -> tuple[str, str, str, str]:
    metadata = found["metadata"]
    return found["apiVersion"], found["kind"], metadata.get("namespace", ""), metadata["name"]


def pod_of(found: Object) -> Object | None:
    """The pod an object is or makes: `metadata` and `spec`."""
    match found["kind"]:
        case "Pod":
            return found
        case "Deployment" | "DaemonSet" | "StatefulSet" | "Job":
            return found["spec"]["template"]
        case "CronJob":
            return found["spec"]["jobTemplate"]["spec"]["template"]
    return None


def containers_of(pod: Object) -> Iterator[Object]:
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [one for one in objects if (kind, name) == (one["kind"], one["metadata"]["name"])]
    return found
