//! Draws a lap as SVG: lanes over one time axis, on an opaque card, so that it can be read
//! on light and dark pages.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::lap::Lap;
use super::trace::Stretch;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 444.0;
/// Where the time axis begins and ends.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 976.0;

/// Top and height of each lane.
const READS: (f64, f64) = (80.0, 128.0);
const COMPUTE: (f64, f64) = (222.0, 36.0);
const WAITING: (f64, f64) = (264.0, 18.0);
const WINDOW: (f64, f64) = (296.0, 44.0);
const AXIS: f64 = 350.0;
const LEGEND: f64 = 400.0;
const REMARK: f64 = 424.0;

/// Colours of consecutive extents; none is like the red of stalls.
const EXTENTS: [&str; 5] = ["#2f6db3", "#35a79c", "#8661b5", "#e0a12e", "#6cb4e4"];
const STAYS: &str = "#b4bac2";
const FETCH: &str = "#39424e";
const STALL: &str = "#d7263d";
const FILL: &str = "#9cc6b2";
const EDGE: &str = "#4d8d73";
const INK: &str = "#1f2630";
const PALE: &str = "#5b6673";

/// The picture, a whole SVG document.
pub(crate) fn svg(lap: &Lap) -> String {
    let mut page = Page {
        out: String::new(),
        px_per_us: (RIGHT - LEFT) / lap.length_us,
    };
    page.head(lap);
    page.axis(lap.length_us);
    page.reads(lap);
    page.compute(lap);
    page.window(lap);
    page.legend(lap);
    page.line("</svg>");
    page.out
}

struct Page {
    out: String,
    px_per_us: f64,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn x(&self, us: f64) -> f64 {
        LEFT + us * self.px_per_us
    }

    fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        self.line(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>"
        ));
    }

    /// The name of a lane and a figure about it, in two lines if there is room.
    fn name(&mut self, lane: (f64, f64), name: &str, figure: &str) {
        let (middle, two) = (lane.0 + lane.1 / 2.0, lane.1 > 30.0);
        let (x, up, down) = if two {
            (20.0, 3.0, 14.0)
        } else {
            (88.0, -5.0, 5.0)
        };
        self.text(20.0, middle - up, "class=\"name\"", name);
        self.text(x, middle + down, "class=\"pale\"", figure);
    }

    /// Bars of one colour as one path, which keeps the file small.
    fn bars(&mut self, colour: &str, bars: &[(Stretch, f64, f64)]) {
        let mut path = String::new();
        for (at, top, height) in bars {
            // Bars too short to be seen are made wider.
            let width = (at.length_us() * self.px_per_us).max(0.6);
            let x = self.x(at.from_us);
            let _ = write!(path, "M{x:.1} {top:.1}h{width:.1}v{height:.1}h-{width:.1}z");
        }
        if !path.is_empty() {
            self.line(&format!("<path fill=\"{colour}\" d=\"{path}\"/>"));
        }
    }

    fn head(&mut self, lap: &Lap) {
        let (bytes, seconds) = (lap.bytes as f64, lap.length_us / 1e6);
        let title = format!(
            "One token, one lap: {} from the drive in {} – {}/s",
            decimal_bytes(bytes),
            duration(lap.length_us),
            decimal_bytes(bytes / seconds)
        );
        let share = |us: f64| format!("{:.0} %", 100.0 * us / lap.length_us);
        let second = format!(
            "Reads were under way {} of the time; the compute waited {} ({}).",
            share(lap.reading_us()),
            duration(lap.stall_us()),
            share(lap.stall_us()),
        );
        self.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}. {second}\">"
        ));
        self.line(&format!(
            "<style>text{{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:14px;fill:{INK}}} .title{{font-size:20px;font-weight:600}} .name{{font-size:15px;font-weight:600}} .pale{{font-size:13px;fill:{PALE}}} .tick{{font-size:13px;fill:{PALE};text-anchor:middle}}</style>"
        ));
        let (width, height) = (WIDTH - 2.0, HEIGHT - 2.0);
        self.line(&format!(
            "<rect x=\"1\" y=\"1\" width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"#fcfcfa\" stroke=\"#d5d9de\"/>"
        ));
        self.text(20.0, 34.0, "class=\"title\"", &title);
        self.text(
            20.0,
            58.0,
            "class=\"pale\" style=\"font-size:14.5px\"",
            &second,
        );
    }

    fn axis(&mut self, length_us: f64) {
        let step_us = tick_us(length_us);
        let mut us = 0.0;
        while us <= length_us {
            let x = self.x(us);
            self.line(&format!(
                "<path d=\"M{x:.1} {}V{AXIS}\" stroke=\"#e3e6ea\"/>",
                READS.0
            ));
            let label = format!("{}", us / 1e3);
            self.text(x, AXIS + 15.0, "class=\"tick\"", &label);
            us += step_us;
        }
        self.text(20.0, AXIS + 15.0, "class=\"pale\"", "time in ms");
    }

    fn reads(&mut self, lap: &Lap) {
        let places = lap
            .reads
            .iter()
            .map(|read| read.lane + 1)
            .max()
            .unwrap_or(1);
        let pitch = READS.1 / f64::from(places);
        let mut by_colour: BTreeMap<&str, Vec<(Stretch, f64, f64)>> = BTreeMap::new();
        for read in &lap.reads {
            let colour = read.extent.map_or(FETCH, |extent| colour(lap.rank(extent)));
            let top = READS.0 + f64::from(read.lane) * pitch;
            by_colour
                .entry(colour)
                .or_default()
                .push((read.at, top, pitch * 0.82));
        }
        for (colour, bars) in &by_colour {
            self.bars(colour, bars);
        }
        self.name(READS, "reads", &format!("up to {places} at once"));
    }

    fn compute(&mut self, lap: &Lap) {
        let mut by_colour: BTreeMap<&str, Vec<(Stretch, f64, f64)>> = BTreeMap::new();
        for run in &lap.runs {
            let colour = lap.streamed_by(run).map_or(STAYS, colour);
            by_colour
                .entry(colour)
                .or_default()
                .push((run.at, COMPUTE.0, COMPUTE.1));
        }
        for (colour, bars) in &by_colour {
            self.bars(colour, bars);
        }
        let stalls: Vec<_> = lap
            .stalls
            .iter()
            .map(|at| (*at, WAITING.0, WAITING.1))
            .collect();
        self.bars(STALL, &stalls);
        self.name(COMPUTE, "compute", &format!("{} runs", lap.run_count));
        self.name(WAITING, "waiting", &duration(lap.stall_us()));
    }

    fn window(&mut self, lap: &Lap) {
        let most = lap
            .window
            .iter()
            .map(|(_, bytes)| *bytes)
            .max()
            .unwrap_or(0);
        let base = WINDOW.0 + WINDOW.1;
        let y = |bytes: u64| base - WINDOW.1 * bytes as f64 / most.max(1) as f64;
        let mut edge = String::new();
        for (us, bytes) in &lap.window {
            let (x, y) = (self.x(*us), y(*bytes));
            let _ = match edge.is_empty() {
                true => write!(edge, "M{x:.1} {y:.1}"),
                false => write!(edge, "H{x:.1}V{y:.1}"),
            };
        }
        let _ = write!(edge, "H{RIGHT}");
        self.line(&format!(
            "<path fill=\"{FILL}\" d=\"{edge}V{base}H{LEFT}z\"/>"
        ));
        self.line(&format!(
            "<path fill=\"none\" stroke=\"{EDGE}\" d=\"{edge}\"/>"
        ));
        self.name(WINDOW, "window", &decimal_bytes(most as f64));
    }

    fn legend(&mut self, lap: &Lap) {
        let stays = lap.runs.iter().any(|run| lap.streamed_by(run).is_none());
        let fetched = lap.reads.iter().any(|read| read.extent.is_none());
        let entries: [(bool, &[&str], &str); 5] = [
            (true, &EXTENTS, "an extent: read above, computed with below"),
            (stays, &[STAYS], "weights that stay"),
            (fetched, &[FETCH], "rows as they are named"),
            (true, &[STALL], "waiting for a read"),
            (true, &[FILL], "window in use"),
        ];
        let mut x = 20.0;
        for (_, colours, text) in entries.into_iter().filter(|(shown, ..)| *shown) {
            for colour in colours {
                self.line(&format!(
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\" rx=\"2\" fill=\"{colour}\"/>",
                    LEGEND - 10.0
                ));
                x += 13.0;
            }
            self.text(x + 4.0, LEGEND, "class=\"pale\"", text);
            // The font is not known: assume an average width of a letter.
            x += 4.0 + 7.3 * text.len() as f64 + 12.0;
        }
        self.text(
            20.0,
            REMARK,
            "class=\"pale\" style=\"font-size:12px\"",
            "A read ends where the line noticed that it was over: when the compute next paused.",
        );
    }
}

fn colour(rank: usize) -> &'static str {
    EXTENTS[rank % EXTENTS.len()]
}

/// Distance between marks on the axis: 1, 2 or 5 times a power of ten, for four to ten
/// marks.
fn tick_us(length_us: f64) -> f64 {
    let least = length_us / 10.0;
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

/// Bytes with three digits, in decimal units.
fn decimal_bytes(bytes: f64) -> String {
    let (value, unit) = match bytes {
        1e9.. => (bytes / 1e9, "GB"),
        1e6.. => (bytes / 1e6, "MB"),
        _ => (bytes / 1e3, "kB"),
    };
    format!("{} {unit}", three_digits(value))
}

fn duration(us: f64) -> String {
    let ms = us / 1e3;
    match ms {
        999.5.. => format!("{} s", three_digits(ms / 1e3)),
        9.95.. => format!("{ms:.0} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        99.95.. => format!("{value:.0}"),
        9.995.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_few_digits() {
        let sizes = [
            (0.0, "0.00 kB"),
            (4096.0, "4.10 kB"),
            (9_996_000.0, "10.0 MB"),
            (1.234e9, "1.23 GB"),
        ];
        for (bytes, expect) in sizes {
            assert_eq!(decimal_bytes(bytes), expect);
        }
        let times = [
            (0.0, "0.0 ms"),
            (1234.0, "1.2 ms"),
            (123_400.0, "123 ms"),
            (1_234_000.0, "1.23 s"),
        ];
        for (us, expect) in times {
            assert_eq!(duration(us), expect);
        }
    }

    #[test]
    fn the_axis_has_a_handful_of_round_marks() {
        for (length_us, expect) in [
            (1_764_000.0, 200_000.0),
            (900.0, 100.0),
            (3_204_000.0, 500_000.0),
            (60_000.0, 10_000.0),
        ] {
            let step = tick_us(length_us);
            assert!((step - expect).abs() < 1e-6, "{length_us}: {step}");
        }
    }
}
