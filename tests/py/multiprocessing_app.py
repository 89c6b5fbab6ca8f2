"""Two workers of Python's multiprocessing, started by the method that is named."""

import multiprocessing
import sys
import time


def work():
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        time.sleep(0.01)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    workers = [multiprocessing.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
