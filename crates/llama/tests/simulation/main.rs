//! The whole engine in virtual time: laps, feeder, residency, window and retries, the
//! batcher and the budget, on a drive with every kind of fault that it reports, in every
//! phase of a lap. A lap computes on the file's bytes or fails, and every sequence gets the
//! tokens that it would get alone.
//!
//! Wrong bytes in reads that report success are not among the faults: `lies.rs` tests them.
//!
//! `SEED` sets the seed; with `MINUTES` it runs that long (`cargo xtask simulate`).
#![forbid(unsafe_code)]

mod backend;
mod medium;
mod model;

use std::any::Any;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use delayline_engine::{Engine, Error, HotnessFile, Options, Stream, Way};
use delayline_line::LineError;
use delayline_llama::Sampling;
use delayline_llama::batch::{
    Batcher, Choice, GenerateRequest, JoinError, Language, SequenceId, SimulatedModel,
};
use delayline_medium::{Faults, Rng};

use self::backend::{CheckBackend, CheckLoader};
use self::medium::{GONE, KINDS, Met, PHASES, Phase, Weather, WeatherMaker, WeatherMedium};
use self::model::{Model, VOCAB};

/// Minimum numbers of completed laps, and of faults that operations have met: in all, of
/// each kind, and in each phase of a lap.
const LAPS: u64 = 100_000;
const FAULTS: u64 = 1_000_000;
const OF_EACH_KIND: u64 = 10_000;
const IN_EACH_PHASE: u64 = 10_000;

/// Number of laps of an engine.
const LAPS_OF_ENGINE: u64 = 25;

/// Maximum number of tokens of a sequence.
const CTX: u32 = 32;

/// The model file, the faults, and counts over all engines.
struct World {
    path: PathBuf,
    loader: CheckLoader,
    options: Options,
    weather: Arc<Weather>,
    rng: Rng,
    /// Minimum memory for weights, in bytes.
    least: u64,
    laps: u64,
    failed: u64,
    tokens: u64,
    checked: u64,
    /// Numbers of engines whose experts were in frames, and of experts that a right guess
    /// brought early.
    framed: u64,
    early: u64,
    /// How often hot experts were being read.
    warmed: u64,
    opened: u64,
    not_opened: u64,
}

impl World {
    fn new(dir: &Path, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let path = dir.join("simulated.gguf");
        let model = Rc::new(Model::write(&path, &mut rng));
        let weather = Arc::new(Weather::default());
        weather.seed.store(rng.next_u64() >> 1, Ordering::Relaxed);
        let maker = WeatherMaker {
            bytes: model.bytes.clone(),
            weather: weather.clone(),
        };
        let outputs = SimulatedModel {
            slots: 1,
            cells: 1,
            rows: 1,
            vocab: VOCAB as usize,
            snapshots: None,
            failures: 0.0,
            spoiled: 0.0,
            lap_ns: 0,
            row_ns: 0,
            medium_ns: 0,
            seed: rng.next_u64(),
        };
        let loader = CheckLoader {
            model,
            outputs,
            weather: weather.clone(),
        };
        let mut world = Self {
            options: Options {
                memory: Some(8 << 30),
                weights: Some(0),
                way: Way::Streamed,
                threads: Some(1),
                ctx: Some(CTX),
                ubatch: Some(8),
                seqs: Some(4),
                maker: Some(Arc::new(maker)),
                ..Options::default()
            },
            path,
            loader,
            weather,
            rng,
            least: 0,
            laps: 0,
            failed: 0,
            tokens: 0,
            checked: 0,
            framed: 0,
            early: 0,
            warmed: 0,
            opened: 0,
            not_opened: 0,
        };
        match world.open() {
            Err(Error::Budget { weights, .. }) => world.least = weights,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("no memory is not enough"),
        }
        world
    }

    fn open(&self) -> Result<Engine<CheckBackend>, Error> {
        self.weather.enter(Phase::Open);
        Engine::open(&self.loader, &self.path, &self.options)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.chance(share)
    }

    /// Faults that retries overcome, nearly always.
    fn showers(&mut self) -> Faults {
        Faults {
            delay_polls: self.rng.below(4),
            delay_ns: self.rng.below(100_000),
            reorder: self.chance(0.9),
            short: self.rng.below(4) as f64 * 0.06,
            transient: self.rng.below(4) as f64 * 0.06,
            // A read is tried four times.
            in_a_row: if self.chance(0.9) { 3 } else { 5 },
            ..Faults::default()
        }
    }

    fn weather(&mut self) -> Faults {
        let mut faults = self.showers();
        match self.rng.below(16) {
            0 => faults = Faults::default(),
            1 => faults.gone_after = Some(0),
            2 | 3 => {
                let len = self.loader.model.bytes.len() as u64;
                let from = self.rng.below(len);
                faults.broken = vec![(0, from..(from + 60_000).min(len))];
            }
            _ => {}
        }
        faults
    }

    /// Changes the faults from a random phase of a lap on.
    fn change_weather(&mut self) {
        let phase = self.rng.below(PHASES.len() as u64) as usize;
        let faults = self.weather();
        self.weather.change(phase, faults);
    }

    /// Makes operations never complete from a random phase on.
    fn hang(&mut self) {
        let phase = 1 + self.rng.below(PHASES.len() as u64 - 1) as usize;
        // No faults before that, which could keep laps from reaching the phase.
        self.weather.switch.set(Faults::default());
        let faults = Faults {
            hung: 1.0,
            ..self.showers()
        };
        self.weather.change(phase, faults);
    }

    /// Opens one engine and runs laps until it has lost operations.
    fn live(&mut self) {
        let len = self.loader.model.bytes.len() as u64;
        // With memory for all other weights, some of the experts are in frames.
        let spare = match self.chance(0.2) {
            true => len / 2 + self.rng.below(len / 2),
            false => self.rng.below(len / 4),
        };
        self.options.weights = Some(self.least + spare);
        let hung = if self.chance(0.1) { 1.0 } else { 0.0 };
        let faults = Faults {
            hung,
            ..self.weather()
        };
        self.weather.switch.set(faults);
        let is_hot = self.chance(0.5);
        self.options.hotness = is_hot.then(|| Arc::new(HotnessFile::open(&self.path)));
        let mut engine = match self.open() {
            Ok(engine) => engine,
            Err(Error::Line(_)) => {
                self.not_opened += 1;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        self.opened += 1;
        let made: &mut dyn Any = engine.stream().expect("it streams").medium();
        let medium: &mut WeatherMedium = made.downcast_mut().expect("the simulated drive");
        engine.backend_mut().clock = medium.clock.clone();
        // Sometimes compute is the longer part of a lap, sometimes the drive.
        engine.backend_mut().node_ns = 2_000 << self.rng.below(8);
        let mut life = Life {
            batcher: Batcher::new(engine, Some(CTX)),
            texts: HashMap::new(),
        };
        for _ in 0..LAPS_OF_ENGINE {
            if self.chance(0.1) {
                self.change_weather();
            }
            if self.chance(0.5) {
                let is_coming = life.stream().warm().unwrap_or(false);
                self.warmed += u64::from(is_coming);
            }
            life.lap(self);
        }
        life.stream().write_hotness().expect("it is written");
        let guesses = life.stream().guess_counts();
        self.framed += u64::from(guesses.is_some());
        self.early += guesses.unwrap_or_default().early;
        // After an operation that never completes, an engine runs no more laps.
        self.hang();
        while !life.lap(self) {}
        assert!(life.lap(self), "a line that lost reads gives nothing");
        self.checked += life.batcher.decoder().backend().checked;
    }

    fn is_enough(&self) -> bool {
        let met = self.weather.met();
        let total: u64 = met.iter().flatten().sum();
        let of_kind = |kind: usize| met.iter().map(|of| of[kind]).sum::<u64>();
        let kinds = (0..KINDS.len()).all(|kind| of_kind(kind) >= OF_EACH_KIND);
        let phases = met.iter().all(|of| of.iter().sum::<u64>() >= IN_EACH_PHASE);
        // Gone and hung operations end the lap where they are first waited for.
        let in_laps = &met[Phase::Begin as usize..];
        let everywhere = in_laps
            .iter()
            .all(|of| of[..GONE].iter().all(|&count| count > 0));
        let guessed = self.early > 0 && self.warmed > 0;
        self.laps >= LAPS && guessed && total >= FAULTS && kinds && phases && everywhere
    }

    fn tell(&self, seed: u64) {
        let met = self.weather.met();
        println!(
            "{} laps completed, {} failed; {} tokens, {} MB compared; \
             {} engines opened, {} not, {} with frames, where {} missing experts had been guessed and \
             {} times hot ones were on their way",
            self.laps,
            self.failed,
            self.tokens,
            self.checked / 1_000_000,
            self.opened,
            self.not_opened,
            self.framed,
            self.early,
            self.warmed
        );
        let row = |name: &str, of: &Met| {
            let counts: Vec<String> = of.iter().map(|count| format!("{count:>10}")).collect();
            println!("{name:>8}{}", counts.concat());
        };
        let names: Vec<String> = KINDS.iter().map(|name| format!("{name:>10}")).collect();
        println!("{:>8}{}", "", names.concat());
        for (name, of) in PHASES.iter().zip(&met) {
            row(name, of);
        }
        let all = std::array::from_fn(|kind| met.iter().map(|of| of[kind]).sum());
        row("all", &all);
        println!("SEED={seed}");
    }
}

/// An engine, and the texts of its sequences.
struct Life {
    batcher: Batcher<Engine<CheckBackend>>,
    texts: HashMap<SequenceId, Vec<i32>>,
}

impl Life {
    fn stream(&mut self) -> &mut Stream {
        self.batcher.decoder().stream().expect("it streams")
    }

    fn join(&mut self, world: &mut World) {
        let len = 1 + world.rng.below(20);
        let prompt: Vec<i32> = (0..len).map(|_| world.rng.below(VOCAB) as i32).collect();
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let answer = 1 + world.rng.below(12) as usize;
        let request = GenerateRequest::new(&prompt, answer, Choice::Sampled(greedy));
        match self.batcher.join(request) {
            Ok(admitted) => _ = self.texts.insert(admitted.id, prompt),
            Err(JoinError::Full(_)) => {}
            Err(JoinError::Invalid(error)) => panic!("{error}"),
        }
    }

    /// Runs one lap; true if the line has lost reads.
    fn lap(&mut self, world: &mut World) -> bool {
        while self.texts.is_empty() || world.chance(0.3) {
            self.join(world);
        }
        world.weather.enter(Phase::Begin);
        let mut events = Vec::new();
        match self.batcher.lap(&mut events) {
            Ok(lap) => {
                assert!(lap.sequences > 0);
                world.laps += 1;
            }
            Err(failed) => {
                assert!(events.is_empty());
                world.failed += 1;
                return match failed.error {
                    Error::Line(LineError::Lost { .. }) => true,
                    Error::Line(_) => false,
                    error => panic!("{error}"),
                };
            }
        }
        for event in events {
            let text = self.texts.get_mut(&event.sequence).expect("it lives");
            let token = event.token.expect("a token");
            let logits = world.loader.outputs.logits(text);
            let mut language = world.loader.outputs.language();
            let expected = language.choose(&mut None, &logits).expect("a token");
            assert_eq!(token.token, expected, "after {text:?}");
            text.push(token.token);
            world.tokens += 1;
            if token.finish.is_some() {
                self.texts.remove(&event.sequence);
            }
        }
        false
    }
}

#[test]
fn a_million_faults_bind_no_wrong_byte() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name}={text}: expected a whole number")),
        )
    };
    let seed = delayline_testing::seed();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut world = World::new(dir.path(), seed);
    match number("MINUTES") {
        Some(minutes) => {
            let end = Instant::now() + Duration::from_secs(60 * minutes);
            while Instant::now() < end {
                world.live();
            }
        }
        None => {
            // If that is not enough, faults are not met and the test is defective.
            let most = 4 * LAPS / LAPS_OF_ENGINE;
            for _ in 0..most {
                if world.is_enough() {
                    break;
                }
                world.live();
            }
            world.tell(seed);
            assert!(world.is_enough(), "too few faults were met");
            return;
        }
    }
    world.tell(seed);
}
