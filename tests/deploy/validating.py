"""Validation by the schemas of Kubernetes' own objects, for the versions we say we run on."""

from collections.abc import Iterable
from functools import cache

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.deploy.objects import Object, key

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
EDGES = [VERSIONS[0], VERSIONS[-1]]
# The oldest and the newest after each change; those between by `make test-slow`.
PARAMETERS = [
    version if version in EDGES else pytest.param(version, marks=pytest.mark.slow) for version in VERSIONS
]
CUSTOM = {"monitoring.coreos.com", "serving.kserve.io", "llm.nebari.dev"}
"""Groups of custom resources, which have no schema here."""


def invalid(objects: Iterable[Object], version: str) -> list[str]:
    """Return what a version of Kubernetes would refuse, or has no such field for, of all that it knows."""
    known = [found for found in objects if found["apiVersion"].partition("/")[0] not in CUSTOM]
    parse = utils.schema_contents
    # Megabytes, else parsed for each object; and kept, every collection of garbage would look through them.
    utils.schema_contents = cache(parse)
    try:
        return [f"{key(found)}: {why}" for found in known if (why := _why(found, version))]
    finally:
        utils.schema_contents = parse


def _why(found: Object, version: str) -> str:
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""
