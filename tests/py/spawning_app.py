"""An ASGI app in which every request spawns a helper, and which keeps the list that the report is held against.

APP_LOG gets a line `worker PID` or `helper PID` for each process; APP_HELPER is the helper's program, with its
arguments.
"""

import asyncio
import ctypes
import os
import shlex
import signal

PR_SET_PDEATHSIG = 1

LOG = os.open(os.environ["APP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
HELPER = shlex.split(os.environ["APP_HELPER"])


def log(kind, pid):
    # One write, so that lines of several workers don't mix.
    os.write(LOG, f"{kind} {pid}\n".encode())


async def lifespan(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # With a killed arbiter nobody would end it.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            log("worker", os.getpid())
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    helper = await asyncio.create_subprocess_exec(*HELPER)
    log("helper", helper.pid)
    code = await helper.wait()
    await send({"type": "http.response.start", "status": 200 if code == 0 else 500, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
