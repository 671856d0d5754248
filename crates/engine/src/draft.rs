//! The plan of a stream before its memory is made: the graphs of a backend, the role of
//! each weight, and what the budget is spent on already.

use std::rc::Rc;

use delayline_medium::{Checks, LapOutline};

use crate::atlas::Atlas;
use crate::backend::{Backend, Class};
use crate::cgroup;
use crate::division::{Division, divide};
use crate::error::Error;
use crate::graph::Graph;
use crate::itinerary::Itinerary;
use crate::ledger::{Account, Ledger};
use crate::model_file::{ModelFile, Names};
use crate::options::Options;
use crate::process::{self, Usage};
use crate::seal;
use crate::source::READ_LEN;

/// A class's graph and itinerary.
pub(crate) struct Learned {
    pub class: Class,
    pub graph: Rc<Graph>,
    pub itinerary: Rc<Itinerary>,
}

/// A stream that is not made yet.
pub(crate) struct Draft {
    pub classes: [Option<Learned>; 3],
    pub atlas: Atlas,
    /// Known hashes of the bytes to be read, if they are checked.
    pub checks: Option<Checks>,
    /// Parts without a seal.
    pub unsealed: Vec<String>,
    /// The itinerary of a decoding lap with nothing resident.
    pub itinerary: Itinerary,
    /// Everything booked but window and large weights.
    pub ledger: Ledger,
}

impl Draft {
    /// Learns the model's graphs, and books the present memory of the process on `ledger`.
    ///
    /// # Errors
    /// If the backend does not behave as expected.
    pub fn learn<B: Backend>(
        backend: &mut B,
        file: &ModelFile,
        mut ledger: Ledger,
        options: &Options,
    ) -> Result<Self, Error> {
        let made = Usage::now();
        let classes = learn_all(backend, &file.names())?;
        process::trim_heap();
        process::drop_read_beside();
        let graphs: Vec<Rc<Graph>> = classes.iter().flatten().map(|l| l.graph.clone()).collect();
        // The dry laps built all graphs but computed nothing: buffers, and what was
        // allocated to compute with, are not resident yet and are booked separately.
        let usage = Usage::now();
        let kv = backend.kv_bytes();
        ledger.book(Account::Program, usage.resident.saturating_sub(kv));
        ledger.book(Account::KvCache, kv);
        ledger.book(Account::Buffers, backend.buffer_bytes());
        ledger.book(Account::Scratch, usage.data.saturating_sub(made.data));

        let atlas = Atlas::new(file, &graphs)?;
        let (checks, unsealed) = match options.unchecked {
            true => (None, Vec::new()),
            false => {
                let (checks, unsealed) = seal::checks(file, &atlas)?;
                (Some(checks), unsealed)
            }
        };
        let layout = &atlas.layout;
        ledger.book(Account::SmallWeights, layout.small_bytes);
        ledger.book(Account::Hashes, checks.as_ref().map_or(0, Checks::bytes));
        ledger.book(Account::Hotness, layout.arena.hot_bytes());
        let medium = options.maker.as_ref();
        ledger.book(
            Account::Medium,
            medium.map_or(0, |maker| maker.needs_bytes()),
        );
        ledger.book(Account::Passing, layout.passing_bytes);
        Ok(Self {
            itinerary: atlas.lay_out(&graphs[0]),
            classes,
            atlas,
            checks,
            unsealed,
            ledger,
        })
    }

    /// Divides what the ledger leaves, for laps computed by `threads` threads.
    ///
    /// # Errors
    /// Those of [`divide`].
    pub fn divide(
        &self,
        file: &ModelFile,
        threads: u32,
        options: &Options,
    ) -> Result<Division, Error> {
        let lap = outline(&self.itinerary, file, threads);
        divide(&lap, &self.ledger, options)
    }
}

/// The description of a decoding lap for a maker of media.
pub(crate) fn outline<'a>(
    itinerary: &'a Itinerary,
    file: &ModelFile,
    threads: u32,
) -> LapOutline<'a> {
    let group = cgroup::current().and_then(|group| group.available_bytes());
    LapOutline {
        plan: &itinerary.plan,
        schedule: &itinerary.schedule,
        weight_bytes: file.weight_bytes(),
        threads,
        read_len: READ_LEN,
        free_bytes: process::available_bytes().into_iter().chain(group).min(),
    }
}

fn learn_all<B: Backend>(backend: &mut B, names: &Names) -> Result<[Option<Learned>; 3], Error> {
    let many = backend.shape().ubatch > 1;
    let mut learn = |class, there: bool| -> Result<Option<Learned>, Error> {
        if !there {
            return Ok(None);
        }
        let graph = Rc::new(backend.learn(class, names)?);
        let itinerary = Rc::default();
        Ok(Some(Learned {
            class,
            graph,
            itinerary,
        }))
    };
    Ok([
        learn(Class::Single, true)?,
        learn(Class::Many, many)?,
        learn(Class::Quiet, many)?,
    ])
}
