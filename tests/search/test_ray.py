"""Jobs on a Ray cluster of two nodes; skipped where Ray is not installed."""

import sys
from functools import partial
from pathlib import Path

import pytest
from search.test_sensitivity import measured
from search.work import failing, node_id, odd_numbers

from nnaq.search.jobs import Job, JobError, Workers
from nnaq.search.journal import Journal
from nnaq.search.ray_executor import RayError, RayExecutor

JOBS = [Job(f"job {n}", (n,)) for n in range(12)]


def run(work, context, pool=None, journal=None):
    with Workers(work, context, pool) as workers:
        return workers.run(JOBS, journal)


def test_without_ray_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayError, match=r"needs the package ray; install it with .*nnaq\[distributed\]"):
        RayExecutor(2)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="ray is not installed: pip install 'nnaq[distributed]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for workers
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        found.add_node(num_cpus=1)
        yield found.address
        found.shutdown()


def test_a_cluster_gives_the_results_of_one_process(cluster):
    found = run(odd_numbers, {"offset": 5}, partial(RayExecutor, 2, cluster))
    assert repr(found) == repr(run(odd_numbers, {"offset": 5}))


def test_both_nodes_work(cluster):
    assert len(set(run(node_id, None, partial(RayExecutor, None, cluster)).values())) == 2


def test_measurements_are_those_of_one_process(cluster):
    assert repr(measured(partial(RayExecutor, 2, cluster))) == repr(measured())


def test_an_error_names_its_job(cluster):
    journal = Journal()
    with pytest.raises(JobError, match="job 'job 4': no such thing"):
        run(failing, {"bad": 4, "how": "user"}, partial(RayExecutor, 2, cluster), journal)
    assert "job 4" not in journal.results
    with pytest.raises(ZeroDivisionError) as caught:
        run(failing, {"bad": 4, "how": "bug"}, partial(RayExecutor, 2, cluster))
    assert "in job 'job 4'" in caught.value.__notes__


def test_a_dead_worker_is_said(cluster):
    with pytest.raises(JobError, match="a worker died"):
        run(failing, {"bad": 4, "how": "exit"}, partial(RayExecutor, 2, cluster))


def test_a_cluster_that_does_not_answer(cluster):
    with pytest.raises(RayError, match=r"no Ray cluster at 127\.0\.0\.1:1: .*refused; start one with"):
        RayExecutor(1, "127.0.0.1:1")
