"""Budgets: what their texts mean, and what is no budget."""

import math

import pytest

from nnaq.errors import NnaqError
from nnaq.search.budget import figure_of, must_be_known, origin_of, parse_bound, parse_budgets
from nnaq.tasks.metrics import Figure

CLOCK = 500_000_000
FIGURES = {
    "sqnr:a": Figure(None, 30.0, "dB"),
    "sqnr:b": Figure(None, 20.0, "dB"),
    "mean_absolute_error:a": Figure(None, 0.1, "1"),
    "mean_absolute_error:b": Figure(None, 0.3, "1"),
    "agreement": Figure(None, 0.98, "1"),
    "wer": Figure(7.0, 7.4, "%"),
    "unsure_agreement": Figure(None, None, "1"),
}


@pytest.mark.parametrize(
    ("text", "figure", "limit"),
    [
        ("sqnr>=25", "sqnr", 25),
        ("sqnr:out/0>=25dB", "sqnr:out/0", 25),
        (" agreement >= .99 ", "agreement", 0.99),
        ("agreement>=99%", "agreement", 0.99),
        ("agreement >= 99.5 %", "agreement", 0.995),
        ("auc:out>=97%", "auc:out", 0.97),
        ("wer<=8%", "wer", 8),
        ("wer<=8", "wer", 8),
        ("bytes<=300k", "bytes", 300_000),
        ("bytes<=300kB", "bytes", 300_000),
        ("bytes<=300KB", "bytes", 300_000),
        ("bytes<=300 KB", "bytes", 300_000),
        ("bytes<=300KiB", "bytes", 307_200),
        ("bytes<=1.5MB", "bytes", 1_500_000),
        ("bytes<=300Ki", "bytes", 307_200),
        ("bytes<=2MiB", "bytes", 2 << 20),
        ("bytes<=4096", "bytes", 4096),
        ("bytes<=4096B", "bytes", 4096),
        ("latency<=250us", "latency", 125_000),
        ("latency<=0.25ms", "latency", 125_000),
        ("latency<=9000cycles", "latency", 9000),
        ("energy<=3uJ", "energy", 3e6),
        ("energy<=1e-3mJ", "energy", 1e6),
    ],
)
def test_a_bound_is_read_in_its_unit(text, figure, limit):
    bound = parse_bound(text, CLOCK)
    assert bound.figure == figure
    assert bound.limit == pytest.approx(limit, rel=1e-12)
    assert not bound.is_change
    assert bound.text == text.strip()


def test_bounds_are_joined_by_commas_or_given_one_by_one():
    joined = parse_budgets(["agreement>=0.99, bytes<=300k", "latency<=1ms"], CLOCK)
    assert [b.figure for b in joined] == ["agreement", "bytes", "latency"]
    assert [b.is_cost for b in joined] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "takes FIGURE>=NUMBER"),
        ("agreement", "takes FIGURE>=NUMBER"),
        ("agreement>0.9", "takes FIGURE>=NUMBER"),
        ("agreement>=much", "found 'agreement>=much'"),
        ("agreement>=0.9.9", "takes FIGURE>=NUMBER"),
        (">=3", "takes FIGURE>=NUMBER"),
        ("agreement<=0.9", "better when higher; write agreement>="),
        ("sqnr:out<=20", "better when higher"),
        ("bytes>=3k", "better when lower; write bytes<="),
        ("wer>=3", "better when lower"),
        ("bytes<=3q", "counted in k, K, M, Ki, Mi, B, kB, KB, MB, KiB, MiB, found 'q'"),
        ("bytes<=60%", "counted in k, K"),
        ("latency<=3", "counted in cycles, ns, us, µs, ms, s, found none"),
        ("agreement>=99", "agreement is a share, at most 1; write a number such as 0.99, or 99%"),
        ("agreement>=120%", "is a share, at most 1"),
        ("sqnr>=25%", "counted in dB, found '%'"),
        ("wer<=3dB", "counted in %, found 'dB'"),
        ("mean_absolute_error<=1%", "takes a number without a unit, found '%'"),
        ("energy<=3", "counted in pJ, nJ, uJ"),
        ("agreement>=99k", "counted in %, found 'k'"),
        ("bytes<=3k,bytes<=4k", "bounds 'bytes' twice"),
        ("bytes<=300,000", "several parted by commas, found '000'"),
    ],
)
def test_what_is_no_budget_is_told_in_one_sentence(text, words):
    with pytest.raises(NnaqError) as error:
        parse_budgets([text], CLOCK)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_figure_the_metric_does_not_give_is_refused_with_those_it_gives():
    must_be_known(parse_budgets(["sqnr>=1,sqnr:b>=1,agreement>=0.5,bytes<=3,wer<=9"], CLOCK), FIGURES)
    with pytest.raises(NnaqError) as error:
        must_be_known(parse_budgets(["cer<=3"], CLOCK), FIGURES)
    assert "no figure 'cer', only bytes, latency, energy, sqnr, mean_absolute_error, agreement" in str(
        error.value
    )
    with pytest.raises(NnaqError, match="did you mean 'agreement'"):
        must_be_known(parse_budgets(["agrement>=0.9"], CLOCK), FIGURES)


def test_a_figure_without_an_output_is_the_worst_of_all_outputs():
    assert figure_of(parse_bound("sqnr>=1"), FIGURES) == 20
    assert figure_of(parse_bound("sqnr:a>=1"), FIGURES) == 30
    assert figure_of(parse_bound("mean_absolute_error<=1"), FIGURES) == 0.3


def test_no_noise_at_all_is_an_infinite_sqnr_and_no_signal_is_none():
    silent = {"sqnr:a": Figure(None, None, "dB"), "mean_absolute_error:a": Figure(None, 0.0, "1")}
    assert figure_of(parse_bound("sqnr>=1"), silent) == math.inf
    silent["mean_absolute_error:a"] = Figure(None, 0.1, "1")
    with pytest.raises(NnaqError, match="sqnr has no value on the calibration recordings"):
        figure_of(parse_bound("sqnr>=1"), silent)
    with pytest.raises(NnaqError, match="no value"):
        figure_of(parse_bound("unsure_agreement>=0.5"), FIGURES)


def test_a_sign_makes_a_change_of_the_real_models_figure_or_of_the_8_bit_models():
    wer = parse_bound("wer<=+0.5")
    assert wer.is_change
    assert origin_of(wer, FIGURES) == 7.0
    assert wer.at(origin_of(wer, FIGURES)).holds(7.5)
    assert not wer.at(7.0).holds(7.6)
    agreement = parse_bound("agreement>=-0.01")
    assert origin_of(agreement, FIGURES) == 0.98
    assert agreement.at(0.98).limit == pytest.approx(0.97)
    assert parse_bound("agreement>=0.9").at(5) == parse_bound("agreement>=0.9")
    assert parse_bound("bytes<=-100k").limit == -100_000


def test_a_change_in_percent_is_one_in_points():
    assert parse_bound("agreement>=-0.2%").at(0.98).limit == pytest.approx(0.978)
    assert parse_bound("wer<=+0.5%").at(7.0).limit == pytest.approx(7.5)
