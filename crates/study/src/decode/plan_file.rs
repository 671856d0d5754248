//! A lap's course as a file: what the program made of a model and a budget, for
//! the study to run over other media. Parsed as hostile: all indices and sums are
//! checked before they are used.

use std::path::Path;

use delayline_plan::{ALIGN, Extent, ExtentId, NEAR_BYTES, Plan, Residency, Run, Schedule};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Planned;
use super::course::{Course, Demand};

/// The format that this program writes and reads.
const VERSION: u32 = 1;
/// Maximum number of files.
const PARTS_MAX: usize = 10_000;
/// Maximum number of extents, of runs and of demands.
const COUNT_MAX: usize = 1 << 20;
/// Maximum number of reads of a lap, demands included.
const READS_MAX: u64 = 1 << 22;
/// Maximum number of bytes.
const BYTES_MAX: u64 = 1 << 50;

/// The file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Format of the file, 1.
    pub delayline_plan: u32,
    /// The model, for people.
    pub model: String,
    /// The window in bytes.
    pub window_bytes: u64,
    /// Longest read in bytes.
    pub read_bytes: u32,
    /// Reads under way at once.
    pub depth: usize,
    /// All extents.
    pub extents: Vec<PlannedExtent>,
    /// The runs of a lap in order.
    pub runs: Vec<PlannedRun>,
}

/// An extent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedExtent {
    /// Which file of the model.
    pub part: u16,
    /// Where it starts there, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// Whether it stays in memory.
    pub stays: bool,
}

/// A run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// The extents that it reads, by index.
    pub needs: Vec<u32>,
    /// Its share of the compute; only proportions count.
    pub compute: f64,
    /// Bytes that it asks for when the lap is there: rows, experts.
    #[serde(default)]
    pub asks_bytes: u64,
}

/// The file is none, or not sound.
#[derive(Debug, Error)]
pub enum PlanError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a plan.
    #[error("{path} is no plan as `delayline inspect --plan` writes it: {what}")]
    Unsound {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl PlanFile {
    /// The file for a plan; `asks` has the run and the bytes of each demand.
    pub fn new(
        model: &str,
        plan: &Plan,
        residency: &Residency,
        (read_bytes, depth): (u32, usize),
        asks: &[(u32, u64)],
    ) -> Self {
        let extents = plan.extents.iter().zip(&residency.resident);
        let runs = plan.runs.iter().zip(0..);
        let of_run = |run: u32| asks.iter().filter(move |(at, _)| *at == run);
        Self {
            delayline_plan: VERSION,
            model: model.to_owned(),
            window_bytes: residency.window,
            read_bytes,
            depth,
            extents: extents
                .map(|(extent, &stays)| PlannedExtent {
                    part: extent.part,
                    offset: extent.offset,
                    bytes: extent.len,
                    stays,
                })
                .collect(),
            runs: runs
                .map(|(run, at)| PlannedRun {
                    needs: run.uses.iter().map(|u| u.extent.0).collect(),
                    compute: run.compute,
                    asks_bytes: of_run(at).map(|(_, bytes)| bytes).sum(),
                })
                .collect(),
        }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| PlanError::Read {
            path: name.clone(),
            source,
        })?;
        let unsound = |what: String| PlanError::Unsound {
            path: name.clone(),
            what,
        };
        let file: Self = serde_json::from_str(&text).map_err(|error| unsound(error.to_string()))?;
        file.check().map_err(unsound)?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        if self.delayline_plan != VERSION {
            return Err(format!(
                "delayline_plan is {}, but this program reads {VERSION}",
                self.delayline_plan
            ));
        }
        let paged = |bytes: u64| bytes > 0 && bytes.is_multiple_of(ALIGN) && bytes <= BYTES_MAX;
        let pages = |what: &str, bytes: u64| match paged(bytes) {
            true => Ok(()),
            false => Err(format!(
                "{what} is {bytes}, but must be a multiple of {ALIGN} up to {BYTES_MAX}"
            )),
        };
        let counts = [
            ("extents", self.extents.len()),
            ("runs", self.runs.len()),
            ("depth", self.depth),
        ];
        for (what, count) in counts {
            if !(1..=COUNT_MAX).contains(&count) {
                return Err(format!("{what}: {count}, but must be 1 to {COUNT_MAX}"));
            }
        }
        pages("read_bytes", self.read_bytes.into())?;
        pages("window_bytes", self.window_bytes)?;
        let mut total = 0u64;
        for (index, extent) in self.extents.iter().enumerate() {
            pages(&format!("bytes of extent {index}"), extent.bytes)?;
            if extent.offset > 0 {
                pages(&format!("offset of extent {index}"), extent.offset)?;
            }
            if usize::from(extent.part) >= PARTS_MAX {
                return Err(format!(
                    "part of extent {index} is {}, but must be below {PARTS_MAX}",
                    extent.part
                ));
            }
            total = total.saturating_add(extent.bytes);
        }
        pages("bytes of all extents", total)?;
        for (index, run) in self.runs.iter().enumerate() {
            let stranger = |need: &&u32| **need as usize >= self.extents.len();
            if let Some(need) = run.needs.iter().find(stranger) {
                return Err(format!(
                    "run {index} needs extent {need}, which is not there"
                ));
            }
            if !(run.compute >= 0.0 && run.compute <= 1e30) {
                return Err(format!(
                    "compute of run {index} is {}, but must be 0 or more",
                    run.compute
                ));
            }
        }
        // A simulation takes time and memory for each read.
        let read = |bytes: u64| bytes.div_ceil(self.read_bytes.into());
        let extents = self.extents.iter().map(|extent| read(extent.bytes));
        let reads = extents.chain(self.runs.iter().map(|run| read(run.asks_bytes)));
        let reads = reads.fold(0, u64::saturating_add);
        if reads > READS_MAX {
            return Err(format!(
                "a lap has {reads} reads of read_bytes, {}, but must have {READS_MAX} at most",
                self.read_bytes
            ));
        }
        let least = delayline_plan::window_min(
            &Schedule::new(&self.plan(), NEAR_BYTES),
            &self.extents.iter().map(|e| !e.stays).collect::<Vec<_>>(),
        );
        match least > self.window_bytes {
            true => Err(format!(
                "window_bytes is {}, but what is needed together takes {least}",
                self.window_bytes
            )),
            false => Ok(()),
        }
    }

    fn plan(&self) -> Plan {
        let extents = self.extents.iter().map(|e| Extent {
            part: e.part,
            offset: e.offset,
            len: e.bytes,
        });
        let needs = |run: &PlannedRun| run.needs.clone().into_iter().map(ExtentId);
        let runs = self.runs.iter();
        let runs = runs.map(|run| Run::reading(needs(run), run.compute));
        Plan::cycle(extents.collect(), runs.collect())
    }

    /// The plan that it describes.
    pub fn planned(&self) -> Planned {
        Planned {
            model: self.model.clone(),
            course: self.course(),
            depth: self.depth,
        }
    }

    fn course(&self) -> Course {
        let plan = self.plan();
        let resident: Vec<bool> = self.extents.iter().map(|e| e.stays).collect();
        let stays = self.extents.iter().filter(|e| e.stays);
        let streamed: Vec<bool> = resident.iter().map(|stays| !stays).collect();
        let residency = Residency {
            window: self.window_bytes,
            resident_bytes: stays.map(|e| e.bytes).sum(),
            streamed_bytes: Schedule::new(&plan, NEAR_BYTES).streamed_bytes(&streamed),
            resident,
        };
        let asks = self
            .runs
            .iter()
            .zip(0..)
            .filter(|(run, _)| run.asks_bytes > 0);
        let demand = |(run, at): (&PlannedRun, u32)| Demand {
            run: at,
            bytes: run.asks_bytes.next_multiple_of(ALIGN) as f64,
            compute: 0.0,
        };
        Course {
            demands: asks.map(demand).collect(),
            plan,
            residency,
            is_even: false,
            read_len: self.read_bytes,
            scratch_bytes: 2 * u64::from(self.read_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_none_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plan.json");
        let good = r#"{"delayline_plan":1,"model":"m","window_bytes":8192,"read_bytes":4096,"depth":2,
        "extents":[{"part":0,"offset":0,"bytes":4096,"stays":false}],
        "runs":[{"needs":[0],"compute":1}]}"#;
        std::fs::write(&path, good).expect("it is writable");
        assert!(PlanFile::read(&path).is_ok());
        for (from, to, part) in [
            (
                "\"delayline_plan\":1",
                "\"delayline_plan\":2",
                "this program reads 1",
            ),
            (
                "\"bytes\":4096",
                "\"bytes\":4095",
                "bytes of extent 0 is 4095",
            ),
            ("\"bytes\":4096", "\"bytes\":0", "bytes of extent 0 is 0"),
            (
                "\"bytes\":4096",
                "\"bytes\":1125899906846976",
                "multiple of 4096 up to",
            ),
            ("\"bytes\":4096", "\"bytes\":16384", "window_bytes is 8192"),
            ("\"part\":0", "\"part\":65535", "part of extent 0 is 65535"),
            (
                "\"compute\":1",
                "\"compute\":1,\"asks_bytes\":1125899906842624",
                "reads of read_bytes, 4096",
            ),
            (
                "\"offset\":0",
                "\"offset\":18446744073709547520",
                "offset of extent 0",
            ),
            ("[0]", "[1]", "run 0 needs extent 1"),
            ("\"compute\":1", "\"compute\":-1", "compute of run 0 is -1"),
            (
                "\"compute\":1",
                "\"compute\":1,\"speed\":3",
                "unknown field `speed`",
            ),
            ("\"depth\":2", "\"depth\":0", "depth: 0"),
            ("8192", "0", "window_bytes is 0"),
            ("\"read_bytes\":4096", "\"read_bytes\":1", "read_bytes is 1"),
            (
                "{\"part\":0,\"offset\":0,\"bytes\":4096,\"stays\":false}",
                "",
                "extents: 0",
            ),
            ("{", "", "is no plan"),
        ] {
            std::fs::write(&path, good.replacen(from, to, 1)).expect("it is writable");
            let error = PlanFile::read(&path).expect_err(to).to_string();
            assert!(error.contains(part), "{to}: {error}");
        }
        let error = PlanFile::read(&dir.path().join("none")).expect_err("there is none");
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
