//! A medium that fails: the answers of that lap end with an error, the server says
//! that it is ill, and is well again when the fault is over.

mod common;

use common::{CHAT, alone, chat, config, endless, events, read_until, start};
use delayline_llama::Options;
use delayline_llama::medium::{FaultSwitch, Faults, Faulty, wrapped};
use delayline_server::ServerConfig;

#[test]
fn a_fault_ends_the_answers_of_its_lap_and_nothing_else() {
    let _alone = alone();
    let (config, faults) = (config(), FaultSwitch::default());
    let switch = faults.clone();
    let faulty = move |inner| {
        let faulty = Faulty::new(inner, Faults::default(), 3);
        Box::new(faulty.with_switch(switch.clone())) as _
    };
    let (server, client) = start(ServerConfig {
        engine: Options {
            maker: Some(wrapped(faulty)),
            ..config.engine
        },
        ..config
    });
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
    assert_eq!(client.metric("delayline_healthy"), 0.0);
    assert!(client.metric("delayline_failed_laps_total") >= 3.0);

    faults.set(Faults::default());
    let again = client.post(CHAT, &chat("hi", 2));
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(client.get("/health").status, 200);
    assert!(server.runs());
}
