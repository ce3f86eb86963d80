import pytest

from tests.vllm.engine import Engine, EngineFailed


@pytest.mark.vllm
def test_an_engine_that_fails_shows_its_last_lines(tmp_path):
    with (
        Engine(tmp_path / "engine") as engine,
        pytest.raises(EngineFailed, match="(?s)the engine ended.*KeyError: 'no such reader'"),
    ):
        engine.load("no such reader", tmp_path)
