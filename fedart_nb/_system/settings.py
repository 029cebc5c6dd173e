"""Facts about this machine: device, threads, folders, fast mode; torch is imported only to find a device."""

from __future__ import annotations

import os
from pathlib import Path

from fedart_nb._system.folders import cache_folder, data_folder

__all__ = [
    "cache_folder",
    "cpu_limit",
    "data_folder",
    "device",
    "fast_bfloat16",
    "fast_mode",
    "kernel_location",
    "limit_threads",
]


def fast_mode() -> bool:
    """True when `FEDART_FAST=1`: notebooks and tests take as few steps as still show something."""
    return os.environ.get("FEDART_FAST", "") not in ("", "0")


def cpu_limit() -> int:
    """CPU cores this process may really use: `FEDART_THREADS` or `CPU_LIMIT`, else the affinity mask.

    In a container torch counts the cores of the whole node, and too many threads run several times slower than one.
    """
    for name in ("FEDART_THREADS", "CPU_LIMIT"):
        try:
            return max(1, int(float(os.environ[name])))
        except (KeyError, ValueError):
            continue
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # pragma: no cover - macOS and Windows
        return os.cpu_count() or 1


def limit_threads() -> int:
    """Cap torch's threads at `cpu_limit()`; returns the number in force."""
    import torch

    torch.set_num_threads(min(cpu_limit(), torch.get_num_threads()))
    return torch.get_num_threads()


def fast_bfloat16() -> bool:
    """True where the processor multiplies bfloat16 numbers itself (AVX512_BF16 or AMX); `FEDART_BF16=0` or `1` decides.

    Elsewhere torch converts back and forth, which is slower than float32. Only Linux tells; other systems say False.
    """
    chosen = os.environ.get("FEDART_BF16", "")
    if chosen:
        return chosen != "0"
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # pragma: no cover - macOS and Windows
        return False
    flags = next((line for line in told.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def device() -> str:
    """`FEDART_DEVICE` if set, else "cuda" or "mps" where torch finds one, else "cpu"."""
    chosen = os.environ.get("FEDART_DEVICE")
    if chosen:
        return chosen
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def kernel_location() -> tuple[str, bool]:
    """Where this kernel runs, in words, and whether that is a machine that other people operate.

    On Binder, Colab or a JupyterHub, "local" means the pod: pictures that are loaded leave the artist's computer.
    """
    if os.environ.get("BINDER_SERVICE_HOST") or os.environ.get("FEDART_BINDER"):
        return "a public Binder machine: use the sample art, not your own", True
    if os.environ.get("COLAB_RELEASE_TAG"):
        return "a Google Colab machine: pictures that you load are copied there", True
    if os.environ.get("JUPYTERHUB_USER"):
        return "a shared JupyterHub machine: pictures that you load are copied there", True
    return "this computer", False
