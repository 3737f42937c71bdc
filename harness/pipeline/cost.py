"""What a stage took: seconds with the device synchronised, and peak memory of host and device."""

from __future__ import annotations

import gc
import threading
import time
from types import TracebackType
from typing import Self

import psutil

from harness.models.device import peak_device_memory_bytes, reset_peak_device_memory, return_freed_memory, synchronize
from harness.pipeline.store import Cost

SAMPLE_SECONDS = 0.05


class Meter:
    """Measure what happens inside ``with Meter(device) as meter``; afterwards ``meter.cost`` tells.

    Host memory is the process's resident set, sampled every 50 ms; device memory is the allocator's own peak.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._peak = 0
        self._started = 0.0
        self.cost = Cost(seconds=0.0, peak_memory_bytes=0, peak_device_memory_bytes=None)

    def __enter__(self) -> Self:
        """Start the clock, with what the stage before has left behind given back."""
        gc.collect()
        return_freed_memory()
        reset_peak_device_memory(self._device)
        synchronize(self._device)
        self._sampler.start()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock; the cost is only told where the work ended well."""
        if kind is None:
            synchronize(self._device)
        seconds = time.perf_counter() - self._started
        self._stop.set()
        self._sampler.join()
        self.cost = Cost(
            seconds=seconds,
            peak_memory_bytes=self._peak,
            peak_device_memory_bytes=peak_device_memory_bytes(self._device),
        )

    def _sample(self) -> None:
        process = psutil.Process()
        while True:
            self._peak = max(self._peak, process.memory_info().rss)
            if self._stop.wait(SAMPLE_SECONDS):
                return
