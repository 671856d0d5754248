//! The stream of `/live` of a server whose medium stops and goes on: the events of a long lap
//! and of its end.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use delayline_engine::{Options, Way};
use delayline_fiber::{LoopMaker, LoopSpec};
use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Stats};
use delayline_medium::wrapped;
use delayline_server::live::{BINS, LiveLap, LiveProgress, Machine, State};
use delayline_server::{KvScope, Limits, ServerConfig, start};

/// Whether the medium returns its completions.
static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());

fn gate(open: bool) {
    *OPEN.0.lock().expect("nobody panics with it") = open;
    OPEN.1.notify_all();
}

struct Gated(Box<dyn Medium>);

impl Medium for Gated {
    fn caps(&self) -> &Caps {
        self.0.caps()
    }

    fn submit(&mut self, op: Op) {
        self.0.submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let open = OPEN.0.lock().expect("nobody panics with it");
        if wait {
            drop(OPEN.1.wait_while(open, |open| !*open));
        } else if !*open {
            return;
        }
        self.0.poll(wait, done);
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.0.events(out);
    }
}

fn config() -> ServerConfig {
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
    ServerConfig {
        model,
        engine: Options {
            way: Way::Streamed,
            memory: Some(8 << 30),
            weights: Some(60 << 20),
            threads: Some(2),
            ctx: Some(256),
            maker: Some(wrapped(|medium| Box::new(Gated(medium)))),
            ..Options::default()
        },
        slots: 2,
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        keys: Vec::new(),
        insecure: false,
        origins: Vec::new(),
        aliases: Vec::new(),
        strict_model: false,
        thinking_budget: None,
        chat_template: None,
        kv: None,
        kv_scope: KvScope::Key,
        limits: Limits::default(),
    }
}

fn send(to: SocketAddr, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(to).expect("a connection");
    socket.write_all(request.as_bytes()).expect("it is taken");
    socket
}

/// An event of `/live`.
#[derive(Debug)]
enum Event {
    Machine(Box<Machine>),
    Progress(LiveProgress),
    Lap(Box<LiveLap>),
}

/// The stream's next event.
fn next(lines: &mut impl Iterator<Item = String>) -> Event {
    let mut name = String::new();
    for line in lines {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let fine = "the page can read it";
            return match name.as_str() {
                "machine" => Event::Machine(serde_json::from_str(data).expect(fine)),
                "progress" => Event::Progress(serde_json::from_str(data).expect(fine)),
                "lap" => Event::Lap(serde_json::from_str(data).expect(fine)),
                other => panic!("an event {other}"),
            };
        }
    }
    panic!("the stream has ended")
}

/// The first event of a server.
fn machine(config: ServerConfig) -> Machine {
    let server = start(config).expect("a server");
    let live = send(
        server.started().address,
        "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    let mut lines = BufReader::new(live).lines().map(|line| line.expect("text"));
    match next(&mut lines) {
        Event::Machine(machine) => *machine,
        other => panic!("the machine comes first, not {other:?}"),
    }
}

#[test]
fn the_medium_is_named_with_what_it_can_do() {
    let with = |change: fn(&mut Options)| {
        let mut config = config();
        config.engine.maker = None;
        change(&mut config.engine);
        machine(config)
    };
    let fiber = with(|engine| {
        engine.maker = Some(Arc::new(LoopMaker::new(LoopSpec::new(1000.0, 1e12))));
    });
    let glass = fiber.glass.expect("it circulates");
    assert_eq!(fiber.medium, "the fiber loop");
    let figure = |name: &str| glass[name].as_f64().expect(name);
    assert_eq!(figure("length_km"), 1000.0);
    assert_eq!(glass["loops"], 1);
    // 1000 km at a refractive index of 1.468, and 85 % of a terabit per second.
    let (lap_s, rate) = (figure("lap_s"), figure("rate_bytes_per_s"));
    assert!((lap_s - 4.896_72e-3).abs() < 1e-8, "{lap_s}");
    assert!((rate - 106.25e9).abs() < 1.0);
    assert_eq!(fiber.device_bytes_per_s, Some(rate));

    let whole = with(|engine| (engine.way, engine.weights) = (Way::Native, None));
    assert_eq!((whole.medium.as_str(), whole.mapped), ("memory", false));
    let mapped = with(|engine| engine.way = Way::Mmap);
    assert_eq!(
        (mapped.medium.as_str(), mapped.mapped),
        ("the page cache", true)
    );
    assert_eq!((mapped.limit_sequences, mapped.resident_bytes), (None, 0));
}

#[test]
fn a_long_lap_is_told_while_it_goes_and_whole_at_its_end() {
    let server = start(config()).expect("a server");
    let address = server.started().address;
    let live = send(address, "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut lines = BufReader::new(live).lines().map(|line| line.expect("text"));

    let Event::Machine(machine) = next(&mut lines) else {
        panic!("the machine comes first")
    };
    let len: u64 = machine.stretches.iter().map(|s| s.bytes).sum();
    assert!(machine.window_bytes > 0 && machine.window_bytes < len);
    assert_eq!((machine.medium.as_str(), machine.glass), ("flash", None));
    let Event::Progress(first) = next(&mut lines) else {
        panic!("how it goes comes second")
    };
    assert_eq!(
        (first.state, first.totals.laps, first.sequences),
        (State::Resting, 0, 0)
    );

    gate(false);
    let body = r#"{"model": "SmolLM2-135M-Instruct.Q4_1", "prompt": "One, two,", "max_tokens": 3}"#;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = send(address, &(head + body));
    let waits = loop {
        if let Event::Progress(progress) = next(&mut lines)
            && progress.elapsed_s > 0.0
        {
            break progress;
        }
    };
    assert_eq!((waits.state, waits.sequences), (State::Waiting, 1));
    assert!(waits.computed_bytes < len && waits.read_bytes < len);

    gate(true);
    let mut laps = 0;
    let rests = loop {
        match next(&mut lines) {
            Event::Lap(lap) => {
                laps += 1;
                assert_eq!(lap.sequences, 1);
                let bins = lap.bins.expect("a streamed model");
                for list in [&bins.compute_us, &bins.stall_us] {
                    assert_eq!(list.len(), BINS);
                }
                let stall_us: u32 = bins.stall_us.iter().sum();
                // Each part is rounded.
                assert!((f64::from(stall_us) - lap.stall_s * 1e6).abs() < BINS as f64);
                if laps == 1 {
                    assert!(
                        lap.stall_s >= waits.elapsed_s / 2.0,
                        "it waited at the gate"
                    );
                }
            }
            Event::Progress(progress) if progress.state == State::Resting => break progress,
            _ => {}
        }
    };
    assert!(laps >= 1);
    assert_eq!(rests.totals.generated_tokens, 3);
    let mut text = String::new();
    answer.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}
