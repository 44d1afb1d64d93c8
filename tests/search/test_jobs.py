"""Jobs and their journal: whoever runs them, whatever kills them, the answer is the same."""

import fcntl
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from search.work import counted, failing, odd_numbers, worker_id

from nnaq.crossing import Reporter
from nnaq.search.jobs import Job, JobError, Workers, processes
from nnaq.search.journal import Journal, JournalError, digest, opened

RUN = {"model": "abc", "recipe": "def"}
JOBS = [Job(f"job {n}", (n,)) for n in range(12)]
SCRIPT = Path(__file__).parent / "killed_run.py"


def run(work, context, jobs, pool=None, journal=None, reporter=None):
    with Workers(work, context, pool) as workers:
        return workers.run(jobs, journal, reporter)


def expected(offset=5, count=12):
    return run(odd_numbers, {"offset": offset}, [Job(f"job {n}", (n,)) for n in range(count)])


def reversed_executor(initializer, initargs):
    """An executor whose jobs finish in the order opposite to their submission."""

    class Backwards(ThreadPoolExecutor):
        def submit(self, function, /, *args):
            number = int(args[1].id.split()[1])
            return super().submit(_late, 0.02 * (len(JOBS) - number), function, *args)

    return Backwards(len(JOBS), initializer=initializer, initargs=initargs)


def _late(seconds, function, *args):
    time.sleep(seconds)
    return function(*args)


@pytest.mark.parametrize(
    "pool",
    [processes(2), partial(ThreadPoolExecutor, 3), reversed_executor],
    ids=["processes", "threads", "backwards"],
)
def test_every_executor_gives_the_results_of_one_process(pool):
    found = run(odd_numbers, {"offset": 5}, JOBS, pool)
    assert repr(found) == repr(expected())
    assert list(found) == [job.id for job in JOBS]


def test_results_are_what_the_journal_reads_back(tmp_path):
    with opened(tmp_path / "journal", RUN) as journal:
        first = run(odd_numbers, {"offset": 5}, JOBS, journal=journal)
    with opened(tmp_path / "journal", RUN) as journal:
        again = journal.results
    assert repr(first) == repr(again) == repr(expected())
    assert again["job 7"]["values"][0] == 7 / 3
    assert math.copysign(1, again["job 7"]["values"][2]) == -1


def test_finished_jobs_do_not_run_again(tmp_path):
    path, folder = tmp_path / "journal", tmp_path / "marks"
    folder.mkdir()
    said = []
    with opened(path, RUN) as journal:
        run(counted, str(folder), JOBS[:5], journal=journal)
    with opened(path, RUN) as journal:
        found = run(counted, str(folder), JOBS, journal=journal, reporter=Reporter(said.append))
    assert list(found.values()) == list(range(12))
    assert said == ["jobs: 5 of 12 are in the journal already"]


def test_workers_stay_between_runs():
    with Workers(worker_id, None, processes(1)) as here, Workers(worker_id, None, processes(2)) as workers:
        assert here.run([Job("a")]) == {"a": os.getpid()}
        first = set(workers.run([Job(f"a{n}") for n in range(6)]).values())
        second = set(workers.run([Job(f"b{n}") for n in range(6)]).values())
    assert os.getpid() not in first
    assert len(first | second) <= 2


def test_progress_counts_what_is_left(tmp_path):
    seen = []

    def track(items, what, total):
        seen.append((what, total))
        return items

    journal = Journal({"job 0": 1})
    run(odd_numbers, {"offset": 5}, JOBS, journal=journal, reporter=Reporter(track=track))
    assert seen == [("jobs", 11)]


@pytest.mark.parametrize(("seed", "workers"), [(0, 1), (1, 1), (2, 2), (3, 2)])
def test_a_killed_run_resumes_to_the_same_answer(tmp_path, seed, workers):
    path = tmp_path / "journal"
    lines = random.Random(seed).randint(1, 10)  # a header and so many jobs
    process = subprocess.Popen([sys.executable, SCRIPT, path, str(workers), "12", "0.03"])
    while not path.exists() or path.read_bytes().count(b"\n") <= lines:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = path.read_bytes()
    with opened(path, {"model": "m"}) as journal:
        kept = len(journal.results)
        found = run(odd_numbers, {"offset": 5}, JOBS, processes(workers), journal)
    assert lines <= kept <= 12
    assert repr(found) == repr(expected())
    assert path.read_bytes().startswith(left[: left.rfind(b"\n") + 1])


def test_a_killed_run_leaves_no_worker_behind(tmp_path):
    folder = tmp_path / "workers"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, SCRIPT, tmp_path / "journal", "2", "4", "0", folder])
    while len(workers := list(folder.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(is_running(int(worker.name)) for worker in workers):  # the suite's own time limit ends this
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_an_interrupt_leaves_the_journal_whole(tmp_path):
    path = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, SCRIPT, path, "2", "12", "0.05"], stderr=subprocess.PIPE, start_new_session=True
    )
    while not path.exists() or path.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate()
    assert process.returncode == -signal.SIGINT, said.decode()
    assert said.count(b"Traceback") == 1  # of the run, none of its workers
    assert path.read_bytes().endswith(b"\n")
    with opened(path, {"model": "m"}, say=pytest.fail) as journal:
        assert len(journal.results) >= 3


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_dropped(tmp_path, cut):
    path, said = tmp_path / "journal", []
    with opened(path, RUN) as journal:
        run(odd_numbers, {"offset": 5}, JOBS, journal=journal)
    path.write_bytes(path.read_bytes()[:-cut])
    with opened(path, RUN, say=said.append) as journal:
        assert list(journal.results) == [job.id for job in JOBS[:11]]
        found = run(odd_numbers, {"offset": 5}, JOBS, journal=journal)
    assert repr(found) == repr(expected())
    assert said == [f"journal {path}: dropped a last line that was cut short; its job runs again"]
    with opened(path, RUN, say=pytest.fail) as journal:
        assert repr(journal.results) == repr(expected())


@pytest.mark.parametrize("size", [0, 1, 10, 30])
def test_a_torn_first_line_is_written_anew(tmp_path, size):
    path = tmp_path / "journal"
    with opened(path, RUN):
        whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with opened(path, RUN) as journal:
        assert journal.results == {}
    assert path.read_bytes() == whole


def test_a_journal_of_another_run_is_refused(tmp_path):
    path = tmp_path / "journal"
    with opened(path, RUN) as journal:
        journal.add("a", "1")
    before = path.read_bytes()
    message = "belongs to another run: recipe and nnaq are not the same; start anew with --fresh, or name"
    with pytest.raises(JournalError, match=message), opened(path, {**RUN, "recipe": "other", "nnaq": "2"}):
        pass
    assert path.read_bytes() == before
    with opened(path, {**RUN, "recipe": "other"}, fresh=True) as journal:
        assert journal.results == {}


@pytest.mark.parametrize("text", ["no JSON\n", "[1]\n", '{"id": "a"}\n', "\x00\xff", "RIFF"])
@pytest.mark.parametrize("fresh", [False, True])
def test_what_is_no_journal_is_never_overwritten(tmp_path, text, fresh):
    path = tmp_path / "journal"
    path.write_text(text)
    with (
        pytest.raises(JournalError, match="is no journal of nnaq; name another file"),
        opened(path, RUN, fresh),
    ):
        pass
    assert path.read_text() == text


def test_journals_that_cannot_be_used(tmp_path):
    path = tmp_path / "journal"
    with pytest.raises(JournalError, match="cannot be opened: Is a directory"), opened(tmp_path, RUN):
        pass
    with opened(path, RUN) as journal:
        journal.add("a", "1")
        with pytest.raises(JournalError, match="in use by another run"), opened(path, RUN):
            pass
    whole = path.read_text()
    path.write_text(whole + 'garbage\n{"id": "b", "result": 1}\n')
    with pytest.raises(JournalError, match="is damaged: line 3 holds no result"), opened(path, RUN):
        pass
    path.write_text(whole.replace('"nnaq_journal": 1', '"nnaq_journal": 2'))
    with pytest.raises(JournalError, match="has format 2, this nnaq writes 1; start anew"), opened(path, RUN):
        pass


def test_a_journal_that_its_holder_removed_meanwhile_is_made_anew(tmp_path, monkeypatch):
    """Another run ends between our open and our lock: what we lock is then no file that lasts."""
    path, lock = tmp_path / "journal", fcntl.flock
    path.write_bytes(b"")

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with opened(path, RUN) as journal:
        journal.add("a", "1")
        with pytest.raises(JournalError, match="in use by another run"), opened(path, RUN):
            pass
    with opened(path, RUN) as journal:
        assert journal.results == {"a": 1}


def test_a_full_disk_is_said(tmp_path):
    with (
        pytest.raises(JournalError, match="journal /dev/full cannot be written: No space left on device"),
        open("/dev/full", "ab", buffering=0) as file,
    ):
        Journal({}, file).add("a", "1")


@pytest.mark.parametrize("pool", [None, processes(2), partial(ThreadPoolExecutor, 2)])
def test_an_error_names_its_job_and_ends_the_run(pool):
    journal = Journal()
    with pytest.raises(JobError, match="job 'job 4': no such thing"):
        run(failing, {"bad": 4, "how": "user"}, JOBS, pool, journal)
    assert "job 4" not in journal.results
    if pool is None:
        assert list(journal.results) == [f"job {n}" for n in range(4)]
    with pytest.raises(ZeroDivisionError) as caught:
        run(failing, {"bad": 4, "how": "bug"}, JOBS, pool)
    assert "in job 'job 4'" in caught.value.__notes__


def test_a_dead_worker_is_said():
    with pytest.raises(JobError, match=r"a worker died .* run again with fewer --jobs"):
        run(failing, {"bad": 4, "how": "exit"}, JOBS, processes(2))


def test_bad_jobs_are_refused():
    with pytest.raises(JobError, match="--jobs takes 1 or more workers, found 0"):
        processes(0)
    with pytest.raises(ValueError, match="two jobs have the same id"):
        run(odd_numbers, {"offset": 5}, [JOBS[0], JOBS[0]])
    with pytest.raises(TypeError, match="not JSON serializable") as caught:
        run(lambda context: Future(), None, [Job("x")])
    assert caught.value.__notes__ == ["in job 'x'"]


def test_digests_tell_where_parts_end():
    assert digest(b"ab", b"c") != digest(b"a", b"bc") != digest(b"abc")
    assert len(json.dumps(digest())) == 34
