"""Processors as Linux describes them."""

from pathlib import Path

import pytest
import torch

from nmcl.pipeline import processor

EPYC = "processor\t: 0\nmodel name\t: AMD EPYC 7002\nflags\t\t: fpu sse avx avx2 bmi1\n"
XEON = "model name\t: Xeon\nflags\t\t: avx2 avx512f amx_bf16 amx_tile\nmodel name\t: Xeon\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\n"


@pytest.mark.parametrize(
    ("text", "model", "names"),
    [(EPYC, "AMD EPYC 7002", ["AVX2"]), (XEON, "Xeon", ["AVX2", "AVX-512", "bfloat16", "AMX"])],
)
def test_instructions_are_read_from_flags(
    text: str, model: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    found = processor.instructions()
    assert found is not None
    assert [name for name, is_there in found.items() if is_there] == names
    assert processor.model() == model


def test_other_systems_and_processors_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.instructions() is None
    (tmp_path / "cpuinfo").write_text(ARM)
    assert processor.instructions() is None
    assert processor.model()


def test_this_machine_is_what_torch_sees() -> None:
    found, seen = processor.instructions(), torch.cpu.get_capabilities()
    if found is not None:
        assert found["AVX2"] == seen["avx2"]
        assert found["AVX-512"] == seen["avx512_f"]
        assert found["AMX"] == seen["amx_tile"]
