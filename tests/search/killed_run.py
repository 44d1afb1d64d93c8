"""A run for tests to kill: killed_run.py JOURNAL WORKERS JOBS SECONDS [FOLDER for endless jobs]."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from search.work import endless, odd_numbers

from nnaq.search.jobs import Job, Workers, processes
from nnaq.search.journal import opened

if __name__ == "__main__":
    # Python leaves an interrupt ignored where its parent ignored it, as shells do for what runs behind them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    path, workers, count, seconds, *folder = sys.argv[1:]
    jobs = [Job(f"job {n}", (n,)) for n in range(int(count))]
    work, context = (
        (endless, folder[0]) if folder else (odd_numbers, {"offset": 5, "seconds": float(seconds)})
    )
    with (
        opened(Path(path), {"model": "m"}) as journal,
        Workers(work, context, processes(int(workers))) as crew,
    ):
        crew.run(jobs, journal)
