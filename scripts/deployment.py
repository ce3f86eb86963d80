"""Writes what in deploy/ is made: the dashboard, and the kustomize base; with --check, only compares.

The base is what the chart renders with its own values, one file for each of its templates, less the labels
that say it was Helm. What else is in the base's directory is left alone.
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

from scripts.dashboard import dashboard

ROOT = Path(__file__).parent.parent
CHART = ROOT / "deploy" / "helm" / "lazyfs"
BASE = ROOT / "deploy" / "kubernetes" / "base"
DASHBOARD = CHART / "files" / "dashboard.json"
NAME = NAMESPACE = "lazyfs"
HELMS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
HEAD = "# Made from deploy/helm/lazyfs by `make docs`; edit that, not this.\n"


def rendered(
    values: dict[str, Any] | None = None, namespace: str = NAMESPACE
) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of the chart by the name of their template.

    Raises:
        HelmError: when the values are not right.

    """
    with Chart.load(CHART) as chart:
        texts = chart.render(values or {}, name=NAME, namespace=namespace)
    files = {Path(name).name: text for name, text in texts.items() if name.endswith(".yaml")}
    objects = {name: [o for o in yaml.safe_load_all(text) if o] for name, text in sorted(files.items())}
    return {name: found for name, found in objects.items() if found}


def plain(made: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what says that Helm made it."""
    labels = {k: v for k, v in made["metadata"].get("labels", {}).items() if k not in HELMS}
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def files() -> dict[Path, str]:
    """Return what should be there, by file."""
    objects = rendered()
    texts = {
        BASE / name: HEAD + yaml.safe_dump_all(map(plain, found), sort_keys=False, width=110)
        for name, found in objects.items()
    }
    listed = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(objects),
    }
    texts[BASE / "kustomization.yaml"] = HEAD + yaml.safe_dump(listed, sort_keys=False)
    texts[DASHBOARD] = dashboard()
    return texts


def main() -> None:
    """Write what is made, or compare it; first the dashboard, which is part of the chart."""
    if "--check" not in sys.argv:
        DASHBOARD.write_text(dashboard())
    for file, text in files().items():
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"{file.relative_to(ROOT)} is not what it is made from; run: make docs")


if __name__ == "__main__":
    main()
