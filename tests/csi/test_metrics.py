"""What Prometheus is told of a node: one page of all its volumes."""

import json
import re
import urllib.request
from contextlib import suppress

import pytest

from lazyfs.demo.seaweed import free_ports
from lazyfs.telemetry.endpoint import exposition
from lazyfs.telemetry.metrics import METRICS, READ_BYTES, READ_SECONDS, Meter
from lazyfs_csi.charge import Page
from lazyfs_csi.metrics import merged
from tests.csi.conftest import a_node
from tests.csi.rig import new_pod, until

ONE, TWO = Page("s3://models/one", "aaaa", 1), Page('s3://models/"two"', "bbbb", 2)


def told():
    meter = Meter()
    meter.add(READ_BYTES, 7, "disk")
    meter.observe(READ_SECONDS, 0.3, "network")
    return exposition(meter).decode()


def test_volumes_are_told_apart_and_every_metric_is_described_once():
    page = merged([(ONE, told()), (TWO, told())])

    lines = page.splitlines()
    assert 'lazyfs_read_bytes_total{source="s3://models/one",volume="aaaa",tier="disk"} 7.0' in lines
    assert 'lazyfs_read_bytes_total{source="s3://models/\\"two\\"",volume="bbbb",tier="disk"} 7.0' in lines
    assert 'lazyfs_oldest_wait_seconds{source="s3://models/one",volume="aaaa"} 0.0' in lines
    assert 1 == page.count("# TYPE lazyfs_read_seconds histogram")
    assert 2 * len([line for line in told().splitlines() if line[0] != "#"]) == len(
        [line for line in lines if line[0] != "#"]
    )
    assert page.endswith("\n")


def test_what_is_merged_is_what_prometheus_reads():
    from prometheus_client.parser import text_string_to_metric_families

    families = {
        family.name: family
        for family in text_string_to_metric_families(merged([(ONE, told()), (TWO, told())]))
    }

    assert {metric.name.removesuffix("_total") for metric in METRICS} == set(families)
    sources = {sample.labels["source"] for family in families.values() for sample in family.samples}
    assert {ONE.source, TWO.source} == sources


def test_no_volume_is_an_empty_page():
    assert "" == merged([])


@pytest.fixture
def observed():
    (port,) = free_ports(1)

    def get(page):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as reply:
            return reply.read().decode()

    def healthy():
        with suppress(OSError):
            return get("/healthz")

    with a_node(mounter=("--http", f"127.0.0.1:{port}")) as found:
        found.start()
        until(healthy)
        yield found, get


def test_the_mounter_tells_of_each_volume_until_it_is_gone(observed, hosted, secrets):
    node, get = observed
    assert ("", "ok\n", "[]") == (get("/metrics"), get("/healthz"), get("/status"))
    pods = [new_pod(), new_pod()]
    node.publish(pods[0], {"source": hosted.address}, secrets)
    node.publish(pods[1], {"source": hosted.address, "policy": "demand"}, secrets)

    told = re.findall(
        r'^lazyfs_model_bytes\{source="(.*)",volume="(\w+)"\} (\S+)$', get("/metrics"), re.MULTILINE
    )

    assert [hosted.address] * 2 == [source for source, _, _ in told]
    assert 2 == len({volume for _, volume, _ in told})
    assert {volume for _, volume, _ in told} == {one["volume"] for one in json.loads(get("/status"))}
    for pod in pods:
        node.unpublish(pod)
    until(lambda: get("/metrics") == "")
