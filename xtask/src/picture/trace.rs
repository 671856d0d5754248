//! Parses a Chrome trace of the line into reads, runs and stalls with their times. It
//! knows the names of the line's tracks, not what a lap is.

use std::collections::HashMap;

use serde::Deserialize;

/// A stretch of time on one track, in microseconds of the trace's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    pub from_us: f64,
    pub to_us: f64,
}

/// A read, from its submission until the line reaped its completion.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub at: Stretch,
    /// Its lane in the medium's queue.
    pub lane: u32,
    /// The extent; `None` for rows and experts.
    pub extent: Option<u32>,
    /// Bytes read.
    pub bytes: u64,
}

/// A run of compute between two pauses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub at: Stretch,
    /// Its number in the lap.
    pub number: u32,
    /// The extents leased when it began, the latest last.
    pub extents: Vec<u32>,
}

/// Everything in a trace that a picture shows.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub reads: Vec<Read>,
    pub runs: Vec<Run>,
    pub stalls: Vec<Stretch>,
    /// Times in µs, each with the bytes of the window in use from then on.
    pub window: Vec<(f64, u64)>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "traceEvents")]
    events: Option<Vec<Event>>,
}

#[derive(Deserialize)]
struct Event {
    ph: String,
    #[serde(default)]
    tid: u32,
    #[serde(default)]
    ts: f64,
    name: String,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    name: Option<String>,
    bytes: Option<u64>,
    landed: Option<u64>,
}

/// An event that has begun and not ended.
struct Open {
    from_us: f64,
    name: String,
    extents: Vec<u32>,
}

impl Trace {
    /// Parses the JSON that `--trace` writes. Events that do not end within the trace are
    /// left out.
    ///
    /// # Errors
    /// A message if the text is not such a trace.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| {
            format!("not JSON as `delayline run --trace FILE` writes it: {error}")
        })?;
        let events = file.events.ok_or(
            "there is no list `traceEvents`; write a trace with `delayline run MODEL -p TEXT --trace FILE`",
        )?;
        let mut tracks: HashMap<u32, &str> = HashMap::new();
        let mut open: HashMap<u32, Vec<Open>> = HashMap::new();
        let mut leased: Vec<u32> = Vec::new();
        let mut trace = Self::default();
        for event in &events {
            match event.ph.as_str() {
                "M" if event.name == "thread_name" => {
                    tracks.insert(event.tid, event.args.name.as_deref().unwrap_or_default());
                }
                "B" => open.entry(event.tid).or_default().push(Open {
                    from_us: event.ts,
                    name: event.name.clone(),
                    extents: leased.clone(),
                }),
                "E" => {
                    let begun = open.get_mut(&event.tid).and_then(Vec::pop);
                    if let Some((begun, track)) = begun.zip(tracks.get(&event.tid)) {
                        trace.push(track, begun, event);
                    }
                }
                "C" if event.name == "window" => {
                    trace.window.push((event.ts, event.args.bytes.unwrap_or(0)));
                }
                "i" => {
                    if let Some(extent) = number(&event.name, "lease ") {
                        leased.push(extent);
                    } else if let Some(extent) = number(&event.name, "release ") {
                        leased.retain(|held| *held != extent);
                    }
                }
                _ => {}
            }
        }
        // They are in the order of their ends.
        trace
            .runs
            .sort_by(|a, b| a.at.from_us.total_cmp(&b.at.from_us));
        Ok(trace)
    }

    fn push(&mut self, track: &str, begun: Open, end: &Event) {
        let at = Stretch {
            from_us: begun.from_us,
            to_us: end.ts,
        };
        if track == "stalls" {
            self.stalls.push(at);
        } else if track == "compute" {
            if let Some(number) = number(&begun.name, "run ") {
                self.runs.push(Run {
                    at,
                    number,
                    extents: begun.extents,
                });
            }
        } else if let Some(lane) = number(track, "read ") {
            self.reads.push(Read {
                at,
                lane,
                extent: number(&begun.name, "extent "),
                bytes: end.args.landed.unwrap_or(0),
            });
        }
    }
}

fn number(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(events: &[&str]) -> Trace {
        let track = |tid: u32, name: &str| {
            format!(
                r#"{{"ph":"M","pid":1,"tid":{tid},"name":"thread_name","args":{{"name":"{name}"}}}}"#
            )
        };
        let mut lines = vec![
            track(1, "compute"),
            track(2, "stalls"),
            track(3, "leases"),
            track(17, "read 1"),
        ];
        lines.extend(events.iter().map(|event| (*event).to_owned()));
        Trace::parse(format!("{{\"traceEvents\":[{}]}}", lines.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn every_track_is_read() {
        let trace = parse(&[
            r#"{"ph":"i","pid":1,"tid":3,"ts":0.5,"name":"lease 3","s":"t"}"#,
            r#"{"ph":"B","pid":1,"tid":17,"ts":1.25,"name":"extent 7","args":{"read":33,"bytes":4096}}"#,
            r#"{"ph":"i","pid":1,"tid":3,"ts":1.5,"name":"lease 4","s":"t"}"#,
            r#"{"ph":"B","pid":1,"tid":1,"ts":2,"name":"run 6"}"#,
            r#"{"ph":"B","pid":1,"tid":2,"ts":2.5,"name":"fetch"}"#,
            r#"{"ph":"C","pid":1,"tid":0,"ts":3,"name":"window","args":{"bytes":8192}}"#,
            r#"{"ph":"E","pid":1,"tid":2,"ts":4,"name":"fetch"}"#,
            r#"{"ph":"E","pid":1,"tid":17,"ts":5,"name":"extent 7","args":{"landed":4000}}"#,
            r#"{"ph":"E","pid":1,"tid":1,"ts":6,"name":"run 6"}"#,
            r#"{"ph":"i","pid":1,"tid":3,"ts":6.5,"name":"release 3","s":"t"}"#,
            r#"{"ph":"B","pid":1,"tid":1,"ts":7,"name":"run 7"}"#,
            r#"{"ph":"E","pid":1,"tid":1,"ts":8,"name":"run 7"}"#,
            r#"{"ph":"B","pid":1,"tid":17,"ts":9,"name":"fetch","args":{"read":65,"bytes":1}}"#,
            r#"{"ph":"E","pid":1,"tid":17,"ts":9,"name":"fetch","args":{"landed":1}}"#,
        ]);
        let at = |from_us, to_us| Stretch { from_us, to_us };
        let read = |at, extent, bytes| Read {
            at,
            lane: 1,
            extent,
            bytes,
        };
        assert_eq!(
            trace.reads,
            [
                read(at(1.25, 5.0), Some(7), 4000),
                read(at(9.0, 9.0), None, 1)
            ]
        );
        assert_eq!(
            trace.runs,
            [
                Run {
                    at: at(2.0, 6.0),
                    number: 6,
                    extents: vec![3, 4]
                },
                Run {
                    at: at(7.0, 8.0),
                    number: 7,
                    extents: vec![4]
                },
            ]
        );
        assert_eq!(trace.stalls, [at(2.5, 4.0)]);
        assert_eq!(trace.window, [(3.0, 8192)]);
    }

    #[test]
    fn what_never_ends_or_never_began_is_left_out() {
        let trace = parse(&[
            r#"{"ph":"E","pid":1,"tid":1,"ts":1,"name":"run 0"}"#,
            r#"{"ph":"B","pid":1,"tid":1,"ts":2,"name":"something else"}"#,
            r#"{"ph":"E","pid":1,"tid":1,"ts":3,"name":"something else"}"#,
            r#"{"ph":"B","pid":1,"tid":17,"ts":4,"name":"extent 7","args":{"bytes":4096}}"#,
        ]);
        assert!(trace.runs.is_empty(), "{:?}", trace.runs);
        assert!(trace.reads.is_empty(), "{:?}", trace.reads);
    }
}
