#!/usr/bin/env python3
"""Serves one GGUF model with llama.cpp's own HTTP server, which xllamacpp runs inside of this process.

Owns the server's arguments and its end. Never downloads anything (`cargo xtask setup --engine` does), and never
outlives --lifetime, so that a test that was killed leaves no engine behind. Run by `cargo xtask demo --engine
llama.cpp` and by the engine tests, with the python and the model that target/engine/engine.json names.

Prints one line, `listening PORT`, once /health answers; the engine's log goes to stderr. Needs xllamacpp alone.
"""

import argparse
import os
import select
import sys
import threading
import time
import urllib.error
import urllib.request

import xllamacpp

# The model's size and the time it takes to read it bound this; 100 MB take under a second.
START_TIMEOUT_S = 60.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="llama.cpp's HTTP server on 127.0.0.1")
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--alias", help="name in /v1/models (the file's name without its extension)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    # With as many engine threads as cores, one other busy process costs the engine most of its speed.
    parser.add_argument("--threads", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
    parser.add_argument("--ctx", type=int, default=4096, help="tokens of context, shared by the slots")
    parser.add_argument("--parallel", type=int, default=1, help="requests decoded at a time")
    parser.add_argument("--lifetime", type=float, default=600.0, metavar="SECONDS", help="exits after that")
    parser.add_argument("--until-unread", action="store_true", help="exits when nobody reads its stdout any more")
    return parser.parse_args()


def server_params(args: argparse.Namespace) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.model_alias = {args.alias or os.path.splitext(os.path.basename(args.model))[0]}
    params.port = args.port
    params.n_ctx = args.ctx
    params.n_parallel = args.parallel
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    params.endpoint_metrics = True
    return params


def wait_until_healthy(address: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1.0) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass  # 503 while the model loads, refused before that
        if time.monotonic() > deadline:
            raise SystemExit(f"llama_server: {address} did not answer in {START_TIMEOUT_S:.0f} s")
        time.sleep(0.02)


def exit_when_unread() -> None:
    """A pipe whose reading end is closed reports an error: whoever started this server is gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    poll.poll()
    os._exit(0)


def main() -> int:
    args = arguments()
    if not os.path.isfile(args.model):
        print(f"llama_server: no model at {args.model}", file=sys.stderr)
        return 2
    # Whatever the engine is doing by then, and without its tear-down.
    end = threading.Timer(args.lifetime, os._exit, args=(0,))
    end.daemon = True
    end.start()

    server = xllamacpp.Server(server_params(args))
    wait_until_healthy(server.listening_address)
    print(f"listening {server.listening_address.rsplit(':', 1)[1]}", flush=True)
    if args.until_unread:
        threading.Thread(target=exit_when_unread, daemon=True).start()
    end.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
