//! Next use: evicts the item expected to be used again latest, from announcements
//! and otherwise from how often and how recently an item was used.
//!
//! An announced item counts as used before all others. For the others, the rate of
//! use is the sum of past uses, each halved with every half-life that has passed. The
//! order of items is that of the logarithm of this sum, scaled back to time 0, which
//! changes only when an item is used. Where items are used in groups that take turns,
//! as experts are with their layers, the expected wait is the reciprocal of the rate
//! plus the time until the group's turn.

use super::Policy;
use crate::types::ExtentId;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// Expected next use. A touch takes time logarithmic in the number of kept and
/// remembered items; a victim also in proportion to the number of groups.
#[derive(Clone, Debug)]
pub struct NextUse {
    /// Time after which a use is worth half, in the unit of `time`.
    half_life: f64,
    /// How many items that are not kept are remembered.
    remembered: usize,
    /// Group of each item, by index; empty if there is only one.
    group_of: Vec<u32>,
    /// The group whose turn it is.
    group: u32,
    /// In laps over all groups; in touches if there is only one.
    time: f64,
    touches: u64,
    items: HashMap<ExtentId, Standing>,
    /// Kept and not announced, by group; the least worth first.
    expected: Vec<BTreeSet<(Worth, ExtentId)>>,
    /// Kept and announced, by the time of the next announced use.
    certain: BTreeSet<(u64, ExtentId)>,
    /// Remembered, not kept; the least worth first.
    gone: BTreeSet<(Worth, ExtentId)>,
    announced: HashMap<ExtentId, VecDeque<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    worth: Worth,
    place: Place,
}

/// In which of the orders an item is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Gone,
    Expected,
    Certain(u64),
}

/// Logarithm to base 2 of the sum of past uses at time 0.
#[derive(Clone, Copy, Debug)]
struct Worth(f64);

impl Worth {
    const NONE: Self = Self(f64::NEG_INFINITY);

    /// With one more use, `half_lives` after time 0.
    fn with_use(self, half_lives: f64) -> Self {
        let (high, low) = (self.0.max(half_lives), self.0.min(half_lives));
        Self(high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2)
    }
}

impl PartialEq for Worth {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worth {}

impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Worth {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl NextUse {
    /// For items of a single group. A use counts half after `half_life` touches of any
    /// items. The uses of up to `remembered` items that are not kept are remembered.
    pub fn new(half_life: f64, remembered: usize) -> Self {
        Self::in_turns(half_life, remembered, Vec::new())
    }

    /// For items of groups that take turns, in the order of their numbers:
    /// `group_of` has one value per item. A use counts half after `half_life` laps
    /// over all groups.
    pub fn in_turns(half_life: f64, remembered: usize, group_of: Vec<u32>) -> Self {
        let groups = group_of.iter().max().map_or(1, |last| last + 1);
        Self {
            half_life,
            remembered,
            group_of,
            group: 0,
            time: 0.0,
            touches: 0,
            items: HashMap::new(),
            expected: vec![BTreeSet::new(); groups as usize],
            certain: BTreeSet::new(),
            gone: BTreeSet::new(),
            announced: HashMap::new(),
        }
    }

    fn group(&self, item: ExtentId) -> u32 {
        self.group_of.get(item.index()).copied().unwrap_or(0)
    }

    /// Advances the time to a touch of `group`.
    fn advance(&mut self, group: u32) {
        self.touches += 1;
        let groups = self.expected.len() as f64;
        if self.expected.len() == 1 {
            self.time += 1.0;
        } else {
            let laps = self.time.floor() + f64::from(u8::from(group < self.group));
            self.time = laps + f64::from(group) / groups;
        }
        self.group = group;
    }

    /// The worth of an item; of one not remembered, as if it were used now.
    fn worth(&self, item: ExtentId) -> Worth {
        let now = || Worth::NONE.with_use(self.time / self.half_life);
        self.items.get(&item).map_or_else(now, |s| s.worth)
    }

    /// Expected time until an item of this group and worth is used.
    fn wait(&self, group: u32, worth: Worth) -> f64 {
        let groups = self.expected.len() as u32;
        if groups == 1 {
            // Only the order counts.
            return -worth.0;
        }
        let turn = (group + groups - self.group - 1) % groups + 1;
        let decayed = (worth.0 - self.time / self.half_life).exp2();
        let a_lap = decayed * (1.0 - (-1.0 / self.half_life).exp2());
        f64::from(turn) / f64::from(groups) + 1.0 / a_lap
    }

    /// Removes an item from its order.
    fn lift(&mut self, item: ExtentId) -> Option<Standing> {
        let standing = self.items.remove(&item)?;
        let key = (standing.worth, item);
        let group = self.group(item) as usize;
        match standing.place {
            Place::Gone => self.gone.remove(&key),
            Place::Expected => self.expected[group].remove(&key),
            Place::Certain(at) => self.certain.remove(&(at, item)),
        };
        Some(standing)
    }

    /// Puts an item that is new or was lifted into its order.
    fn put(&mut self, item: ExtentId, worth: Worth, is_kept: bool) {
        let group = self.group(item) as usize;
        let place = match (is_kept, self.next(item)) {
            (false, _) => Place::Gone,
            (true, None) => Place::Expected,
            (true, Some(at)) => Place::Certain(at),
        };
        match place {
            Place::Gone => self.gone.insert((worth, item)),
            Place::Expected => self.expected[group].insert((worth, item)),
            Place::Certain(at) => self.certain.insert((at, item)),
        };
        self.items.insert(item, Standing { worth, place });
        if self.gone.len() > self.remembered
            && let Some((_, least)) = self.gone.pop_first()
        {
            self.items.remove(&least);
        }
    }

    /// Time of an item's next announced use.
    fn next(&self, item: ExtentId) -> Option<u64> {
        self.announced.get(&item)?.front().copied()
    }

    /// Drops announcements of an item for past times.
    fn expire(&mut self, item: ExtentId) {
        if let Some(ahead) = self.announced.get_mut(&item) {
            while ahead.front().is_some_and(|&at| at < self.touches) {
                ahead.pop_front();
            }
            if ahead.is_empty() {
                self.announced.remove(&item);
            }
        }
    }

    /// Drops past announcements of all kept items, and orders those anew.
    fn expire_all(&mut self) {
        while let Some(&(at, item)) = self.certain.first()
            && at < self.touches
        {
            let worth = self.worth(item);
            self.lift(item);
            self.expire(item);
            self.put(item, worth, true);
        }
    }

    /// The kept item, of those not announced, that is expected last, and its expected
    /// wait.
    fn latest(&self, in_use: &HashSet<ExtentId>) -> Option<(f64, ExtentId)> {
        let of_group = |(group, order): (u32, &BTreeSet<(Worth, ExtentId)>)| {
            let least = order.iter().find(|(_, item)| !in_use.contains(item))?;
            Some((self.wait(group, least.0), least.1))
        };
        let groups = (0..).zip(&self.expected).filter_map(of_group);
        groups.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
    }

    /// The kept item, of those announced, that is used last, and when.
    fn latest_certain(&self, in_use: &HashSet<ExtentId>) -> Option<(u64, ExtentId)> {
        let mut latest = self.certain.iter().rev();
        latest.find(|(_, item)| !in_use.contains(item)).copied()
    }

    /// Moves a kept item to those only remembered.
    fn give_up(&mut self, item: ExtentId) {
        let worth = self.worth(item);
        self.lift(item);
        self.put(item, worth, false);
    }
}

impl Policy for NextUse {
    fn touch(&mut self, item: ExtentId) {
        self.advance(self.group(item));
        let before = self.lift(item);
        let worth = before.map_or(Worth::NONE, |s| s.worth);
        self.expire(item);
        let is_kept = before.is_some_and(|s| s.place != Place::Gone);
        let worth = worth.with_use(self.time / self.half_life);
        self.put(item, worth, is_kept);
    }

    fn keep(&mut self, item: ExtentId) {
        let worth = self.worth(item);
        self.lift(item);
        self.put(item, worth, true);
    }

    fn victim(&mut self, newcomer: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        self.expire_all();
        self.expire(newcomer);
        let newcomer_at = self.next(newcomer);
        let item = match self.latest(in_use) {
            Some((wait, item)) => {
                let newcomer_wait = self.wait(self.group(newcomer), self.worth(newcomer));
                (newcomer_at.is_some() || wait > newcomer_wait).then_some(item)
            }
            None => {
                let last = self.latest_certain(in_use);
                last.filter(|(at, _)| newcomer_at.is_some_and(|newcomer| newcomer < *at))
                    .map(|(_, item)| item)
            }
        }?;
        self.give_up(item);
        Some(item)
    }

    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        self.expire_all();
        let item = match self.latest(in_use) {
            Some((_, item)) => item,
            None => self.latest_certain(in_use)?.1,
        };
        self.give_up(item);
        Some(item)
    }

    fn announce(&mut self, item: ExtentId, at: u64) {
        self.announced.entry(item).or_default().push_back(at);
        if let Some(standing) = self.items.get(&item).copied()
            && standing.place == Place::Expected
        {
            self.lift(item);
            self.put(item, standing.worth, true);
        }
    }
}
