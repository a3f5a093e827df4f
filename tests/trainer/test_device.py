"""Where networks run: named devices, and memory that is not given back between layers."""

import platform
import subprocess
import sys

import pytest

from corpus.errors import EncoderError
from trainer.runtime.device import choose_device, keep_freed_memory


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(EncoderError, match=name):
        choose_device(name)


def test_freed_memory_stays_with_the_process_under_glibc() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_large_activations_are_not_mapped_anew_after_a_device_was_chosen() -> None:
    """In a process of its own: the allocator's habits stay with a process."""
    pages = """
import resource, torch
from trainer.runtime.device import choose_device
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
by_default = faults()
choose_device("cpu")
faults()
print(by_default, faults())
"""
    result = subprocess.run([sys.executable, "-c", pages], capture_output=True, text=True, check=True)
    by_default, stored = map(int, result.stdout.split())
    # Another C library has no such setting.
    assert stored < by_default / 10 or platform.libc_ver()[0] != "glibc"
