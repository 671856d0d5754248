//! A medium that fails or hangs: the answers of the lap end with an error, the server is
//! unhealthy, and recovers when the fault is over.

mod common;

use std::io::Read;
use std::time::Duration;

use common::{CHAT, alone, chat, config, demo_model, endless, events, read, read_until, start};
use delayline_engine::Options;
use delayline_medium::{FaultSwitch, Faults, Faulty, wrapped};
use delayline_server::{Drained, Limits, ServerConfig};

/// A server whose medium has the faults of the switch.
fn on(faults: &FaultSwitch, limits: Limits) -> ServerConfig {
    let (config, switch) = (config(), faults.clone());
    let faulty = move |inner| {
        let faulty = Faulty::new(inner, Faults::default(), 3);
        Box::new(faulty.with_switch(switch.clone())) as _
    };
    ServerConfig {
        engine: Options {
            maker: Some(wrapped(faulty)),
            ..config.engine
        },
        slots: 1,
        limits,
        ..config
    }
}

#[test]
fn a_fault_ends_the_answers_of_its_lap_and_nothing_else() {
    let _alone = alone();
    let faults = FaultSwitch::default();
    let (server, client) = start(on(&faults, Limits::default()));
    let mut running = client.send_json(CHAT, &endless(1000));
    read_until(&mut running, "content\":\"[");
    faults.set(Faults {
        broken: vec![(0, 0..1 << 40)],
        ..Faults::default()
    });
    let rest = read_until(&mut running, "[DONE]");
    let events = events(&rest);
    let error = events.iter().find(|event| event.contains("\"error\""));
    assert!(error.is_some_and(|e| e.contains("server_error")), "{rest}");
    for _ in 0..2 {
        let reply = client.post(CHAT, &chat("hi", 2));
        assert_eq!(reply.status, 500, "{reply:?}");
        assert_eq!(reply.json()["error"]["type"], "server_error");
    }
    let ill = client.get("/health");
    assert_eq!(
        (ill.status, &ill.json()["status"]),
        (503, &"unhealthy".into())
    );
    assert!(!ill.body.contains(&*folder()), "{ill:?}");
    assert!(!rest.contains(&*folder()), "{rest}");
    assert_eq!(client.metric("delayline_healthy"), 0.0);
    assert!(client.metric("delayline_failed_laps_total") >= 3.0);

    faults.set(Faults::default());
    let again = client.post(CHAT, &chat("hi", 2));
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(client.get("/health").status, 200);
    assert!(server.runs());
}

/// The folder of the model.
fn folder() -> String {
    let model = demo_model();
    let folder = model.parent().expect("a folder");
    folder.to_str().expect("text").to_owned()
}

/// While a drive hangs, answers in progress, queued requests and new ones get an error; when
/// the drive answers, the server recovers.
#[test]
fn a_drive_that_hangs_makes_it_ill_until_it_answers() {
    let _alone = alone();
    let faults = FaultSwitch::default();
    let limits = Limits {
        lap_time: Some(Duration::from_secs(3)),
        ..Limits::default()
    };
    let (server, client) = start(on(&faults, limits));
    let mut running = client.send_json(CHAT, &endless(1000));
    read_until(&mut running, "content\":\"[");
    let mut waiting = client.send_json(CHAT, &chat("hi", 2));
    client.until("delayline_queued", |n| n == 1.0);
    faults.freeze();
    client.until("delayline_healthy", |n| n == 0.0);
    let ill = client.get("/health");
    assert_eq!(ill.status, 503, "{ill:?}");
    let why = ill.json()["error"].as_str().expect("words").to_owned();
    assert!(
        why.contains("does not answer") && !why.contains(&folder()),
        "{why}"
    );
    let rest = read_until(&mut running, "[DONE]");
    assert!(rest.contains("does not answer"), "{rest}");
    for reply in [read(&mut waiting), client.post(CHAT, &chat("hi", 2))] {
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
    }
    faults.thaw();
    client.until("delayline_healthy", |n| n == 1.0);
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(client.post(CHAT, &chat("hi", 2)).status, 200);
    assert!(server.runs());
}

/// Nothing waits for a drive that hangs: the sockets are closed, and the engine's thread is
/// abandoned.
#[test]
fn a_server_whose_drive_hangs_can_be_ended() {
    let _alone = alone();
    let faults = FaultSwitch::default();
    let limits = Limits {
        lap_time: Some(Duration::from_secs(3)),
        drain_time: Duration::ZERO,
        ..Limits::default()
    };
    let (server, client) = start(on(&faults, limits));
    let mut running = client.send_json(CHAT, &endless(1000));
    read_until(&mut running, "content\":\"[");
    faults.freeze();
    client.until("delayline_healthy", |n| n == 0.0);
    let mut live = client.send("GET", "/live", "", "");
    read_until(&mut live, "event");
    match server.drain().expect("no defect") {
        Drained::Cut(Some(why)) => assert!(why.contains("does not answer"), "{why}"),
        other => panic!("{other:?}"),
    }
    live.read_to_end(&mut Vec::new()).expect("its end");
    assert!(std::net::TcpStream::connect(client.0).is_err());
    faults.thaw();
}
