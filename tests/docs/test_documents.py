"""The documents say what is true: every promise has its test, every metric and log event its page."""

import re
from pathlib import Path

import pytest

from lazyfs.errors import LazyfsError
from lazyfs.telemetry.logs import DROPPED
from lazyfs.telemetry.metrics import METRICS
from lazyfs_csi import driver, mounter
from scripts import configuration_docs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SEMANTICS = (DOCS / "semantics.md").read_text()
CSI = (DOCS / "csi.md").read_text()
OPERATING = (DOCS / "operating.md").read_text()
SOURCES = (DOCS / "sources.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SEMANTICS + SOURCES)))


def test_every_paragraph_of_the_semantics_names_its_tests():
    paragraphs = re.findall(r"^(\*\*.+?)(?=\n\n|\Z)", SEMANTICS, re.MULTILINE | re.DOTALL)

    assert len(paragraphs) > 20
    assert [] == [paragraph for paragraph in paragraphs if "\nTests: `tests/" not in paragraph]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file, name):
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_row_about_credentials_and_errors_of_sources_names_its_tests():
    tables = SOURCES.partition("## Credentials")[2].partition("## The Hub")[0]
    rows = re.findall(r"^\| (?!source \||what happens \||---)(.*) \|$", tables, re.MULTILINE)

    assert len(rows) > 20
    assert [] == [row for row in rows if "`tests/" not in row]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_documented(metric):
    assert f"`{metric.name}`" in OPERATING


def test_no_metric_is_documented_that_does_not_exist():
    assert {metric.name for metric in METRICS} == set(re.findall(r"`(lazyfs_\w+)`", OPERATING))


def events():
    """Every event that the program logs at info or above."""
    calls = re.compile(r"(?<!`)log\.(?:info|warning|error|exception)\(\s*\"(\w+)")
    dropped = DROPPED.split()[0]
    return {dropped} | {
        event for file in (ROOT / "lazyfs").rglob("*.py") for event in calls.findall(file.read_text())
    }


def test_every_log_event_is_documented():
    assert events() == set(re.findall(r"^\| `(\w+)` \| (?:info|warning|error) \|", OPERATING, re.MULTILINE))


def test_every_log_event_of_the_csi_driver_is_documented():
    calls = re.compile(r"log\.(?:info|warning|error|exception|log)\(\s*(?:level,\s*)?\"(\w+)")
    found = {
        event
        for file in (ROOT / "csi" / "lazyfs_csi").glob("*.py")
        for event in calls.findall(file.read_text())
    }
    documented = re.findall(r"^\| `(\w+)` \| (?:info|warning|error) \|", CSI, re.MULTILINE)

    assert found == set(documented)


@pytest.mark.parametrize(
    "known", [driver.settings(), mounter.settings()], ids=["lazyfs-csi", "lazyfs-mounter"]
)
def test_every_option_of_the_csi_driver_is_documented(known):
    assert [] == [name for name in known.names() if f"`--{name}`" not in CSI]


def test_the_exit_codes_are_those_of_the_errors():
    def below(kind):
        return {kind} | {found for child in kind.__subclasses__() for found in below(child)}

    documented = {int(code) for code in re.findall(r"^\| (\d) \|", configuration_docs.FOOT, re.MULTILINE)}

    assert documented == {0} | {kind.exit_code for kind in below(LazyfsError)}


def test_the_page_of_options_is_made_from_the_options():
    assert configuration_docs.document() == configuration_docs.FILE.read_text()


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")]), ids=str)
def test_a_link_leads_to_a_file(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())

    assert [] == [link for link in links if not (page.parent / link).exists()]
