import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lazyfs.telemetry import metrics
from lazyfs.telemetry.endpoint import exposition
from lazyfs.telemetry.metrics import METRICS, Meter


def samples(meter):
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition(meter).decode())
        for sample in family.samples
    }


def test_counters_and_gauges_are_exposed_as_they_stand():
    meter = Meter()
    meter.add(metrics.READ_BYTES, 10, "disk")
    meter.add(metrics.READ_BYTES, 5, "disk")
    meter.add(metrics.RETRIES)
    meter.gauges = lambda: {(metrics.FLIGHTS, "network"): 3.0}

    found = samples(meter)

    assert 15 == found["lazyfs_read_bytes_total", ("disk",)]
    assert 1 == found["lazyfs_retries_total", ()]
    assert 3 == found["lazyfs_flights", ("network",)]
    assert 0 == found["lazyfs_blobs_changed_total", ()]
    assert 15 == meter.total(metrics.READ_BYTES)


def test_a_histogram_counts_up_to_each_bound():
    meter = Meter()
    for seconds in (0.0005, 0.03, 0.03, 1000.0):
        meter.observe(metrics.FETCH_SECONDS, seconds, "network")

    found = samples(meter)

    assert 1 == found["lazyfs_fetch_seconds_bucket", ("0.001", "network")]
    assert 3 == found["lazyfs_fetch_seconds_bucket", ("0.05", "network")]
    assert 4 == found["lazyfs_fetch_seconds_bucket", ("+Inf", "network")]
    assert 4 == found["lazyfs_fetch_seconds_count", ("network",)]
    assert found["lazyfs_fetch_seconds_sum", ("network",)] == pytest.approx(1000.0605)


def test_names_say_whose_they_are_and_in_what_unit():
    units = ("_bytes", "_bytes_total", "_seconds", "_total", "_ratio")
    without = {
        "lazyfs_cache_state",
        "lazyfs_connections_limit",
        "lazyfs_flights",
        "lazyfs_hosts_down",
        "lazyfs_info",
        "lazyfs_queue_depth",
    }
    for metric in METRICS:
        assert re.fullmatch(r"lazyfs_[a-z_]+", metric.name)
        assert metric.name.endswith(units) or metric.name in without
        assert ("counter" == metric.kind) == metric.name.endswith("_total")
        assert metric.help
    assert len(METRICS) == len({metric.name for metric in METRICS})
