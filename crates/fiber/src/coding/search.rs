//! The placements to search among: when each extent is wanted, and ways to pack them
//! around the loop. It does not know how long a lap then takes.

use super::{Coding, CodingTask};
use delayline_plan::{LapLayout, run_times};

/// Where the free part of the loop goes.
#[derive(Clone, Copy)]
pub(super) enum Slack {
    /// After the last extent.
    End,
    /// In equal shares after each.
    Even,
}

/// What does not change while placements are tried. A placement has one value for each of
/// `extents`.
pub(super) struct Search<'a> {
    pub(super) task: CodingTask<'a>,
    pub(super) layout: LapLayout<'a>,
    pub(super) times: Vec<f64>,
    /// Those on the loop, in order of first use.
    pub(super) extents: Vec<usize>,
    /// By extent: its index there.
    pub(super) index: Vec<Option<usize>>,
    pub(super) takes_s: Vec<f64>,
    /// When each is wanted, as a share of the lap: by the compute until then, and by the
    /// bytes streamed until then.
    pub(super) by_compute: Vec<f64>,
    pub(super) by_bytes: Vec<f64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(task: &CodingTask<'a>, on_loop: &[bool]) -> Self {
        let resident = &task.residency.resident;
        let layout = LapLayout::new(task.schedule, resident);
        let times = run_times(task.plan, task.compute_s);
        let mut search = Self {
            task: *task,
            times,
            extents: Vec::new(),
            index: vec![None; on_loop.len()],
            takes_s: Vec::new(),
            by_compute: Vec::new(),
            by_bytes: Vec::new(),
            layout,
        };
        let mut starts = vec![0.0];
        for time in &search.times {
            starts.push(starts[starts.len() - 1] + time);
        }
        let total_s: f64 = starts[starts.len() - 1];
        let bytes: u64 = search.layout.steps.iter().map(|step| step.len).sum();
        let mut before = 0;
        for step in &search.layout.steps {
            let extent = step.extent.index();
            if on_loop[extent] && search.index[extent].is_none() {
                search.index[extent] = Some(search.extents.len());
                search.extents.push(extent);
                search.takes_s.push(task.ring.takes_s(step.len));
                let done_s = starts[step.first_run as usize];
                let share = if total_s > 0.0 { done_s / total_s } else { 0.0 };
                search.by_compute.push(share);
                search.by_bytes.push(before as f64 / bytes as f64);
            }
            before += step.len;
        }
        search
    }

    /// The order on the loop of extents that are `wanted` after these shares of a lap of
    /// `turns` turns, and the ideal place of each, in seconds, in that order.
    pub(super) fn wanted(&self, wanted: &[f64], turns: f64) -> (Vec<usize>, Vec<f64>) {
        let lap_s = self.task.ring.lap_s;
        self.around(|i| (wanted[i] * turns).fract() * lap_s)
    }

    /// The same for extents that should pass as soon as there is room for them, also if
    /// compute is slower by the factor `slower`.
    pub(super) fn ready(&self, turns: f64, slower: f64) -> (Vec<usize>, Vec<f64>) {
        let (ready_s, lap_s) = (self.ready_s(turns, slower), self.task.ring.lap_s);
        self.around(|i| ready_s[i] % lap_s)
    }

    fn around(&self, phase_s: impl Fn(usize) -> f64) -> (Vec<usize>, Vec<f64>) {
        let mut order: Vec<usize> = (0..self.extents.len()).collect();
        order.sort_by(|&a, &b| phase_s(a).total_cmp(&phase_s(b)).then(a.cmp(&b)));
        let ideal_s = order.iter().map(|&i| phase_s(i)).collect();
        (order, ideal_s)
    }

    /// The shortest possible lap, in seconds: compute, one lap of the loop (nothing on it
    /// passes twice in one), or what the medium behind takes.
    pub(super) fn bound_s(&self) -> f64 {
        let beside = self.layout.steps.iter();
        let beside = beside.filter(|step| self.index[step.extent.index()].is_none());
        let bytes: u64 = beside.map(|step| step.len).sum();
        let behind_s = bytes as f64 / self.task.ring.behind_bytes_per_s;
        let least_s = self.task.compute_s.max(behind_s);
        match self.extents.is_empty() {
            true => least_s,
            false => least_s.max(self.task.ring.lap_s),
        }
    }

    pub(super) fn coding(&self, phase_s: &[f64]) -> Coding {
        let phase = |index: &Option<usize>| index.map(|i| phase_s[i]);
        Coding {
            phase_s: self.index.iter().map(phase).collect(),
            lap_s: self.lap_s(phase_s),
            bound_s: self.bound_s(),
        }
    }

    /// One after the other in this order.
    pub(super) fn packed(&self, order: &[usize], slack: Slack) -> Vec<f64> {
        let sum: f64 = self.takes_s.iter().sum();
        let free_s = (self.task.ring.lap_s - sum).max(0.0);
        let gap_s = match slack {
            Slack::End => 0.0,
            Slack::Even => free_s / order.len().max(1) as f64,
        };
        let mut phase_s = vec![0.0; order.len()];
        let mut at_s = 0.0;
        for &i in order {
            phase_s[i] = at_s;
            at_s += self.takes_s[i] + gap_s;
        }
        phase_s
    }

    /// In this order, each as near to its ideal place as the others and the end of the loop
    /// allow.
    pub(super) fn near(&self, order: &[usize], ideal_s: &[f64]) -> Vec<f64> {
        let mut latest_s = vec![0.0; order.len()];
        let mut end_s = self.task.ring.lap_s;
        for (place, &i) in order.iter().enumerate().rev() {
            end_s -= self.takes_s[i];
            latest_s[place] = end_s;
        }
        let mut phase_s = vec![0.0; order.len()];
        let mut at_s: f64 = 0.0;
        for (place, &i) in order.iter().enumerate() {
            at_s = at_s.max(ideal_s[place].min(latest_s[place]));
            phase_s[i] = at_s;
            at_s += self.takes_s[i];
        }
        phase_s
    }
}
