"""Times GNPy on a case of `bench/optics`: prints the seconds of the fastest of several
rounds. GNPy's steps and tolerances are those of gnpy_golden.py."""

import sys
import time

import gnpy_golden as golden
from gnpy.core.science_utils import NliSolver, RamanSolver


def closed_form():
    golden.simulate(raman=False)
    signal = golden.comb(191.35, 50, 96, 32, 0.0)
    for _ in range(10):
        span = golden.fiber(80)
        srs = RamanSolver.calculate_stimulated_raman_scattering(signal, span)
        NliSolver.compute_nli(signal, srs, span)


def best(work, rounds):
    def once():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(rounds))


cases = {"closed-form": (closed_form, 5), "integrated": (golden.integrated, 1)}
print(best(*cases[sys.argv[1]]))
