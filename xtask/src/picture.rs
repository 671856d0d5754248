//! `cargo xtask picture`: draws one lap of a trace as an SVG for the README.

mod draw;
mod lap;
mod trace;

use std::fs;
use std::path::Path;

use self::lap::Lap;
use self::trace::Trace;

/// Draws the decoding lap of median length of `trace` into `out`, and returns a line about
/// it.
///
/// # Errors
/// A message if the trace cannot be read or has too few laps, or `out` cannot be written.
pub(crate) fn draw(trace: &Path, out: &Path) -> Result<String, String> {
    let named = |problem: String| format!("{}: {problem}", trace.display());
    let text = fs::read(trace).map_err(|error| named(error.to_string()))?;
    let events = Trace::parse(&text).map_err(named)?;
    let span = lap::steady(&lap::laps(&events.runs)).map_err(named)?;
    let lap = Lap::cut(&events, &span);
    let picture = draw::svg(&lap);
    fs::write(out, picture).map_err(|error| format!("{}: {error}", out.display()))?;
    Ok(format!(
        "{}: lap {} of the trace, {:.1} ms, {} runs, {} reads",
        out.display(),
        span.number,
        lap.length_us / 1e3,
        span.runs,
        lap.reads.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prompt's lap and three decoding laps, of two runs each: extent 4 is read during
    /// the run with extent 2, which stays. The lap of median length waits.
    fn trace() -> String {
        let mut lines = vec![
            r#"{"ph":"M","pid":1,"tid":1,"name":"thread_name","args":{"name":"compute"}}"#.into(),
            r#"{"ph":"M","pid":1,"tid":2,"name":"thread_name","args":{"name":"stalls"}}"#.into(),
            r#"{"ph":"M","pid":1,"tid":3,"name":"thread_name","args":{"name":"leases"}}"#.into(),
            r#"{"ph":"M","pid":1,"tid":16,"name":"thread_name","args":{"name":"read 0"}}"#.into(),
        ];
        let mut event = |ph: &str, tid: u32, us: u32, name: &str, args: &str| {
            lines.push(format!(
                r#"{{"ph":"{ph}","pid":1,"tid":{tid},"ts":{us}.000,"name":"{name}"{args}}}"#
            ));
        };
        let laps = [
            (0, 0),
            (11_000, 0),
            (20_500, 1_000),
            (30_500, 0),
            (41_000, 0),
        ];
        for (start, stall) in laps {
            event("i", 3, start, "lease 2", "");
            event("B", 1, start, "run 0", "");
            event(
                "B",
                16,
                start + 100,
                "extent 4",
                r#","args":{"read":1,"bytes":5000000}"#,
            );
            event(
                "C",
                0,
                start + 100,
                "window",
                r#","args":{"bytes":5000000}"#,
            );
            event("E", 1, start + 4_000, "run 0", "");
            event("i", 3, start + 4_000, "release 2", "");
            if stall > 0 {
                event("B", 2, start + 4_000, "extent 4", "");
                event("E", 2, start + 4_000 + stall, "extent 4", "");
            }
            let landed = r#","args":{"landed":5000000}"#;
            event("E", 16, start + 4_000 + stall, "extent 4", landed);
            event("i", 3, start + 4_000 + stall, "lease 4", "");
            event("B", 1, start + 4_000 + stall, "run 1", "");
            event("E", 1, start + 9_000, "run 1", "");
            event("i", 3, start + 9_000, "release 4", "");
            event("C", 0, start + 9_000, "window", r#","args":{"bytes":0}"#);
        }
        format!("{{\"traceEvents\":[\n{}\n]}}", lines.join(",\n"))
    }

    #[test]
    fn a_lap_becomes_a_picture() {
        let dir = tempfile::tempdir().unwrap();
        let (json, svg) = (dir.path().join("t.json"), dir.path().join("t.svg"));
        fs::write(&json, trace()).unwrap();
        let said = draw(&json, &svg).unwrap();
        assert!(
            said.ends_with("lap 2 of the trace, 10.0 ms, 2 runs, 1 reads"),
            "{said}"
        );
        let picture = fs::read_to_string(&svg).unwrap();
        for wanted in ["5.00 MB", "10 ms", "500 MB/s", "49 %", "1.0 ms (10 %)"] {
            assert!(picture.contains(wanted), "no `{wanted}` in {picture}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (json, svg) = (dir.path().join("t.json"), dir.path().join("t.svg"));
        let cases = [
            ("", "not JSON"),
            ("[1,", "not JSON"),
            ("{}", "no list `traceEvents`"),
            (r#"{"traceEvents":[]}"#, "0 decoding laps"),
        ];
        for (text, expect) in cases {
            fs::write(&json, text).unwrap();
            let error = draw(&json, &svg).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
            assert!(error.contains("t.json"), "{error}");
            assert!(!svg.exists());
        }
        assert!(
            draw(&dir.path().join("none.json"), &svg)
                .unwrap_err()
                .contains("none.json")
        );
    }
}
