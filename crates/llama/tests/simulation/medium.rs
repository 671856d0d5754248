//! A simulated drive with faults, in virtual time, which counts the faults that operations
//! meet by kind and by phase of a lap.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use delayline_line::{Caps, Clock, Completion, Medium, MediumEvent, Op, Stats};
use delayline_medium::{
    Dram, FaultCounts, FaultSwitch, Faults, Faulty, Link, MadeMedium, MakeError, MediumMaker,
    MediumSite, Simulated, VirtualClock,
};

/// Where the engine is when an operation meets a fault.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// Small weights are read before the first lap.
    Open,
    /// The extents of the first run are waited for.
    Begin,
    /// Rows and experts are waited for in the middle of a run.
    Items,
    /// Between two runs.
    Between,
    /// After the last node, or after a failure.
    End,
}

pub const PHASES: [&str; 5] = ["open", "begin", "items", "between", "end"];

pub const KINDS: [&str; 7] = [
    "delayed",
    "reordered",
    "short",
    "transient",
    "broken",
    "gone",
    "hung",
];

/// Index of the first kind that always ends a lap.
pub const GONE: usize = 5;

/// How many operations met each kind of fault.
pub type Met = [u64; KINDS.len()];

fn kinds(counts: FaultCounts) -> Met {
    [
        counts.delayed,
        counts.reordered,
        counts.short,
        counts.transient,
        counts.broken,
        counts.gone,
        counts.hung,
    ]
}

/// The faults and their counts, shared by the medium, the backend and the test.
#[derive(Default)]
pub struct Weather {
    phase: AtomicUsize,
    /// Faults that begin when the engine next enters a phase.
    ambush: Mutex<Option<(usize, Faults)>>,
    /// Changes the faults of the present medium.
    pub switch: FaultSwitch,
    met: Mutex<[Met; PHASES.len()]>,
    /// The seed of the next medium.
    pub seed: AtomicU64,
}

impl Weather {
    /// Notes that the engine is in that phase, and sets the faults that begin with it.
    pub fn enter(&self, phase: Phase) {
        let before = self.phase.swap(phase as usize, Ordering::Relaxed);
        if before == phase as usize {
            return;
        }
        let mut ambush = self.ambush.lock().expect("no holder panics");
        if let Some((_, faults)) = ambush.take_if(|(at, _)| *at == phase as usize) {
            self.switch.set(faults);
        }
    }

    /// Replaces the faults when the engine next enters the phase of that number.
    pub fn change(&self, phase: usize, faults: Faults) {
        *self.ambush.lock().expect("no holder panics") = Some((phase, faults));
    }

    /// The counts of each phase.
    pub fn met(&self) -> [Met; PHASES.len()] {
        *self.met.lock().expect("no holder panics")
    }
}

/// Makes the drive; ignores the medium that it is given.
pub struct WeatherMaker {
    pub bytes: Vec<u8>,
    pub weather: Arc<Weather>,
}

impl fmt::Debug for WeatherMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeatherMaker")
    }
}

impl MediumMaker for WeatherMaker {
    fn make(
        &self,
        _: Box<dyn Medium>,
        site: &MediumSite<'_>,
    ) -> Result<Box<dyn MadeMedium>, MakeError> {
        let (clock, memory) = (VirtualClock::new(), site.memory.clone());
        let seed = self.weather.seed.fetch_add(1, Ordering::Relaxed);
        let link = Link {
            rate_bytes_per_s: 1_000_000_000 + seed % 7 * 500_000_000,
            latency_ns: 50_000,
            depth: 4 << (seed % 4),
            ..Link::default()
        };
        let dram = Dram::new(vec![self.bytes.clone()], memory.clone(), link.depth);
        let drive = Simulated::new(link, dram, clock.clone());
        let faulty = Faulty::new(drive, Default::default(), seed)
            .in_time(clock.clone())
            .spoiling(memory)
            .with_switch(self.weather.switch.clone());
        Ok(Box::new(WeatherMedium {
            faulty,
            clock,
            weather: self.weather.clone(),
            seen: Met::default(),
        }))
    }
}

pub struct WeatherMedium {
    faulty: Faulty<Simulated>,
    pub clock: VirtualClock,
    weather: Arc<Weather>,
    seen: Met,
}

impl WeatherMedium {
    fn count(&mut self) {
        let now = kinds(self.faulty.counts());
        if now != self.seen {
            let mut met = self.weather.met.lock().expect("no holder panics");
            let met = &mut met[self.weather.phase.load(Ordering::Relaxed)];
            for ((sum, now), before) in met.iter_mut().zip(now).zip(self.seen) {
                *sum += now - before;
            }
            self.seen = now;
        }
    }
}

impl Medium for WeatherMedium {
    fn caps(&self) -> &Caps {
        self.faulty.caps()
    }

    fn submit(&mut self, op: Op) {
        self.faulty.submit(op);
        self.count();
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.faulty.poll(wait, done);
        self.count();
    }

    fn stats(&self) -> Stats {
        self.faulty.stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.faulty.events(out);
    }
}

impl MadeMedium for WeatherMedium {
    fn clock(&self) -> Option<Rc<dyn Clock>> {
        Some(Rc::new(self.clock.clone()))
    }
}
