//! Routes of mixtures of experts: parsed, written, replayed under all policies; and
//! pools of frames. Recorded routes are not part of the repository; their tests are
//! skipped without them.

mod common;

use common::{Random, random_cases};
use delayline_plan::{
    ExpertLayer, ExpertPools, ExpertRoute, ExtentId, FirstCome, FramePool, Frequency, Lru, Policy,
    Presence, RouteError, RouteLap, RouteRow, S3Fifo, pool_shapes, production_policy,
    replay_experts, replay_experts_ahead,
};
use std::collections::HashMap;
use std::path::Path;

/// A model, and the smallest accepted share of hits of the production policy with 3, 10
/// and 25 % of the experts in memory.
const ROUTES: [(&str, [f64; 3]); 3] = [
    ("qwen", [0.27, 0.56, 0.84]),
    ("gemma", [0.27, 0.56, 0.82]),
    ("gptoss", [0.38, 0.65, 0.82]),
];

/// A recorded route, if its file is there.
fn recorded(name: &str) -> Option<ExpertRoute> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/expert-routes");
    let path = folder.join(format!("{name}.route.csv"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(ExpertRoute::parse(&text).expect("the route is read")),
        // A folder that is there has all of them.
        Err(error) => {
            assert!(!folder.exists(), "{}: {error}", path.display());
            delayline_testing::lacks_data(format_args!("{} is not there", path.display()));
            None
        }
    }
}

/// Experts that are not in memory when the answer's laps `laps` use them.
fn missed<P: Policy>(
    pools: &mut ExpertPools<P>,
    route: &ExpertRoute,
    laps: std::ops::Range<usize>,
) -> usize {
    let answer = route.laps.iter().filter(|lap| !lap.is_prompt);
    let mut missed = 0;
    for lap in answer.skip(laps.start).take(laps.len()) {
        for layer in 0..route.layers.len() as u16 {
            let mut framed = Vec::new();
            let experts = lap.rows[0].of_layer(layer).map(u32::from);
            assert!(pools.visit(layer.into(), experts, &mut framed));
            missed += framed.iter().filter(|f| f.found != Presence::Held).count();
        }
    }
    missed
}

#[test]
fn a_start_with_what_was_hot_reads_less_for_its_first_tokens() {
    for (name, _) in ROUTES {
        let Some(route) = recorded(name) else {
            continue;
        };
        let capacity = route.expert_bytes() / 4;
        let shapes = pool_shapes(&route.layers, capacity, route.chosen);
        let empty = || ExpertPools::new(&route.layers, &shapes, production_policy);
        // The first run ends in the middle of the route.
        let middle = route.laps.iter().filter(|lap| !lap.is_prompt).count() / 2;
        let first = middle..middle + 16;
        let cold = missed(&mut empty(), &route, first.clone());
        // The next starts with the experts that the first held.
        let mut pools = empty();
        missed(&mut pools, &route, 0..middle);
        let layers = (0..).zip(&route.layers);
        let all = layers.flat_map(|(layer, of)| (0..of.count).map(move |expert| (layer, expert)));
        let held: Vec<(u32, u32)> = all
            .filter(|&(layer, expert)| pools.holds(layer, expert))
            .collect();
        pools.clear();
        assert_eq!(pools.held_bytes(), 0);
        for (layer, expert) in held {
            pools
                .reserve_unused(layer, expert, 1)
                .expect("a frame that nobody uses");
            assert!(pools.hold(layer, expert));
        }
        let warm = missed(&mut pools, &route, first);
        println!("{name}: {warm} experts are missed for 16 tokens, {cold} without a list");
        assert!(2 * warm < cold, "{name}: {warm} of {cold}");
    }
}

#[test]
fn recorded_routes_are_replayed_sensibly() {
    for (name, expected) in ROUTES {
        let Some(route) = recorded(name) else {
            continue;
        };
        for (share, least) in [0.03, 0.1, 0.25].into_iter().zip(expected) {
            let capacity = (route.expert_bytes() as f64 * share) as u64;
            let shapes = pool_shapes(&route.layers, capacity, route.chosen);
            let next = replay_experts(&route, &shapes, production_policy);
            let first = replay_experts(&route, &shapes, |_| FirstCome::default());
            let lru = replay_experts(&route, &shapes, |_| Lru::default());
            let frequency = replay_experts(&route, &shapes, |_| Frequency::default());
            let fifo = replay_experts(&route, &shapes, |shape| S3Fifo::new(shape.frames as usize));
            let belady = replay_experts_ahead(&route, capacity);
            let all = [first, lru, frequency, fifo, next, belady];
            for done in &all {
                assert_eq!(done.lap_bytes.len() as u64, done.tokens);
                assert_eq!(done.lap_bytes.iter().sum::<u64>(), done.bytes_read);
            }
            let shares = all.map(|done| done.hit_share());
            println!("{name} {share}: {shares:.3?}");
            let [.., next, belady] = shares;
            assert!(next >= least, "{name} {share}: {next}");
            assert!(shares.iter().all(|&hits| hits <= belady));
            if share < 0.2 {
                assert!(shares[..4].iter().all(|&hits| hits < next));
            }
        }
        let again = ExpertRoute::parse(&route.to_text()).expect("it is read again");
        assert_eq!(again, route);
    }
}

/// A route of a model whose layers have two lengths of experts.
fn random_route(random: &mut Random) -> ExpertRoute {
    let count = random.between(2, 9) as u32;
    let chosen = random.between(1, u64::from(count.min(3))) as u32;
    let layers: Vec<ExpertLayer> = (0..random.between(1, 5))
        .map(|_| ExpertLayer {
            count,
            bytes: 4096 * random.between(1, 2),
        })
        .collect();
    let mut row = || {
        let mut picks = Vec::new();
        for layer in 0..layers.len() as u16 {
            let first = random.between(0, u64::from(count) - 1) as u32;
            picks.extend((0..chosen).map(|slot| (layer, ((first + slot) % count) as u16)));
        }
        RouteRow { picks }
    };
    let prompt = RouteLap {
        is_prompt: true,
        rows: (0..4).map(|_| row()).collect(),
    };
    let answer = (0..12).map(|_| RouteLap {
        is_prompt: false,
        rows: vec![row()],
    });
    let laps = std::iter::once(prompt).chain(answer).collect();
    ExpertRoute {
        model: "tiny".into(),
        layers,
        chosen,
        laps,
    }
}

#[test]
fn a_route_that_was_written_is_the_one_that_is_read() {
    random_cases(100, |random: &mut Random| {
        let mut route = random_route(random);
        assert_eq!(ExpertRoute::parse(&route.to_text()).as_ref(), Ok(&route));
        // Two turns of a conversation.
        route.laps.extend(route.laps.clone());
        assert_eq!(ExpertRoute::parse(&route.to_text()), Ok(route));
    });
}

#[test]
fn what_is_no_route_is_told_with_its_line() {
    let wrong = |text: &str| ExpertRoute::parse(text).expect_err(text).to_string();
    for (row, part) in [
        ("0,1,0,0,0,5", "expert_bytes"),
        ("0,1,0,0,0,9999,0,0,4096", "expert is \"9999\""),
        ("0,1,0,1024,0,1,0,0,4096", "layer is \"1024\""),
        ("0,2,0,0,0,1,0,0,4096", "phase is \"2\""),
        ("0,1,0,0,0,-1,0,0,4096", "expert is \"-1\""),
        ("0,1,0,1,0,1,0,0,4096\n0,1,0,0,0,1,0,0,4096", "line 2"),
        ("0,1,0,0,0,1,0,0,4096\n0,1,0,0,1,1,0,0,4096", "twice"),
        ("GGUF\u{0}\u{0}", "turn is"),
    ] {
        let told = wrong(row);
        assert!(told.contains(part) && told.contains("line"), "{told}");
    }
    assert_eq!(ExpertRoute::parse(""), Err(RouteError::Empty));
    assert_eq!(
        ExpertRoute::parse("0,0,0,0,0,1,0,0,4096"),
        Err(RouteError::Empty)
    );
    let short = ExpertRoute::parse("0,1,0,1,0,1,0,0,4096");
    assert_eq!(short, Err(RouteError::Length { layer: 0 }));
}

#[test]
fn pools_hold_what_they_say_and_never_too_much() {
    random_cases(60, |random: &mut Random| {
        let route = random_route(random);
        let capacity = random.between(0, route.expert_bytes() * 2);
        let shapes = pool_shapes(&route.layers, capacity, route.chosen);
        let needed = |bytes| bytes * u64::from(route.chosen);
        let bytes: u64 = shapes.iter().map(|s| s.bytes * u64::from(s.frames)).sum();
        let least: u64 = shapes.iter().map(|shape| needed(shape.bytes)).sum();
        assert!(bytes <= capacity.max(least) + least);
        let mut pools = ExpertPools::new(&route.layers, &shapes, production_policy);
        let mut held: HashMap<(usize, u32), (u32, u32)> = HashMap::new();
        for turn in 0..300_u32 {
            let layer = turn % route.layers.len() as u32;
            let count = route.layers[layer as usize].count;
            let batch: Vec<u32> = (0..random.between(1, 6))
                .map(|_| random.between(0, u64::from(count) - 1) as u32)
                .collect();
            let mut distinct = batch.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let pool = pools.pool_of(layer);
            let mut framed = Vec::new();
            let fits = pools.visit(layer, batch.iter().copied(), &mut framed);
            assert_eq!(fits, distinct.len() <= pools.frames(pool) as usize);
            let mut named: Vec<u32> = framed.iter().map(|framed| framed.item.0).collect();
            named.sort_unstable();
            assert_eq!(named, if fits { distinct } else { Vec::new() });
            for framed in &framed {
                assert!(framed.frame < pools.frames(pool));
                let there = held.get(&(pool, framed.frame)) == Some(&(layer, framed.item.0));
                assert_eq!(framed.found == Presence::Held, there);
            }
            for framed in &framed {
                held.insert((pool, framed.frame), (layer, framed.item.0));
            }
            if turn % 97 == 96 {
                pools.clear();
                held.clear();
            }
            let frame_bytes = |pool: usize| shapes[pool].bytes;
            let bytes: u64 = held.keys().map(|(pool, _)| frame_bytes(*pool)).sum();
            assert_eq!(pools.held_bytes(), bytes);
        }
    });
}

/// The state of a frame as the test expects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Holds(ExtentId),
    Reserved(ExtentId),
    /// Its reservation was cancelled; a read into it may be under way.
    Lost,
}

#[test]
fn reserved_frames_are_nobody_elses_until_they_are_given_back() {
    random_cases(200, |random: &mut Random| {
        let frames = random.between(6, 20) as u32;
        let items = random.between(8, 60) as u32;
        let most = random.between(0, 4) as u32;
        let mut pool = FramePool::new(frames, items, Lru::default());
        let mut owners = vec![Owner::Nobody; frames as usize];
        let mut spare = 0;
        for _ in 0..400 {
            let item = ExtentId(random.between(0, u64::from(items) - 1) as u32);
            let of = |owners: &[Owner], owner| owners.iter().position(|of| *of == owner);
            match random.between(0, 11) {
                10 => {
                    let taken = |owner: &&Owner| matches!(owner, Owner::Reserved(_) | Owner::Lost);
                    let taken = owners.iter().filter(taken).count() as u32;
                    if let Some(frame) = pool.reserve_unused(item, most) {
                        assert_eq!(owners[frame as usize], Owner::Nobody);
                        assert_eq!(of(&owners, Owner::Reserved(item)), None);
                        assert!(taken < most && pool.held() + taken < frames - spare);
                        owners[frame as usize] = Owner::Reserved(item);
                    }
                }
                11 => {
                    if let Some(frame) = of(&owners, Owner::Reserved(item)) {
                        let there = pool.hold(item);
                        assert_eq!(there, pool.frame_of(item) == Some(frame as u32));
                        owners[frame] = match there {
                            true => Owner::Holds(item),
                            false => Owner::Nobody,
                        };
                    }
                }
                0 => {
                    spare = random.between(0, u64::from(most)) as u32;
                    pool.leave(spare);
                    // The pool does not report what it evicts.
                    for owner in &mut owners {
                        if let Owner::Holds(item) = *owner
                            && pool.frame_of(item).is_none()
                        {
                            *owner = Owner::Nobody;
                        }
                    }
                }
                1..=3 => {
                    if let Some(frame) = pool.reserve(item) {
                        assert_eq!(owners[frame as usize], Owner::Nobody);
                        assert_eq!(of(&owners, Owner::Reserved(item)), None);
                        owners[frame as usize] = Owner::Reserved(item);
                    }
                }
                4 => {
                    pool.cancel(item);
                    if let Some(frame) = of(&owners, Owner::Reserved(item)) {
                        owners[frame] = Owner::Lost;
                    }
                }
                5 => {
                    if let Some(frame) = of(&owners, Owner::Lost) {
                        owners[frame] = Owner::Nobody;
                        pool.give_back(frame as u32);
                    }
                }
                _ => {
                    let batch: Vec<_> = (0..random.between(1, 3))
                        .map(|_| ExtentId(random.between(0, u64::from(items) - 1) as u32))
                        .collect();
                    let mut framed = Vec::new();
                    if !pool.visit(batch.iter().copied(), &mut framed) {
                        continue;
                    }
                    for framed in &framed {
                        let owner = owners[framed.frame as usize];
                        match framed.found {
                            Presence::Held => assert_eq!(owner, Owner::Holds(framed.item)),
                            Presence::Reserved => assert_eq!(owner, Owner::Reserved(framed.item)),
                            Presence::Missing => {
                                assert!(matches!(owner, Owner::Nobody | Owner::Holds(_)));
                            }
                        }
                        owners[framed.frame as usize] = Owner::Holds(framed.item);
                    }
                    for (frame, owner) in owners.iter_mut().enumerate() {
                        if let Owner::Holds(item) = *owner
                            && pool.frame_of(item) != Some(frame as u32)
                        {
                            *owner = Owner::Nobody;
                        }
                    }
                    assert!(pool.held() <= frames - spare);
                }
            }
            let held = owners
                .iter()
                .filter(|owner| matches!(owner, Owner::Holds(_)));
            assert_eq!(held.count() as u32, pool.held());
        }
    });
}
