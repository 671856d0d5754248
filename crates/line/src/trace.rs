//! Events of a line with their times, and their form as a Chrome/Perfetto trace.

use std::io;

use delayline_plan::ExtentId;

/// The first bytes that [`write_chrome`] writes.
pub const CHROME_HEAD: &str = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";

/// Something that happened on the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time by the line's clock, in nanoseconds.
    pub t_ns: u64,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An operation was submitted to the medium: a read, a write or a sync.
    Submitted {
        /// The operation's identifier.
        read: u64,
        /// Its lane, below [`crate::Caps::depth`].
        lane: u32,
        /// The extent read or written; `None` for a fetch or a sync.
        extent: Option<ExtentId>,
        /// Bytes requested.
        bytes: u32,
    },
    /// The line has reaped the completion of an operation.
    Completed {
        /// The operation's identifier.
        read: u64,
        /// Its lane.
        lane: u32,
        /// The extent read or written; `None` for a fetch or a sync.
        extent: Option<ExtentId>,
        /// Bytes moved that need not be moved again.
        bytes: u32,
    },
    /// The caller began to wait for an extent; `None`: for a fetch or for writes.
    StallBegin(Option<ExtentId>),
    /// The wait ended.
    StallEnd(Option<ExtentId>),
    /// An extent was leased.
    Lease(ExtentId),
    /// A lease was returned.
    Release(ExtentId),
    /// An enqueued use was skipped.
    Skip(ExtentId),
    /// Bytes of the window in use from now on, gaps included.
    Window(u64),
    /// The caller marked the beginning of something, such as a run.
    MarkBegin(String),
    /// The caller marked the end of what it last began.
    MarkEnd(String),
}

/// Collects events while it is on; costs one branch while it is off.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub on: bool,
    pub now_ns: u64,
    pub events: Vec<Event>,
    fill: u64,
}

impl Trace {
    pub(crate) fn push(&mut self, kind: impl FnOnce() -> EventKind) {
        if self.on {
            let (t_ns, kind) = (self.now_ns, kind());
            self.events.push(Event { t_ns, kind });
        }
    }

    /// Records how full the window is, if that changed.
    pub(crate) fn window(&mut self, fill: impl FnOnce() -> u64) {
        if self.on {
            let fill = fill();
            if fill != self.fill {
                self.fill = fill;
                self.push(|| EventKind::Window(fill));
            }
        }
    }
}

const COMPUTE_TRACK: u32 = 1;
const STALL_TRACK: u32 = 2;
const LEASE_TRACK: u32 = 3;
const READ_TRACKS: u32 = 16;

/// Writes events as trace JSON for Perfetto or `chrome://tracing`: one track for
/// the caller's marks, one for stalls, one for leases, one for each lane, and a counter
/// of the window's fill in bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_chrome(events: &[Event], mut out: impl io::Write) -> io::Result<()> {
    let lanes = events.iter().filter_map(|event| match event.kind {
        EventKind::Submitted { lane, .. } | EventKind::Completed { lane, .. } => Some(lane + 1),
        _ => None,
    });
    let lanes = lanes.max().unwrap_or(0);
    out.write_all(CHROME_HEAD.as_bytes())?;
    for (track, name) in [
        (COMPUTE_TRACK, "compute"),
        (STALL_TRACK, "stalls"),
        (LEASE_TRACK, "leases"),
    ] {
        write_track(&mut out, track, name)?;
    }
    for lane in 0..lanes {
        write_track(&mut out, READ_TRACKS + lane, &format!("read {lane}"))?;
    }
    for event in events {
        write_event(&mut out, event)?;
    }
    // Every line above ends in a comma, so a constant object ends the array.
    out.write_all(b"{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"delayline\"}}\n]}\n")
}

fn write_track(out: &mut impl io::Write, track: u32, name: &str) -> io::Result<()> {
    writeln!(
        out,
        "{{\"ph\":\"M\",\"pid\":1,\"tid\":{track},\"name\":\"thread_name\",\"args\":{{\"name\":\"{name}\"}}}},"
    )
}

fn write_event(out: &mut impl io::Write, event: &Event) -> io::Result<()> {
    let wanted = |extent: &Option<ExtentId>| match extent {
        Some(id) => format!("extent {}", id.0),
        None => "fetch".to_owned(),
    };
    let (phase, track, name, args) = match &event.kind {
        EventKind::Submitted {
            read,
            lane,
            extent,
            bytes,
        } => {
            let args = format!("{{\"read\":{read},\"bytes\":{bytes}}}");
            ("B", READ_TRACKS + lane, wanted(extent), args)
        }
        EventKind::Completed {
            lane,
            extent,
            bytes,
            ..
        } => {
            let args = format!("{{\"landed\":{bytes}}}");
            ("E", READ_TRACKS + lane, wanted(extent), args)
        }
        EventKind::StallBegin(extent) => ("B", STALL_TRACK, wanted(extent), String::new()),
        EventKind::StallEnd(extent) => ("E", STALL_TRACK, wanted(extent), String::new()),
        EventKind::Lease(id) => ("i", LEASE_TRACK, format!("lease {}", id.0), String::new()),
        EventKind::Release(id) => ("i", LEASE_TRACK, format!("release {}", id.0), String::new()),
        EventKind::Skip(id) => ("i", LEASE_TRACK, format!("skip {}", id.0), String::new()),
        EventKind::Window(bytes) => {
            let args = format!("{{\"bytes\":{bytes}}}");
            ("C", 0, "window".to_owned(), args)
        }
        EventKind::MarkBegin(name) => ("B", COMPUTE_TRACK, name.clone(), String::new()),
        EventKind::MarkEnd(name) => ("E", COMPUTE_TRACK, name.clone(), String::new()),
    };
    let name = serde_json::to_string(&name)?;
    // Microseconds are the format's unit.
    let (us, ns) = (event.t_ns / 1000, event.t_ns % 1000);
    write!(
        out,
        "{{\"ph\":\"{phase}\",\"pid\":1,\"tid\":{track},\"ts\":{us}.{ns:03},\"name\":{name}"
    )?;
    if phase == "i" {
        write!(out, ",\"s\":\"t\"")?;
    }
    if !args.is_empty() {
        write!(out, ",\"args\":{args}")?;
    }
    out.write_all(b"},\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_holds_every_event_on_its_track() {
        let extent = Some(ExtentId(7));
        let kinds = [
            EventKind::Submitted {
                read: 5,
                lane: 1,
                extent,
                bytes: 4096,
            },
            EventKind::StallBegin(extent),
            EventKind::Window(8192),
            EventKind::Completed {
                read: 5,
                lane: 1,
                extent,
                bytes: 4000,
            },
            EventKind::StallEnd(extent),
            EventKind::Lease(ExtentId(7)),
            EventKind::MarkBegin("a \"quoted\"\\ name\n".into()),
            EventKind::MarkEnd("a \"quoted\"\\ name\n".into()),
            EventKind::Release(ExtentId(7)),
            EventKind::Skip(ExtentId(8)),
        ];
        let events: Vec<Event> = kinds
            .into_iter()
            .enumerate()
            .map(|(n, kind)| Event {
                t_ns: 1_000_001 * n as u64,
                kind,
            })
            .collect();
        let mut out = Vec::new();
        write_chrome(&events, &mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let written = json["traceEvents"].as_array().unwrap();
        let written: Vec<_> = written.iter().filter(|e| e["ph"] != "M").collect();
        let seen: Vec<(String, u64, String)> = written
            .iter()
            .map(|e| {
                let text = |key: &str| e[key].as_str().unwrap().to_owned();
                (text("ph"), e["tid"].as_u64().unwrap(), text("name"))
            })
            .collect();
        let expect = [
            ("B", 17, "extent 7"),
            ("B", 2, "extent 7"),
            ("C", 0, "window"),
            ("E", 17, "extent 7"),
            ("E", 2, "extent 7"),
            ("i", 3, "lease 7"),
            ("B", 1, "a \"quoted\"\\ name\n"),
            ("E", 1, "a \"quoted\"\\ name\n"),
            ("i", 3, "release 7"),
            ("i", 3, "skip 8"),
        ];
        let expect = expect.map(|(ph, tid, name)| (ph.to_owned(), tid, name.to_owned()));
        assert_eq!(seen, expect);
        assert_eq!(written[1]["ts"], 1000.001);
        assert_eq!(written[2]["args"]["bytes"], 8192);
        assert_eq!(written[3]["args"]["landed"], 4000);
    }
}
