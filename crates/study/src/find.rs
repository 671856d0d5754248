//! Search for the cheapest or coolest machine that gives each user a rate: over media,
//! accelerators, their number, units of the medium and the batch. A closed form searches, the
//! simulation confirms.

mod report;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rayon::prelude::*;
use serde::Serialize;

use crate::datasheet::{Library, SheetError, SheetKind};
use crate::decode::{
    Accelerator, Case, DecodeError, Decoded, Software, decode, typical_tokens_per_s,
};
use crate::interval::Interval;
use crate::media::{self, MediaError, Need, Sized, Unit};
use crate::model::LanguageModel;

pub use report::find_report;

/// Largest number of accelerators that share each layer.
const MOST_ACCELERATORS: u32 = 128;
/// Largest number of times that a loop holds the model.
const MOST_COPIES: u32 = 64;
/// Tokens a second of each user that are searched for.
const RATES: RangeInclusive<f64> = 1e-6..=1e12;
/// Maximum number of machines that are simulated for each medium and round.
const TRIED: usize = 4;
/// Rounds, each of which asks the closed form for more because the simulation gave less.
const ROUNDS: usize = 3;

/// What makes a machine the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// It costs least to buy.
    Cheapest,
    /// It draws least.
    Coolest,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FindQuestion {
    /// Id of the model.
    pub model: String,
    /// Tokens per second of each user, at least.
    pub tokens_per_s: f64,
    /// How many users there are at once.
    pub users: u32,
    /// Tokens of context of each.
    pub context: u32,
    /// Id of the software; `ideal` for bounds.
    pub software: String,
    /// Ids of accelerators that may be used; all if there are none.
    pub accelerators: Vec<String>,
    /// Ids of media that may be used, `own` among them; all if there are none.
    pub media: Vec<String>,
    /// What makes the best.
    pub wish: Wish,
}

/// A machine, as many times as all users take.
#[derive(Clone, Debug, Serialize)]
pub struct FoundMachine {
    /// Id of the medium.
    pub medium: String,
    /// The accelerators that share each layer, for people.
    pub accelerator: String,
    /// Sequences that share a lap.
    pub batch: u32,
    /// How many such machines serve all users.
    pub machines: u32,
    /// All of them together: what they cost to buy, in dollars.
    pub price: Interval,
    /// All of them together: what they draw while decoding, in watts.
    pub power_w: Interval,
    /// One of them, simulated.
    pub decoded: Decoded,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The best machine of each medium that has one, the best first.
    pub machines: Vec<FoundMachine>,
    /// Media with which nothing does it, and what the fastest of them gives each user in
    /// tokens per second.
    pub too_slow: BTreeMap<String, f64>,
    /// How many machines were looked at.
    pub looked_at: u64,
    /// Accelerators that were left out because their power or price is not published.
    pub unpriced: Vec<String>,
}

/// A machine before it is simulated.
struct Candidate {
    case: Case,
    machines: u32,
    /// What the wish weighs: dollars or watts.
    cost: f64,
}

/// The best machine of each medium for the question.
///
/// # Errors
/// [`DecodeError`].
pub fn find(library: &Library, question: &FindQuestion) -> Result<Found, DecodeError> {
    let searcher = Searcher::new(library, question)?;
    let confirmed: Result<Vec<Confirmed>, DecodeError> = searcher
        .media
        .par_iter()
        .map(|id| searcher.confirmed(id))
        .collect();
    let confirmed = confirmed?;
    let looked_at = confirmed.iter().map(|one| one.looked_at).sum();
    let mut found = Found {
        machines: Vec::new(),
        too_slow: BTreeMap::new(),
        looked_at,
        unpriced: searcher.unpriced.clone(),
    };
    for one in confirmed {
        match one.machine {
            Some(machine) => found.machines.push(machine),
            None => drop(found.too_slow.insert(one.id, one.fastest)),
        }
    }
    let weight = |machine: &FoundMachine| machine.weight(question.wish);
    found
        .machines
        .sort_by(|a, b| weight(a).total_cmp(&weight(b)));
    Ok(found)
}

/// What the best machine of all costs in dollars, or draws in watts: the same as
/// [`find`]'s first, without what comes behind it. None where nothing does what is asked.
///
/// # Errors
/// [`DecodeError`].
pub fn best_weight(library: &Library, question: &FindQuestion) -> Result<Option<f64>, DecodeError> {
    if question.wish == Wish::Coolest {
        // What a machine draws is only known when it is simulated.
        let found = find(library, question)?;
        return Ok(found
            .machines
            .first()
            .map(|best| best.weight(Wish::Coolest)));
    }
    let searcher = Searcher::new(library, question)?;
    let mut media = Vec::new();
    for id in &searcher.media {
        let search = searcher.search(id, question.tokens_per_s)?;
        let least = search.candidates.iter().map(|candidate| candidate.cost);
        media.push((least.fold(f64::INFINITY, f64::min), id));
    }
    // No machine of a medium costs less than its cheapest candidate: where the simulation
    // gives less than the closed form, it only takes more units.
    media.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut best = f64::INFINITY;
    for (least, id) in media {
        if best <= least * (1.0 - 1e-9) {
            break;
        }
        if let Some(machine) = searcher.confirmed(id)?.machine {
            best = best.min(machine.weight(Wish::Cheapest));
        }
    }
    Ok(best.is_finite().then_some(best))
}

impl FoundMachine {
    /// What the wish weighs: dollars or watts.
    fn weight(&self, wish: Wish) -> f64 {
        match wish {
            Wish::Cheapest => self.price.typical,
            Wish::Coolest => self.power_w.typical,
        }
    }
}

/// What a question is about.
struct Searcher<'a> {
    library: &'a Library,
    question: &'a FindQuestion,
    model: LanguageModel,
    software: Software,
    accelerators: Vec<Accelerator>,
    /// Names of those that were left out: they would be the best for lack of a figure.
    unpriced: Vec<String>,
    media: Vec<String>,
}

impl<'a> Searcher<'a> {
    fn new(library: &'a Library, question: &'a FindQuestion) -> Result<Self, DecodeError> {
        check(question)?;
        let model = LanguageModel::of(library, &question.model)?;
        let software = match question.software.as_str() {
            "ideal" => Software::ideal(),
            id => Software::of(library, id)?,
        };
        let accelerators: Result<Vec<Accelerator>, SheetError> =
            match question.accelerators.is_empty() {
                false => {
                    let ids = question.accelerators.iter();
                    ids.map(|id| Accelerator::of(library, id)).collect()
                }
                true => {
                    let sheets = library.of_kind(SheetKind::Accelerator);
                    sheets
                        .map(|sheet| Accelerator::of(library, &sheet.id))
                        .collect()
                }
            };
        let media = match question.media.is_empty() {
            false => question.media.clone(),
            true => {
                let today = media::of_today(library).into_iter();
                today.chain(["own".to_owned()]).collect()
            }
        };
        let (accelerators, unpriced): (Vec<_>, Vec<_>) = accelerators?
            .into_iter()
            .partition(|one| one.unknown.is_empty());
        let unpriced: Vec<String> = unpriced.into_iter().map(|one| one.name).collect();
        if accelerators.is_empty() {
            return Err(DecodeError::Value {
                what: "the accelerator",
                got: unpriced.join(", "),
                expected: "one whose power and price are published; a sheet of one's own \
                           (--datasheets) can give them"
                    .to_owned(),
            });
        }
        Ok(Self {
            library,
            question,
            model,
            software,
            accelerators,
            unpriced,
            media,
        })
    }

    /// The candidates of a medium of which the closed form gives so many tokens a second.
    fn search(&self, id: &str, bound: f64) -> Result<Search<'_>, DecodeError> {
        let mut search = Search::new(self.question, bound, &self.model, &self.software);
        let unit = match id {
            "own" => None,
            id => match media::unit(self.library, id) {
                Ok(unit) => Some(unit),
                // A design that does not work is no candidate.
                Err(MediaError::Link(_)) => return Ok(search),
                Err(error) => return Err(error.into()),
            },
        };
        for one in &self.accelerators {
            search.accelerator(self.library, one, unit.as_ref());
        }
        Ok(search)
    }

    /// The best of a medium. Where the simulation gives less than the closed form, the
    /// closed form is asked for as much more.
    fn confirmed(&self, id: &str) -> Result<Confirmed, DecodeError> {
        let mut all = Confirmed {
            id: id.to_owned(),
            ..Confirmed::default()
        };
        let mut bound = self.question.tokens_per_s;
        for _ in 0..ROUNDS {
            let search = self.search(id, bound)?;
            all.looked_at += search.looked_at;
            all.fastest = all.fastest.max(search.fastest);
            match search.confirmed(self.library, id) {
                Ok(machine) => {
                    all.machine = Some(machine);
                    break;
                }
                Err(share) if share > 0.0 => bound *= 1.01 / share,
                Err(_) => break,
            }
        }
        Ok(all)
    }
}

fn check(question: &FindQuestion) -> Result<(), DecodeError> {
    let tokens = question.tokens_per_s;
    if !RATES.contains(&tokens) {
        return Err(DecodeError::Value {
            what: "the rate of each user",
            got: format!("{tokens:e}"),
            expected: format!(
                "from {:e} to {:e} tokens per second",
                RATES.start(),
                RATES.end()
            ),
        });
    }
    if question.users == 0 {
        return Err(DecodeError::Value {
            what: "the number of users",
            got: "0".to_owned(),
            expected: "1 or more".to_owned(),
        });
    }
    Ok(())
}

/// What came of one medium.
#[derive(Default)]
struct Confirmed {
    id: String,
    looked_at: u64,
    fastest: f64,
    machine: Option<FoundMachine>,
}

/// The candidates of one medium.
struct Search<'a> {
    question: &'a FindQuestion,
    /// Tokens per second of each user that the closed form has to give.
    bound: f64,
    model: &'a LanguageModel,
    software: &'a Software,
    candidates: Vec<Candidate>,
    looked_at: u64,
    /// Tokens per second of each user that the fastest machine gives.
    fastest: f64,
}

impl<'a> Search<'a> {
    fn new(
        question: &'a FindQuestion,
        bound: f64,
        model: &'a LanguageModel,
        software: &'a Software,
    ) -> Self {
        Self {
            question,
            bound,
            model,
            software,
            candidates: Vec::new(),
            looked_at: 0,
            fastest: 0.0,
        }
    }

    /// All numbers of an accelerator, and all batches; of each as few units of the medium
    /// as do.
    fn accelerator(&mut self, library: &Library, one: &Accelerator, unit: Option<&Unit>) {
        for count in 1..=MOST_ACCELERATORS {
            let accelerator = one.clone().times(count);
            let unit = match unit {
                Some(unit) => unit.clone(),
                None => match accelerator.own_memory(library) {
                    Ok(unit) => unit,
                    Err(_) => return,
                },
            };
            let mut case = Case {
                model: self.model.clone(),
                accelerator,
                software: self.software.clone(),
                unit,
                units: 0,
                feed_bytes_per_s: 0.0,
                batch: 1,
                context: self.question.context,
                window_bytes: None,
                resident_bytes: 0,
                compute_s: None,
                plan: None,
            };
            for batch in batches(self.question.users) {
                case.batch = batch;
                self.machine(&mut case);
            }
        }
    }

    /// As few units as give the rate, if any number does.
    fn machine(&mut self, case: &mut Case) {
        let lap_s = 1.0 / self.bound;
        let hold = (self.model.weights_bytes / case.unit.capacity_bytes.typical).ceil();
        let least = hold.clamp(1.0, 1e6) as u32;
        let counts: Vec<u32> = match (case.unit.id.as_str(), case.unit.lap_s) {
            ("own", _) => vec![0],
            (_, Some(_)) => (1..=MOST_COPIES).map(|copies| least * copies).collect(),
            (_, None) => {
                let bytes = self.model.needed_bytes(case.batch);
                let feed = bytes / (lap_s * case.unit.rate_bytes_per_s.typical);
                vec![least.max(feed.ceil().min(1e6) as u32)]
            }
        };
        for units in counts {
            self.looked_at += 1;
            case.units = units;
            let Some(bound_s) = case.closed_form_s() else {
                return;
            };
            self.fastest = self.fastest.max(1.0 / bound_s);
            if bound_s <= lap_s * (1.0 + 1e-9) {
                self.keep(case.clone());
                return;
            }
        }
    }

    fn keep(&mut self, case: Case) {
        let machines = self.question.users.div_ceil(case.batch);
        let need = Need {
            bytes: self.model.weights_bytes,
            rate_bytes_per_s: 0.0,
        };
        let medium = Sized::at_least(case.unit.clone(), need, case.units);
        let one = match self.question.wish {
            Wish::Cheapest => medium.price.typical + case.accelerator.price.typical,
            Wish::Coolest => {
                let bits = self.model.needed_bytes(case.batch) * 8.0 * self.question.tokens_per_s;
                medium.standby_w.typical
                    + bits * case.unit.energy_j_per_bit.typical
                    + case.accelerator.power_w.typical
            }
        };
        self.candidates.push(Candidate {
            case,
            machines,
            cost: one * f64::from(machines),
        });
    }

    /// The first candidate that does it in the simulation as well; or the greatest share of
    /// its closed form that one of those tried gave.
    fn confirmed(mut self, library: &Library, id: &str) -> Result<FoundMachine, f64> {
        let mut share = 0.0f64;
        let tokens = self.question.tokens_per_s;
        self.candidates.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        for candidate in self.candidates.into_iter().take(TRIED) {
            let Candidate { case, machines, .. } = candidate;
            // The simulation is exact to about a part in a thousand.
            let enough = |rate: f64| rate >= tokens * 0.999;
            // Typical figures first: that rules out most, at a third of the work.
            let Ok(rate) = typical_tokens_per_s(&case) else {
                continue;
            };
            if !enough(rate) {
                share = share.max(rate / self.bound);
                continue;
            }
            let Ok(decoded) = decode(library, &case) else {
                continue;
            };
            let times = f64::from(machines);
            return Ok(FoundMachine {
                medium: id.to_owned(),
                accelerator: case.accelerator.name.clone(),
                batch: case.batch,
                machines,
                price: (decoded.medium.price + case.accelerator.price) * times,
                power_w: (decoded.medium_w + case.accelerator.power_w) * times,
                decoded,
            });
        }
        Err(share)
    }
}

/// Powers of two, and all users in as few laps as they make.
fn batches(users: u32) -> Vec<u32> {
    let powers = (0..32).map(|power| 1u32 << power);
    let mut all: Vec<u32> = powers.take_while(|&batch| batch < users).collect();
    all.extend((1..=4).map(|machines| users.div_ceil(machines)));
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests;
