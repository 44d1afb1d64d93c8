"""Every weight alone on every palette: whoever measures, the figures are those of a direct crossing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from search.small_models import frames, network

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Reporter, lower_graph, outputs_of
from nnaq.quantize.recipe import parse_recipe
from nnaq.search.candidates import candidates
from nnaq.search.jobs import Workers, processes
from nnaq.search.journal import Journal
from nnaq.search.measure import Laboratory, bench_of, measure_model
from nnaq.simulate import simulate
from nnaq.targets import load_target
from nnaq.tasks.metrics import sqnr_db

TARGET = load_target("edge8-sub8")
RECIPE = parse_recipe('name = "small"\n[ports]\ntime = { x = 0, y = 0 }\n[quantize]\nactivations = "8"')
CHOICES = [PaletteChoice(2), PaletteChoice(3, "per_group", 4)]


def bench():
    graph = network(inputs=8, hidden=12, outputs=4)
    calibration, held_out = frames(graph, 30, 20), frames(graph, 25, seed=2)
    lowering = lower_graph(graph, calibration, held_out, RECIPE, TARGET)
    found = candidates(lowering, CHOICES)
    assert list(found) == ["w1", "w2"]
    models = [{weight: choice} for weight, own in found.items() for choice in own]
    return bench_of(lowering, calibration), models


def measured(pool=None):
    shared, models = bench()
    with Workers(measure_model, shared, pool) as workers:
        return Laboratory(workers, Journal(), Reporter()).on_calibration([{}, *models])


@pytest.mark.parametrize("pool", [processes(2), partial(ThreadPoolExecutor, 2)], ids=["processes", "threads"])
def test_every_executor_measures_the_same(pool):
    assert repr(measured(pool)) == repr(measured())


def test_figures_are_those_of_a_direct_crossing():
    shared, models = bench()
    before, recordings = shared.crossing, shared.recordings["calibration"]
    exact = outputs_of(before.real, recordings)
    for palettes, found in zip([{}, *models], measured(), strict=True):
        options = replace(before.options, palettes=palettes)
        integer = pipeline.cross(before.real, before.ranges, options).integer
        y = outputs_of(integer, recordings)["y"]
        assert found.figures["sqnr:y"].integer == sqnr_db(exact["y"], y).db
        assert found.costs.cycles == simulate(integer, TARGET).cycles_per_step
        assert np.isclose(found.noise, np.square(exact["y"] - y).sum() / np.square(exact["y"]).sum())
