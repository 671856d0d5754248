//! Raman gain of the glass over the shift in frequency.

use std::f64::consts::PI;
use std::sync::OnceLock;

use super::attenuation::interpolate;
use crate::optics::units::LIGHT_M_PER_S;

/// RamanPump frequency at which the peak of the gain is quoted: 1454 nm.
pub const REFERENCE_PUMP_HZ: f64 = LIGHT_M_PER_S / 1454e-9;

/// Where the gain of silica is tabulated: beyond 42 THz there is none.
const STEP_HZ: f64 = 0.1e12;
const STEPS: usize = 420;

/// Stimulated Raman scattering of the glass, for unpolarised light.
#[derive(Clone, Debug, PartialEq)]
pub enum RamanGain {
    /// None: light in a hollow core does not meet the glass.
    None,
    /// A straight line up to the peak's shift and nothing beyond: what
    /// closed forms assume.
    Triangular {
        /// Rise of the gain over the shift, pumped at 1454 nm.
        m_per_w_thz: f64,
        /// The shift at which it ends.
        end_thz: f64,
    },
    /// Silica, in the shape of its thirteen vibrations.
    Silica {
        /// Gain at the peak, pumped at 1454 nm.
        peak_m_per_w: f64,
    },
    /// A measured spectrum: straight lines between its points, nothing beyond.
    Table {
        /// Shifts in THz, rising, with the gain in m/W, pumped at 1454 nm.
        thz_m_per_w: Vec<(f64, f64)>,
    },
}

impl RamanGain {
    /// Silica as in standard fiber: half of 1·10⁻¹³ m/W at 1 µm for unpolarised
    /// light (Agrawal, Nonlinear Fiber Optics, section 8.1), scaled to the pump;
    /// GNPy's default is 3.33·10⁻¹⁴.
    pub fn silica() -> Self {
        Self::Silica {
            peak_m_per_w: 3.33e-14,
        }
    }

    /// Gain in m/W for a shift, pumped at a frequency; gain ∝ pump frequency.
    pub fn m_per_w(&self, shift_hz: f64, pump_hz: f64) -> f64 {
        let at_reference = match self {
            Self::None => 0.0,
            Self::Triangular {
                m_per_w_thz,
                end_thz,
            } => {
                let shift_thz = shift_hz * 1e-12;
                let inside = shift_thz <= *end_thz;
                m_per_w_thz * shift_thz * f64::from(u8::from(inside))
            }
            Self::Silica { peak_m_per_w } => peak_m_per_w * silica_shape(shift_hz),
            Self::Table { thz_m_per_w } => match thz_m_per_w.last() {
                Some((end, _)) if shift_hz * 1e-12 <= *end => {
                    interpolate(thz_m_per_w, shift_hz * 1e-12)
                }
                _ => 0.0,
            },
        };
        at_reference * pump_hz / REFERENCE_PUMP_HZ
    }
}

/// The gain of silica over its peak.
fn silica_shape(shift_hz: f64) -> f64 {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    let table = TABLE.get_or_init(tabulate);
    let at = shift_hz / STEP_HZ;
    let index = at as usize;
    match (table.get(index), table.get(index + 1)) {
        (Some(left), Some(right)) => left + (right - left) * (at - index as f64),
        _ => 0.0,
    }
}

fn tabulate() -> Vec<f64> {
    let gains = response_spectrum();
    let peak = gains.iter().copied().fold(0.0, f64::max);
    gains.iter().map(|gain| (gain / peak).max(0.0)).collect()
}

/// One vibration of the glass: wave number, amplitude, and the full widths of
/// its Gaussian and Lorentzian broadening, all but the amplitude in 1/cm.
struct Vibration(f64, f64, f64, f64);

/// The vibrations of silica; Hollenbeck and Cantrell, J. Opt. Soc. Am. B 19
/// (2002) 2886, table 1.
const VIBRATIONS: [Vibration; 13] = [
    Vibration(56.25, 1.00, 52.10, 17.37),
    Vibration(100.00, 11.40, 110.42, 38.81),
    Vibration(231.25, 36.67, 175.00, 58.33),
    Vibration(362.50, 67.67, 162.50, 54.17),
    Vibration(463.00, 74.00, 135.33, 45.11),
    Vibration(497.00, 4.50, 24.50, 8.17),
    Vibration(611.50, 6.80, 41.50, 13.83),
    Vibration(691.67, 4.60, 155.00, 51.67),
    Vibration(793.67, 4.20, 59.50, 19.83),
    Vibration(835.50, 4.50, 64.30, 21.43),
    Vibration(930.00, 2.70, 150.00, 50.00),
    Vibration(1080.00, 3.10, 91.00, 30.33),
    Vibration(1215.00, 3.00, 160.00, 53.33),
];

/// Imaginary part of the spectrum of the glass's response at each step, up to a
/// factor; the sine transform of equation 9 of the same paper, by trapezia over 3 ps.
fn response_spectrum() -> Vec<f64> {
    const STEP_S: f64 = 1e-15;
    // Steps of time and frequency are whole parts of one turn: few angles are met.
    const TURN: usize = (1.0 / (STEP_HZ * STEP_S)) as usize;
    let angle = |part: usize| 2.0 * PI * part as f64 / TURN as f64;
    let sines: Vec<f64> = (0..TURN).map(|part| angle(part).sin()).collect();
    let responses: Vec<f64> = (0..3000)
        .map(|step| response(step as f64 * STEP_S))
        .collect();
    let at = |step: usize| {
        let terms = responses.iter().enumerate();
        terms
            .map(|(time, value)| value * sines[step * time % TURN])
            .sum()
    };
    (0..=STEPS).map(at).collect()
}

fn response(time_s: f64) -> f64 {
    let per_cm_to_hz = LIGHT_M_PER_S * 100.0;
    let one = |Vibration(position, amplitude, gauss, lorentz): &Vibration| {
        let angular = 2.0 * PI * per_cm_to_hz * position;
        let gauss = PI * per_cm_to_hz * gauss * time_s;
        let lorentz = PI * per_cm_to_hz * lorentz * time_s;
        amplitude * (-lorentz - gauss * gauss / 4.0).exp() * (angular * time_s).sin()
    };
    VIBRATIONS.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the spectrum measured on standard fiber that GNPy 3.0.1 carries
    /// as its default, at its peak and along its slope.
    #[test]
    fn the_shape_is_that_of_measured_fiber() {
        let cases = [
            (0.0, 0.0),
            (3.0, 0.254),
            (6.0, 0.365),
            (9.0, 0.652),
            (11.0, 0.893),
            (12.75, 1.0),
            (15.5, 0.521),
            (20.5, 0.075),
            (24.5, 0.157),
        ];
        for (thz, expect) in cases {
            let got = silica_shape(thz * 1e12);
            assert!((got - expect).abs() < 0.1, "{thz} THz: {got}");
        }
        assert_eq!(silica_shape(43e12), 0.0);
    }

    #[test]
    fn gain_is_in_proportion_to_the_pump() {
        let gain = RamanGain::Silica {
            peak_m_per_w: 3.3e-14,
        };
        let twice = gain.m_per_w(13e12, 2.0 * REFERENCE_PUMP_HZ);
        assert!((twice / gain.m_per_w(13e12, REFERENCE_PUMP_HZ) - 2.0).abs() < 1e-12);
    }
}
