"""Writes crates/study/tests/golden/gnpy.json: the results of GNPy 3.0.1 for the cases of
the optics' tests (crates/study/tests/optics_gnpy.rs).

    python3 -m venv VENV && VENV/bin/pip install gnpy==3.0.1
    VENV/bin/python validation/gnpy_golden.py

The tests compare with the committed file and need neither Python nor GNPy.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gnpy.core.elements import Fiber, RamanFiber
from gnpy.core.info import create_arbitrary_spectral_information
from gnpy.core.parameters import DEFAULT_RAMAN_COEFFICIENT, SimParams
from gnpy.core.science_utils import NliSolver, RamanSolver

OUT = Path(__file__).parent.parent / "crates/study/tests/golden/gnpy.json"


def simulate(raman, method="gn_model_analytic", computed=None, step_m=50.0):
    """Sets GNPy's settings, which are global."""
    SimParams.set_params(
        {
            "raman_params": {
                "flag": raman,
                "method": "numerical",
                "result_spatial_resolution": 1e3,
                "solver_spatial_resolution": step_m,
            },
            "nli_params": {
                "method": method,
                "dispersion_tolerance": 1,
                "phase_shift_tolerance": 0.1,
                "computed_channels": computed,
            },
        }
    )


def fiber(length_km, connector_db=0.0, **parameters):
    defaults = {"loss_coef": 0.2, "dispersion": 1.67e-5, "pmd_coef": 0.0}
    element = Fiber(
        uid="span",
        params={
            "length": length_km,
            "length_units": "km",
            "att_in": 0,
            "con_in": connector_db,
            "con_out": connector_db,
            **(defaults | parameters),
        },
    )
    element.ref_pch_in_dbm = 0
    return element


def comb(first_thz, spacing_ghz, channels, symbol_rate_gbd, powers_dbm):
    frequency = (first_thz + np.arange(channels) * spacing_ghz * 1e-3) * 1e12
    return create_arbitrary_spectral_information(
        frequency=frequency,
        slot_width=spacing_ghz * 1e9 - 1e6,
        pch=1e-3 * 10 ** (np.broadcast_to(powers_dbm, channels) / 10),
        baud_rate=symbol_rate_gbd * 1e9,
        roll_off=0.001,
        delta_pdb_per_channel=0,
        tx_osnr=100.0,
        tx_power=1e-3,
    )


def closed_form():
    """Closed-form GN model over C+L, with a dispersion slope and a ramp of launch powers."""
    simulate(raman=False)
    powers = np.linspace(-2, 3, 110)
    signal = comb(186.1, 100, 110, 64, powers)
    span = fiber(60, loss_coef=0.19, dispersion=1.7e-5, dispersion_slope=67.0)
    srs = RamanSolver.calculate_stimulated_raman_scattering(signal, span)
    return {"noise_w": NliSolver.compute_nli(signal, srs, span).tolist()}


def power_profile():
    """Raman scattering over S+C+L: the power left after 80 km and after 20 km.

    GNPy's Euler steps of 50 m have an error of about 0.01 dB.
    """
    simulate(raman=True)
    signal = comb(186.1, 150, 120, 130, 2.0)
    span = fiber(80)
    srs = RamanSolver.calculate_stimulated_raman_scattering(signal, span)
    at_20_km = int(np.argmin(abs(srs.z - 20e3)))
    return {
        "end_gain": srs.loss_profile[:, -1].tolist(),
        "gain_at_20_km": srs.loss_profile[:, at_20_km].tolist(),
    }


def integrated():
    """GN model integrated over a power profile with Raman scattering, for seven channels of
    C+L."""
    computed = [1, 10, 20, 30, 40, 50, 56]
    simulate(raman=True, method="ggn_spectrally_separated", computed=computed)
    signal = comb(186.1, 200, 56, 130, 4.0)
    span = fiber(80, dispersion=1.7e-5, dispersion_slope=67.0)
    srs = RamanSolver.calculate_stimulated_raman_scattering(signal, span)
    noise = NliSolver.compute_nli(signal, srs, span)
    return {
        "channels": computed,
        "noise_w": [float(noise[number - 1]) for number in computed],
        "end_gain": srs.loss_profile[:, -1].tolist(),
    }


def ten_spans():
    """Ten spans of 80 km with the closed-form GN model and amplifiers with a noise figure of
    5 dB.

    Each amplifier compensates the loss of its span. Its noise is computed here with GNPy's
    formula, h*f*B*F*G.
    """
    simulate(raman=False)
    planck = 6.62607015e-34
    signal = comb(191.35, 50, 96, 32, 0.0)
    for _ in range(10):
        fiber(80, connector_db=0.5)(signal)
        gain = 10**1.7
        signal.apply_gain_lin(gain)
        signal.add_ase(planck * signal.frequency * 32e9 * 10**0.5 * gain)
    return {
        "snr": (signal.signal / (signal.ase + signal.nli)).tolist(),
        "snr_linear": (signal.signal / signal.ase).tolist(),
        "latency_s": float(np.max(signal.latency)),
    }


def hybrid(pumps, launch_dbm):
    """A Raman-pumped span of 100 km over the C band, followed by an EDFA with a noise figure
    of 5 dB.

    GNPy computes the Raman equations, the spontaneous scattering and the integrated nonlinear
    noise. The EDFA compensates the rest of the loss, as in ten_spans().
    """
    computed = [1, 16, 32, 48]
    simulate(raman=True, method="ggn_spectrally_separated", computed=computed)
    planck = 6.62607015e-34
    signal = comb(191.4, 100, 48, 64, launch_dbm)
    span = RamanFiber(
        uid="span",
        params={
            "length": 100,
            "length_units": "km",
            "att_in": 0,
            "con_in": 0.5,
            "con_out": 0.5,
            "loss_coef": 0.2,
            "dispersion": 1.67e-5,
            "pmd_coef": 0.0,
        },
        operational={
            "temperature": 283,
            "raman_pumps": [
                {
                    "power": mw * 1e-3,
                    "frequency": 299792458.0 / (nm * 1e-9),
                    "propagation_direction": "counterprop" if back else "coprop",
                }
                for nm, mw, back in pumps
            ],
        },
    )
    span.ref_pch_in_dbm = launch_dbm
    span(signal)
    loss = 1e-3 * 10 ** (launch_dbm / 10) / signal.signal
    signal.apply_gain_lin(loss)
    signal.add_ase(planck * signal.frequency * 64e9 * 10**0.5 * loss)
    picked = [number - 1 for number in computed]
    return {
        "pumps": [list(pump) for pump in pumps],
        "launch_dbm": launch_dbm,
        "channels": computed,
        "loss_db": [float(10 * np.log10(loss[i])) for i in picked],
        "snr_linear": [float((signal.signal / signal.ase)[i]) for i in picked],
        "snr": [float((signal.signal / (signal.ase + signal.nli))[i]) for i in picked],
    }


def main():
    # The program has another Raman gain profile. The tests use GNPy's, so that both solve
    # the same equations.
    raman = {
        "shift_thz": (DEFAULT_RAMAN_COEFFICIENT["frequency_offset"] * 1e-12).tolist(),
        "m_per_w": DEFAULT_RAMAN_COEFFICIENT["gamma_raman"].tolist(),
        "pump_thz": DEFAULT_RAMAN_COEFFICIENT["reference_frequency"] * 1e-12,
    }
    golden = {
        "origin": f"gnpy {version('gnpy')}, validation/gnpy_golden.py",
        "raman_gain": raman,
        "closed_form": closed_form(),
        "power_profile": power_profile(),
        "integrated": integrated(),
        "ten_spans": ten_spans(),
        "hybrid": [
            hybrid([(1430, 150, True), (1455, 200, True)], 0.0),
            hybrid([(1425, 250, True), (1440, 200, True), (1465, 300, True)], -1.0),
            hybrid([(1430, 100, False), (1450, 300, True)], 0.0),
        ],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(golden, indent=1)
    OUT.write_text(text + "\n")
    print(f"{OUT} written: {len(text)} bytes")


if __name__ == "__main__":
    main()
