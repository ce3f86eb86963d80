"""Every manifest there is: the chart's, and the examples."""

from collections.abc import Iterator

from scripts.deployment import rendered
from tests.deploy.objects import DEPLOY, Object, pod_of, read

EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))
VALUES = sorted((DEPLOY / "examples").glob("*-values.yaml"))
"""Of other people's charts: no objects."""


def every_pod() -> Iterator[Object]:
    """Every pod that the chart or an example makes."""
    objects = [found for file in rendered().values() for found in file]
    objects += [found for file in EXAMPLES if file not in VALUES for found in read(file)]
    yield from filter(None, map(pod_of, objects))


def ours(container: Object) -> bool:
    """Tell whether a container runs our image."""
    return container["image"].partition(":")[0] == "lazyfs"
