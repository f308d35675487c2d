"""The double has the names and arguments of what it stands for."""

import pytest

from tests.model_overrides.tgi import double, signatures

pytestmark = [pytest.mark.double, pytest.mark.usefixtures("tgi_double")]


def test_the_double_is_as_the_tables_say() -> None:
    assert signatures.differences() == []


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double.causal_lm.CausalLMBatch, "filter", lambda self, ids: self)
    monkeypatch.delattr(double.generate_pb2, "Image")
    with pytest.raises(AttributeError):
        signatures.differences()
    monkeypatch.setattr(double.generate_pb2, "Image", double.generate_pb2.Input, raising=False)
    found = signatures.differences()
    assert any(line.startswith("models.causal_lm.CausalLMBatch.filter(self ids)") for line in found)
    assert "Image has no data, mimetype" in found
