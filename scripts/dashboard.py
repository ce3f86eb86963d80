"""The Grafana dashboard of the chart, from a table of panels: nobody should have to edit its JSON."""

import json
from collections.abc import Sequence
from typing import Any

Query = tuple[str, str]
"""PromQL, and what its lines are called."""

BY_NODE = "sum by (node)"
BY_MODEL = "max by (node, source)"
"""Whoever shows one source by different options has the same blobs."""
MODEL = "{{node}} {{source}}"
ONE_OF_NODE = "max by (node)"
"""Of what all volumes of a node share."""
SELECT = '{node=~"$node"}'


def slowest(histogram: str, share: float) -> str:
    """Return the query for what so large a share was faster than, by tier."""
    return f"histogram_quantile({share}, sum by (le, tier) (rate({histogram}_bucket@[5m])))"


ROWS: tuple[tuple[str, tuple[tuple[str, str, tuple[Query, ...]], ...]], ...] = (
    ("Models", (
        ("On the node", "percentunit",
         ((f"{BY_MODEL} (lazyfs_local_bytes@) / {BY_MODEL} (lazyfs_model_bytes@)", MODEL),)),
        ("Verified", "bytes", ((f"{BY_MODEL} (lazyfs_verified_bytes@)", MODEL),)),
        ("Versions", "short",
         (("count by (version) (max by (node, version) (lazyfs_info@))", "{{version}}"),)),
    )),
    ("Reading", (
        ("Read, by where it was", "Bps",
         (("sum by (tier) (rate(lazyfs_read_bytes_total@[1m]))", "{{tier}}"),)),
        ("Time a read waited, 99th percentile", "s", ((slowest("lazyfs_read_seconds", 0.99), "{{tier}}"),)),
        ("Longest wait now", "s", ((f"{BY_MODEL} (lazyfs_oldest_wait_seconds@)", MODEL),)),
        ("Reads that failed", "short",
         (("sum by (kind) (increase(lazyfs_read_errors_total@[5m]))", "{{kind}}"),)),
    )),
    ("Fetching", (
        ("Fetched, by tier", "Bps",
         (("sum by (tier) (rate(lazyfs_fetch_bytes_total@[1m]))", "{{tier}}"),)),
        ("Blocks asked for", "reqps",
         (("sum by (tier) (rate(lazyfs_fetch_requests_total@[1m]))", "{{tier}}"),)),
        ("Time to fetch a block, median", "s", ((slowest("lazyfs_fetch_seconds", 0.5), "{{tier}}"),)),
        ("Time to the first byte, median", "s",
         (("histogram_quantile(0.5, sum by (le) (rate(lazyfs_first_byte_seconds_bucket@[5m])))", "source"),)),
        ("Blocks in flight", "short",
         (("sum by (tier) (lazyfs_flights@)", "{{tier}}"),
          ("sum (lazyfs_connections_limit@)", "limit"))),
        ("Blocks that wait", "short", (("sum by (urgency) (lazyfs_queue_depth@)", "{{urgency}}"),)),
        ("Fetched over needed", "short", (("max by (node) (lazyfs_read_amplification_ratio@)", "{{node}}"),)),
    )),
    ("Trouble", (
        ("Failed requests", "short", (("sum by (kind) (increase(lazyfs_errors_total@[5m]))", "{{kind}}"),)),
        ("Requests sent again", "short",
         (("sum (increase(lazyfs_retries_total@[5m]))", "after errors"),
          ("sum (increase(lazyfs_hedges_total@[5m]))", "because they were late"),
          ("sum (increase(lazyfs_hedges_won_total@[5m]))", "of them faster"))),
        ("Hosts that are down", "short", (("max by (node) (lazyfs_hosts_down@)", "{{node}}"),)),
        ("Processes that died", "short",
         ((f"{BY_NODE} (increase(lazyfs_worker_restarts_total@[5m]))", "{{node}}"),)),
        ("Not what was pinned or published", "short",
         (("sum (increase(lazyfs_blobs_changed_total@[5m]))", "changed at the source"),
          ("sum (increase(lazyfs_digest_mismatches_total@[5m]))", "not the publisher's digest"),
          ("sum (increase(lazyfs_ranges_ignored_total@[5m]))", "whole objects for ranges"))),
    )),
    ("Cache and memory", (
        ("Cache", "bytes",
         ((f"{ONE_OF_NODE} (lazyfs_cache_bytes@)", "{{node}}"),
          (f"{ONE_OF_NODE} (lazyfs_cache_budget_bytes@)", "{{node}} budget"))),
        ("State of the cache's disk", "short",
         (("max by (node, state) (lazyfs_cache_state@)", "{{node}} {{state}}"),)),
        ("Disk errors, blocks mended and not stored", "short",
         (("sum by (what) (increase(lazyfs_cache_errors_total@[5m]))", "{{what}}"),
          ("sum (increase(lazyfs_blocks_repaired_total@[5m]))", "mended"),
          ("sum by (reason) (increase(lazyfs_blocks_declined_total@[5m]))", "not stored: {{reason}}"))),
        ("Memory", "bytes",
         ((f"{BY_NODE} (lazyfs_memory_bytes@)", "{{node}}"),
          (f"{BY_NODE} (lazyfs_memory_budget_bytes@)", "{{node}} budget"))),
    )),
)  # fmt: skip
"""Rows of panels: title, unit, queries; `@` is where the choice of nodes goes."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT, ACROSS = 8, 7, 3


def dashboard() -> str:
    """Return the dashboard as JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": WIDTH * ACROSS, "h": 1}})  # fmt: skip
        panels.extend(_panel(*panel, index, top + 1) for index, panel in enumerate(row))
        top += 1 + HEIGHT * -(-len(row) // ACROSS)
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return json.dumps(_around(panels), indent=1) + "\n"


def _panel(title: str, unit: str, queries: Sequence[Query], index: int, top: int) -> dict[str, Any]:
    across, down = index % ACROSS, index // ACROSS
    return {
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "gridPos": {"x": across * WIDTH, "y": top + down * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query.replace("@", SELECT), "legendFormat": legend}
            for number, (query, legend) in enumerate(queries)
        ],
    }


def _around(panels: list[dict[str, Any]]) -> dict[str, Any]:
    choices = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
        {"name": "node", "type": "query", "datasource": SOURCE, "label": "Node", "multi": True,
         "includeAll": True, "allValue": ".*", "refresh": 2,
         "query": {"query": "label_values(lazyfs_info, node)", "refId": "nodes"}},
    ]  # fmt: skip
    return {
        "title": "lazyfs", "uid": "lazyfs", "tags": ["lazyfs"], "schemaVersion": 39, "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"}, "templating": {"list": choices}, "panels": panels,
    }  # fmt: skip
