//! Routes of experts: records the experts that a run chooses, or replaces them by those of
//! a recorded run, so that random weights behave like a real model. Knows layers and
//! experts by number only.

use std::sync::Arc;

use delayline_plan::{ExpertLayer, ExpertRoute, RouteLap, RouteRow};

use crate::error::Error;

/// Whether to record the choices of experts, or to replace them.
#[derive(Clone, Debug)]
pub struct RouteOptions {
    /// Laps choose the experts of this route; their outputs are then meaningless.
    pub follow: Option<Arc<ExpertRoute>>,
    /// Share of the route's next choices that is guessed right, 0 to 1. Wrong guesses are
    /// other experts of the layer, drawn as often as the route uses them.
    pub accuracy: f64,
    /// Laps of up to this number of rows have one row per sequence. The sequences follow
    /// the answer from different places, 32 laps apart. With 0 or 1, a lap of several rows
    /// is a prompt.
    pub sequences: usize,
    /// Whether choices are recorded, in memory that is not counted.
    pub record: bool,
}

/// Distance in laps between the places of two sequences in a route.
const APART: usize = 32;

/// Share that was right when the next layer's router was applied to a layer's input,
/// measured with Qwen3-30B.
const ACCURACY: f64 = 0.886;

/// Maximum number of rows of a lap to guess for: prompts use nearly all experts anyway.
const GUESSED_ROWS: usize = 8;

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            follow: None,
            accuracy: ACCURACY,
            sequences: 1,
            record: false,
        }
    }
}

/// A recorded route that laps follow.
#[derive(Clone, Debug)]
struct Follow {
    route: Arc<ExpertRoute>,
    /// Rows of prompts, as lap and row.
    prompt: Vec<(usize, usize)>,
    /// Rows of answers, as lap and row.
    answer: Vec<(usize, usize)>,
    /// Number of rows of prompts used so far.
    prompt_at: usize,
    /// Number of rows of answers used so far.
    answer_at: usize,
    /// See [`RouteOptions::accuracy`].
    accuracy: f64,
    /// See [`RouteOptions::sequences`].
    sequences: usize,
    /// By layer: all experts that the route chooses, as often as it does.
    popular: Vec<Vec<u16>>,
}

/// Records and replaces the choices of laps.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Experts that a token uses.
    chosen: usize,
    /// By item table: the layer whose matrix it is.
    layer_of: Vec<Option<u32>>,
    follow: Option<Follow>,
    /// The recorded route, if choices are recorded.
    recorded: Option<ExpertRoute>,
    /// Choices of the lap under way.
    lap: RouteLap,
    /// Rows of the lap under way, as far as they are known.
    rows: usize,
}

impl Routes {
    /// For a model of `layers` whose tokens use `chosen` experts. `layer_of` has, by item
    /// table, the layer whose matrix it is.
    ///
    /// # Errors
    /// If the route to follow is of another kind of model.
    pub fn new(
        layers: Vec<ExpertLayer>,
        chosen: u32,
        layer_of: Vec<Option<u32>>,
        asked: RouteOptions,
    ) -> Result<Self, Error> {
        let RouteOptions {
            follow,
            accuracy,
            sequences,
            record,
        } = asked;
        let follow = follow
            .map(|route| Follow::new(route, accuracy, sequences, &layers, chosen))
            .transpose()?;
        let recorded = record.then(|| ExpertRoute {
            model: String::new(),
            layers,
            chosen,
            laps: Vec::new(),
        });
        Ok(Self {
            chosen: chosen.max(1) as usize,
            layer_of,
            follow,
            recorded,
            ..Self::default()
        })
    }

    /// The layer whose matrix an item table is.
    pub fn layer(&self, table: u32) -> Option<u32> {
        self.layer_of[table as usize]
    }

    /// Begins a lap. If the one before was completed, it counts.
    pub fn begin(&mut self) {
        if let Some(follow) = &mut self.follow {
            match self.rows {
                0 => {}
                rows if rows <= follow.sequences => follow.answer_at += 1,
                rows => follow.prompt_at += rows,
            }
        }
        self.keep();
        self.rows = 0;
    }

    /// The lap under way has failed and does not count.
    pub fn fail(&mut self) {
        self.rows = 0;
        self.lap = RouteLap::default();
    }

    /// Ends the recording and returns it.
    pub fn take(&mut self) -> Option<ExpertRoute> {
        self.keep();
        self.recorded.take()
    }

    fn keep(&mut self) {
        let mut lap = std::mem::take(&mut self.lap);
        if let Some(recorded) = &mut self.recorded
            && !lap.rows.is_empty()
        {
            lap.is_prompt = lap.rows.len() > 1;
            recorded.laps.push(lap);
        }
    }

    /// Records the choices of a layer, row by row. Returns true if they were replaced in
    /// `ids`.
    pub fn choose(&mut self, layer: u32, ids: &mut [i32]) -> bool {
        let rows = ids.len() / self.chosen;
        self.rows = self.rows.max(rows);
        if let Some(follow) = &self.follow {
            for (row, ids) in ids.chunks_mut(self.chosen).enumerate() {
                follow.put(layer as u16, self.rows, row, ids);
            }
        }
        if self.recorded.is_some() {
            let lap = &mut self.lap.rows;
            lap.resize_with(self.rows, RouteRow::default);
            for (row, ids) in lap.iter_mut().zip(ids.chunks(self.chosen)) {
                for pick in ids.iter().map(|&id| (layer as u16, id as u16)) {
                    let mut here = row.picks.iter().rev().take_while(|of| of.0 == pick.0);
                    if !here.any(|of| *of == pick) {
                        row.picks.push(pick);
                    }
                }
            }
        }
        self.follow.is_some()
    }

    /// Whether choices are replaced by those of a route.
    pub fn follows(&self) -> bool {
        self.follow.is_some()
    }

    /// Guessed choices of a later layer for the lap under way, if it follows a route: each
    /// row's first choice, then each row's second, and so on.
    pub fn guess(&self, layer: u32, out: &mut Vec<i32>) {
        out.clear();
        let Some(follow) = self.follow.as_ref().filter(|_| self.rows <= GUESSED_ROWS) else {
            return;
        };
        out.resize(self.rows * self.chosen, 0);
        let mut ids = vec![0; self.chosen];
        for row in 0..self.rows {
            follow.guess(layer as u16, self.rows, row, &mut ids);
            for (at, &id) in ids.iter().enumerate() {
                out[at * self.rows + row] = id;
            }
        }
    }
}

impl Follow {
    fn new(
        route: Arc<ExpertRoute>,
        accuracy: f64,
        sequences: usize,
        layers: &[ExpertLayer],
        chosen: u32,
    ) -> Result<Self, Error> {
        let wrong = |what: String| {
            Err(Error::Option(format!(
                "the route of {} is of another kind of model: {what}",
                route.model
            )))
        };
        if layers.is_empty() {
            return wrong("this model has no experts whose choice can be replaced".into());
        }
        if !(0.0..=1.0).contains(&accuracy) {
            return Err(Error::Option(format!(
                "the share of experts guessed right is {accuracy}, expected 0 to 1"
            )));
        }
        let count = layers.iter().map(|layer| layer.count).min().unwrap_or(0);
        let named = route.layers.iter().map(|layer| layer.count).max();
        let named = named.unwrap_or(0);
        if route.layers.len() < layers.len() {
            let (has, wants) = (route.layers.len(), layers.len());
            return wrong(format!(
                "it has {has} layers with experts, this one {wants}"
            ));
        }
        if named > count || route.chosen > chosen {
            return wrong(format!(
                "a token uses {} of {named} experts, here {chosen} of {count}",
                route.chosen
            ));
        }
        let of = |is_prompt: bool| {
            let laps = route.laps.iter().enumerate();
            let laps = laps.filter(move |(_, lap)| lap.is_prompt == is_prompt);
            laps.flat_map(|(at, lap)| (0..lap.rows.len()).map(move |row| (at, row)))
        };
        let mut popular = vec![Vec::new(); route.layers.len()];
        for (layer, expert) in route
            .laps
            .iter()
            .flat_map(|lap| &lap.rows)
            .flat_map(|row| &row.picks)
        {
            popular[usize::from(*layer)].push(*expert);
        }
        let answer: Vec<_> = of(false).collect();
        let prompt: Vec<_> = of(true).collect();
        let prompt = if prompt.is_empty() {
            answer.clone()
        } else {
            prompt
        };
        Ok(Self {
            prompt,
            answer,
            prompt_at: 0,
            answer_at: 0,
            accuracy,
            sequences: sequences.max(1),
            popular,
            route,
        })
    }

    /// The guessed choice of a layer for a row of a lap of `rows` rows.
    fn guess(&self, layer: u16, rows: usize, row: usize, ids: &mut [i32]) {
        self.put(layer, rows, row, ids);
        let popular = &self.popular[usize::from(layer)];
        if popular.is_empty() {
            return;
        }
        for (at, id) in ids.iter_mut().enumerate() {
            let here = [self.prompt_at + self.answer_at, layer.into(), row, at];
            let dice = here.into_iter().fold(0, |seed, n| mixed(seed ^ n as u64));
            if (dice >> 11) as f64 >= self.accuracy * (1_u64 << 53) as f64 {
                let drawn = mixed(dice) as usize % popular.len();
                *id = popular[drawn].into();
            }
        }
    }

    /// The route's choice of a layer for a row of a lap of `rows` rows. The route starts
    /// again at its end, and repeats experts if it has fewer than the model uses.
    fn put(&self, layer: u16, rows: usize, row: usize, ids: &mut [i32]) {
        let (rows_of, at) = match rows {
            rows if rows <= self.sequences => (&self.answer, self.answer_at + APART * row),
            _ => (&self.prompt, self.prompt_at + row),
        };
        let (mut lap, mut of) = rows_of[at % rows_of.len()];
        if self.route.laps[lap].rows[of]
            .of_layer(layer)
            .next()
            .is_none()
        {
            // The last layer may not have been computed for this row.
            (lap, of) = self.answer[at % self.answer.len()];
        }
        let picks: Vec<u16> = self.route.laps[lap].rows[of].of_layer(layer).collect();
        for (id, pick) in ids.iter_mut().zip(picks.iter().cycle()) {
            *id = i32::from(*pick);
        }
    }
}

/// A pseudo-random number from another (one step of SplitMix64).
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Arc<ExpertRoute> {
        Arc::new(ExpertRoute::parse(text).expect("a route"))
    }

    fn layers(count: u32) -> Vec<ExpertLayer> {
        vec![ExpertLayer { count, bytes: 4096 }; 2]
    }

    const ROUTE: &str = "0,0,0,0,0,3,0,0,4096\n0,0,1,0,0,4,0,0,4096\n0,0,0,1,0,5,0,0,4096\n\
                         0,1,0,0,0,1,0,0,4096\n0,1,0,1,0,2,0,0,4096\n\
                         0,1,1,0,0,6,0,0,4096\n0,1,1,1,0,7,0,0,4096\n";

    fn asked() -> RouteOptions {
        RouteOptions {
            follow: Some(route(ROUTE)),
            record: true,
            ..RouteOptions::default()
        }
    }

    #[test]
    fn what_is_followed_is_what_is_recorded() {
        let mut routes = Routes::new(layers(8), 2, Vec::new(), asked()).expect("it fits");
        routes.begin();
        // Two rows of a prompt, of which the last layer computes one.
        let mut ids = [0; 4];
        assert!(routes.choose(0, &mut ids));
        assert_eq!(ids, [3, 3, 4, 4]);
        let mut ids = [0; 2];
        routes.choose(1, &mut ids);
        assert_eq!(ids, [5, 5]);
        // The answer repeats.
        for expected in [[1, 2], [6, 7], [1, 2]] {
            routes.begin();
            for layer in 0..2 {
                let mut ids = [0; 2];
                routes.choose(layer, &mut ids);
                assert_eq!(ids, [expected[layer as usize]; 2]);
            }
        }
        let text = routes.take().expect("it was recorded").to_text();
        let got = ExpertRoute::parse(&text).expect("it is read again");
        assert_eq!(got.laps[..3], route(ROUTE).laps[..]);
        assert_eq!(got.laps.len(), 4);
    }

    #[test]
    fn guesses_are_as_good_as_they_are_to_be() {
        let layers = vec![
            ExpertLayer {
                count: 64,
                bytes: 4096
            };
            2
        ];
        let lines = (0..2000).flat_map(|lap| {
            (0..2).map(move |layer| format!("0,1,{lap},{layer},0,{},0,0,4096\n", lap * 7 % 64))
        });
        let text: String = lines.collect();
        for accuracy in [0.0, 0.5, 0.886, 1.0] {
            let asked = RouteOptions {
                follow: Some(route(&text)),
                accuracy,
                ..RouteOptions::default()
            };
            let mut routes = Routes::new(layers.clone(), 1, Vec::new(), asked).expect("it fits");
            let mut right = 0;
            for _ in 0..2000 {
                routes.begin();
                let (mut first, mut second, mut guess) = ([0], [0], Vec::new());
                routes.choose(0, &mut first);
                routes.guess(1, &mut guess);
                routes.choose(1, &mut second);
                right += u32::from(guess == second);
            }
            // A guess drawn at random is right once in 64 times.
            let share = f64::from(right) / 2000.0;
            let expected = accuracy + (1.0 - accuracy) / 64.0;
            assert!((share - expected).abs() < 0.05, "{share} of {accuracy}");
        }
        let asked = RouteOptions {
            accuracy: 1.5,
            ..asked()
        };
        assert!(Routes::new(layers, 2, Vec::new(), asked).is_err());
    }

    #[test]
    fn sequences_that_share_laps_follow_from_places_of_their_own() {
        let lines = (0..40).map(|lap| format!("0,1,{lap},0,0,{lap},0,0,4096\n"));
        let text: String = lines.collect();
        let layers = vec![ExpertLayer {
            count: 64,
            bytes: 4096,
        }];
        let asked = RouteOptions {
            follow: Some(route(&text)),
            accuracy: 1.0,
            sequences: 4,
            record: true,
        };
        let mut routes = Routes::new(layers, 1, Vec::new(), asked).expect("it fits");
        for at in 0..90 {
            routes.begin();
            // The number of sequences varies from lap to lap.
            let mut ids = vec![0; [4, 3, 1][at % 3]];
            routes.choose(0, &mut ids);
            let expected = |row| ((at + 32 * row) % 40) as i32;
            let expected: Vec<i32> = (0..ids.len()).map(expected).collect();
            assert_eq!(ids, expected);
        }
    }

    #[test]
    fn a_lap_that_failed_does_not_count() {
        let mut routes = Routes::new(layers(8), 1, Vec::new(), asked()).expect("it fits");
        for fails in [true, false] {
            routes.begin();
            let mut ids = [0];
            routes.choose(0, &mut ids);
            assert_eq!(ids, [1]);
            if fails {
                routes.fail();
            }
        }
        assert_eq!(routes.take().map(|route| route.laps.len()), Some(1));
    }

    #[test]
    fn a_route_of_another_kind_of_model_is_refused() {
        for (layers, chosen) in [(layers(4), 2), (Vec::new(), 2), (vec![layers(8)[0]; 3], 2)] {
            let refused = Routes::new(layers, chosen, Vec::new(), asked());
            assert!(matches!(refused, Err(Error::Option(_))));
        }
    }
}
