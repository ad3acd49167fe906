#!/usr/bin/env python3
"""Makes expected.json, what tests/corpus.rs compares with, by SciPy; needs scipy (the file names the version).

    python3 generate.py

SciPy has no two-proportion z-test of its own: its p-value is that of the normal distribution at the pooled statistic, which is
checked against scipy.stats.chi2_contingency, whose statistic is the square; Newcombe's interval is made of the Wilson intervals
of scipy.stats.binomtest.
"""
import json
import math
import pathlib
import random

import numpy
import scipy
from scipy import stats

HERE = pathlib.Path(__file__).parent


def clean(value):
    value = float(value)
    return value if math.isfinite(value) else None


def wilson(successes, samples):
    interval = stats.binomtest(successes, samples).proportion_ci(0.95, method="wilson")
    return [successes / samples, clean(interval.low), clean(interval.high)]


def rates(x1, n1, x2, n2):
    (p1, l1, u1), (p2, l2, u2) = wilson(x1, n1), wilson(x2, n2)
    difference = p2 - p1
    interval = [difference, difference - math.hypot(p2 - l2, u1 - p1), difference + math.hypot(u2 - p2, p1 - l1)]
    pooled = (x1 + x2) / (n1 + n2)
    if pooled in (0.0, 1.0):
        return {"statistic": None, "pValue": 1.0, "difference": interval}
    z = difference / math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    p_value = 2 * stats.norm.sf(abs(z))
    table = stats.chi2_contingency([[x1, n1 - x1], [x2, n2 - x2]], correction=False)
    assert math.isclose(table.statistic, z * z, rel_tol=1e-9, abs_tol=1e-12), (x1, n1, x2, n2)
    assert math.isclose(table.pvalue, p_value, rel_tol=1e-9), (x1, n1, x2, n2)
    return {"statistic": clean(z), "pValue": clean(p_value), "difference": interval}


def mean(sample):
    middle, error = numpy.mean(sample), stats.sem(sample)
    low, high = stats.t.interval(0.95, len(sample) - 1, loc=middle, scale=error)
    return [clean(middle), clean(low), clean(high)]


def means(control, other):
    # The test does not know where 0 is: values far from it are moved there first, which is exact, as SciPy's means of them would
    # have only the digits that their size leaves.
    origin = control[0] if abs(control[0]) > 1e5 else 0.0
    near, far = numpy.array(control) - origin, numpy.array(other) - origin
    result = stats.ttest_ind(far, near, equal_var=False)
    interval = result.confidence_interval(0.95)
    difference = numpy.mean(far) - numpy.mean(near)
    return {
        "control": control, "other": other, "mean": mean(other), "statistic": clean(result.statistic),
        "degrees": clean(result.df), "pValue": clean(result.pvalue),
        "difference": [clean(difference), clean(interval.low), clean(interval.high)],
    }


def moments(m1, s1, n1, m2, s2, n2):
    """Groups too large to write down: by their means, standard deviations and sizes."""
    result = stats.ttest_ind_from_stats(m2, s2, n2, m1, s1, n1, equal_var=False)
    e1, e2 = s1 * s1 / n1, s2 * s2 / n2
    degrees = (e1 + e2) ** 2 / (e1 * e1 / (n1 - 1) + e2 * e2 / (n2 - 1))
    half = stats.t.ppf(0.975, degrees) * math.sqrt(e1 + e2)
    return {
        "groups": [[m1, s1, n1], [m2, s2, n2]], "statistic": clean(result.statistic), "degrees": clean(degrees),
        "pValue": clean(result.pvalue), "difference": [m2 - m1, m2 - m1 - half, m2 - m1 + half],
    }


def samples():
    chance = random.Random(20170)
    draw = lambda count, middle, spread, digits=3: [round(chance.gauss(middle, spread), digits) for _ in range(count)]
    yield [1.0, 2.0, 3.0], [4.0, 5.0, 7.0]
    yield [1.0, 2.0], [1.5, 9.0]
    yield [12.1, 11.8, 12.9, 13.3], [12.0, 12.4, 11.9, 13.0, 12.2, 12.8]
    yield draw(30, 100, 15), draw(25, 108, 40)
    yield draw(200, 0, 1), draw(150, 0.1, 1)
    yield draw(40, 5, 0.01, 6), draw(60, 5.02, 3, 6)
    yield draw(50, 250, 30), draw(50, 500, 60)
    # Far from 0, where naive sums of squares keep no digits.
    yield draw(40, 1e9, 1), draw(45, 1e9 + 0.5, 2)
    yield draw(30, -5e6, 0.5), draw(20, -5e6 + 0.2, 0.4)
    # Skewed, as times are.
    yield [round(chance.lognormvariate(4, 1), 2) for _ in range(80)], [round(chance.lognormvariate(4.2, 1), 2) for _ in range(90)]
    yield [3.0, 3.0, 3.0, 3.0], [2.0, 3.0, 4.0, 5.0]
    yield [1e-9, 2e-9, 3e-9, 2.5e-9], [2e-9, 4e-9, 6e-9]


def main():
    counts = [
        (45, 100, 60, 100), (0, 50, 0, 60), (50, 50, 60, 60), (0, 50, 5, 50), (1, 10, 9, 10), (1, 2, 1, 2), (500, 10_000, 560, 10_000),
        (500, 10_000, 501, 10_000), (100_000, 1_000_000, 101_000, 1_000_000), (3, 7, 2, 9), (999, 1000, 1000, 1000), (10, 1000, 900, 1000),
        (120, 2400, 180, 2500), (5, 5, 0, 5), (7, 300, 700, 30_000),
    ]
    degrees = [1, 1.5, 2, 3, 4.7, 9.99, 10, 25, 30.3, 50, 99, 120, 1000, 12_345.6, 1e5, 1e6, 1e7, 1e9]
    values = [1e-6, 0.01, 0.3, 0.7, 1, 1.5, 1.7, 1.8, 1.96, 2.2, 3, 5, 8, 12, 20, 35]
    ratios = [([500, 510], [1, 1]), ([500, 700], [1, 1]), ([90, 210], [3, 7]), ([100, 100, 130], [1, 1, 1]), ([10, 30, 60, 3], [1, 3, 6, 0]),
              ([50_000, 51_500], [1, 1]), ([1, 0], [1, 1]), ([250, 250], [1, 1])]
    expected = {
        "scipy": scipy.__version__,
        "wilson": [[x, n, *wilson(x, n)] for x1, n1, x2, n2 in counts for x, n in ((x1, n1), (x2, n2))],
        "rates": [{"counts": list(case), **rates(*case)} for case in counts],
        "means": [means(control, other) for control, other in samples()],
        "moments": [moments(*case) for case in [
            (10.0, 3.0, 1_000_000, 10.01, 3.1, 1_200_000), (0.0, 1.0, 2, 1.0, 1.0, 5_000), (200.0, 90.0, 5_000, 195.0, 40.0, 60_000),
            (1e9, 5.0, 400, 1e9 + 1, 6.0, 500), (4.0, 0.001, 10_000, 4.0, 7.0, 12), (5.0, 1.0, 3_000_000, 5.0, 1.0, 3_000_000)]],
        "normal": [[z, clean(2 * stats.norm.sf(z))] for z in [0, 1e-9, 0.1, 0.5, 1, 1.6449, 1.96, 2.5758, 4, 6, 9, 15, 25, 37]],
        "student": [[t, df, clean(2 * stats.t.sf(t, df))] for df in degrees for t in values],
        "quantiles": [[df, clean(stats.t.ppf(0.975, df))] for df in degrees],
        "chiSquared": [[x, df, clean(stats.chi2.sf(x, df))] for df in [1, 2, 3, 5, 10, 19] for x in [1e-6, 0.1, 1, 3, 10.83, 30, 100, 600]],
        "ratios": [[sizes, weights, clean(stats.chisquare(
            [s for s, w in zip(sizes, weights) if w], [sum(s for s, w in zip(sizes, weights) if w) * w / sum(weights) for w in weights if w]).pvalue)]
            for sizes, weights in ratios],
    }
    lines = []
    for name, cases in expected.items():
        body = ",\n".join("  " + json.dumps(case) for case in cases) if isinstance(cases, list) else ""
        lines.append(f"{json.dumps(name)}: " + (f"[\n{body}\n]" if body else json.dumps(cases)))
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print("expected.json:", sum(len(cases) for cases in expected.values() if isinstance(cases, list)), "cases, scipy", scipy.__version__)


main()
