"""The kustomize base is the chart's objects, and is made from it."""

import shutil
import subprocess

import pytest
import yaml

from scripts.deployment import files, plain, rendered
from tests.deploy.objects import DEPLOY, key, read

KUBECTL = shutil.which("kubectl") or ""


def of_the_chart():
    return {key(found): plain(found) for file in rendered().values() for found in file}


def built(directory):
    ran = subprocess.run(
        [KUBECTL, "kustomize", directory], capture_output=True, text=True, check=True, timeout=60
    )
    return {key(found): found for found in yaml.safe_load_all(ran.stdout)}


def test_what_is_made_is_up_to_date():
    assert [] == [file.name for file, text in files().items() if file.read_text() != text]


def test_the_files_of_the_base_are_the_objects_of_the_chart():
    listed = read(DEPLOY / "kubernetes" / "base" / "kustomization.yaml")[0]["resources"]
    found = [one for name in listed for one in read(DEPLOY / "kubernetes" / "base" / name)]

    assert of_the_chart() == {key(one): one for one in found}
    assert "Helm" not in str(found)


@pytest.mark.skipif(not KUBECTL, reason="there is no kubectl")
def test_kustomize_builds_the_objects_of_the_chart():
    chart, base = of_the_chart(), built(DEPLOY / "kubernetes" / "base")

    assert set(chart) == set(base)
    for name, found in chart.items():
        assert found == base[name]


@pytest.mark.skipif(not KUBECTL, reason="there is no kubectl")
def test_with_its_namespace_there_is_that_and_nothing_else_more():
    chart, with_namespace = of_the_chart(), built(DEPLOY / "kubernetes" / "namespaced")

    assert {("v1", "Namespace", "", "lazyfs")} == set(with_namespace) - set(chart)
