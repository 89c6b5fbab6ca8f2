"""Becomes a gunicorn with four uvicorn workers that are recycled every 20 requests.

Usage: gunicorn_server.py LIFETIME_S [CGROUP.PROCS …]

Joins the cgroups, prints `listening PORT`, and is gunicorn from then on: this very process is the arbiter. It ends
with the process that started it, and by itself after LIFETIME_S seconds.
"""

import ctypes
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1

lifetime, *cgroups = sys.argv[1:]
for procs in cgroups:
    with open(procs, "w") as file:
        file.write(str(os.getpid()))
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
# Both outlive the exec; the workers tie themselves to the arbiter.
signal.alarm(int(lifetime))

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(128)
listener.set_inheritable(True)
print("listening", listener.getsockname()[1], flush=True)

arguments = ["-b", f"fd://{listener.fileno()}", "-k", "uvicorn_worker.UvicornWorker", "-w", "4"]
recycling = ["--max-requests", "20", "--max-requests-jitter", "5"]
quiet = ["--no-control-socket", "--log-level", "warning", "--chdir", os.path.dirname(os.path.abspath(__file__))]
python = [sys.executable, "-m", "gunicorn"]
os.execv(sys.executable, python + arguments + recycling + quiet + ["spawning_app:app"])
