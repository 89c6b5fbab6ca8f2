"""Follows a process tree as a poller does: psutil's children(recursive=True), over and over.

Usage: psutil_poll.py ROOT INTERVAL_S. Prints `ready` after the first look, and when its standard input ends how many
processes it has seen, as JSON.
"""

import json
import select
import sys
import time

import psutil

root, interval = psutil.Process(int(sys.argv[1])), float(sys.argv[2])
# A Process is told from another with the same pid by its start.
seen = set(root.children(recursive=True))
print("ready", flush=True)
due = time.monotonic()
while True:
    # Where a look takes longer than the interval, the next one follows at once.
    due = max(due + interval, time.monotonic())
    if select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
        break
    seen.update(root.children(recursive=True))
print(json.dumps({"seen": len(seen)}))
