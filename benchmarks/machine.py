"""The machine that figures were taken on: processor, memory, versions; no names, addresses or paths."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

FLAGS_THAT_MATTER: Final = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "sha_ni")
"""Processor features that decide which kernels run."""

PACKAGES: Final = ("torch", "numpy", "pydicom", "highdicom", "openvino", "numba")


def describe_machine() -> dict[str, Any]:
    """What a reader needs to compare figures."""
    model, flags = _processor()
    return {
        "processor": model,
        "flags": [flag for flag in FLAGS_THAT_MATTER if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def load_1min() -> float:
    """How busy the machine was before we added to it: processes that ran or waited, mean of a minute."""
    return round(os.getloadavg()[0], 2)


def _processor() -> tuple[str, set[str]]:
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.machine(), set()
    model = fields.get("model name", platform.machine())
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return f"{model} ({', '.join(numbers)})" if numbers else model, set(fields.get("flags", "").split())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
