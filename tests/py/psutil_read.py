"""Reads processes as a sampler does with psutil, and prints the CPU microseconds that one reading took.

Usage: psutil_read.py PID…
"""

import sys
import time

import psutil

ROUNDS = 10

processes = [psutil.Process(int(pid)) for pid in sys.argv[1:]]


def look():
    for process in processes:
        with process.oneshot():
            process.cpu_times(), process.memory_info(), process.num_threads()


look()
before = time.process_time()
for _ in range(ROUNDS):
    look()
print((time.process_time() - before) * 1e6 / ROUNDS / len(processes), flush=True)
