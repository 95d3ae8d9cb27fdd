"""What is read of /proc/cpuinfo, on x86, on ARM and where there is none."""

from __future__ import annotations

import platform

import pytest

from shared.system import processor

X86 = """processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu sse avx avx2 {more}
bugs\t\t: avx512f
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd {more}\nCPU part\t: 0xd01\n"


@pytest.mark.parametrize(
    ("text", "more", "vectors", "bf16"),
    [
        (X86, "", "avx2", False),
        (X86, "avx512f", "avx512f", False),
        (X86, "avx512f avx512_bf16", "avx512_bf16", True),
        (X86, "avx512f avx512_bf16 amx_bf16", "amx_bf16", True),
        (ARM, "", "asimd", False),
        (ARM, "sve bf16", "sve", True),
        ("", "", None, False),
    ],
)
def test_instructions(text, more, vectors, bf16, monkeypatch):
    monkeypatch.setattr(processor, "cpuinfo", lambda: text.format(more=more))
    assert processor.vectors() == vectors
    assert processor.multiplies_bf16() is bf16


def test_the_name_and_what_tells_processors_of_one_name_apart(monkeypatch):
    texts = [X86.format(more=more) for more in ("", "avx512f")]
    seen = []
    for text in texts:
        monkeypatch.setattr(processor, "cpuinfo", lambda text=text: text)
        assert processor.name() == "AMD EPYC"
        seen.append(processor.identity())
    assert len(set(seen)) == 2
    assert "bugs" not in seen[0]


def test_where_there_is_no_cpuinfo_the_architecture_is_the_name(monkeypatch):
    monkeypatch.setattr(processor, "cpuinfo", lambda: "")
    assert processor.name() in (platform.processor(), platform.machine())
    assert processor.identity() == processor.name()
    assert processor.cores() >= 1
