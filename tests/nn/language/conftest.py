import pytest

from recbench.nn import bfloat16


@pytest.fixture(autouse=True)
def native_bfloat16(monkeypatch, request):
    """These tests mean the same on every processor: one that has products in bfloat16. What the others do, test_emulated asks, and whoever reads a
    real language model, which would take minutes."""
    if request.node.get_closest_marker("llm"):
        return
    monkeypatch.setattr(bfloat16, "_has_bfloat16", lambda device: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
