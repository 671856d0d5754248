//! The medium and the line of a stream: over the files on one drive or several, with a
//! medium of `Options::maker` around them if there is one.

use std::rc::Rc;
use std::sync::Arc;

use delayline_line::{Clock, Config, Line, LineSetup, Medium, Region};
use delayline_medium::{Checked, Drive, Flash, LapOutline, MadeMedium, MediumSite, Memory, Stripe};
use delayline_plan::Residency;

use crate::atlas::Atlas;
use crate::error::Error;
use crate::model_file::{ModelFile, PartFile};
use crate::options::Options;

/// The line of an engine, with its medium's clock.
pub type EngineLine = Line<Checked<Box<dyn MadeMedium>>, Rc<dyn Clock>>;

/// Largest single read in bytes.
pub const READ_LEN: u32 = 4 << 20;

/// How often a failed read is retried.
const RETRIES: u32 = 3;

/// Opens the medium; returns it with its notices.
pub fn open_medium(
    file: &ModelFile,
    memory: &Arc<Memory>,
    lap: &LapOutline<'_>,
    residency: &Residency,
    options: &Options,
) -> Result<(Box<dyn MadeMedium>, Vec<String>), Error> {
    let mut events = Vec::new();
    let mut flash = |drive: usize| -> Result<Flash, Error> {
        let mut files = Vec::new();
        for part in file.parts() {
            let PartFile { path, file, .. } = &part.files[drive];
            files.push((path.clone(), file.try_clone().map_err(Error::Memory)?));
        }
        let mut flash = Flash::from_files(files, memory.clone(), &options.medium)?;
        flash.events(&mut events);
        Ok(flash)
    };
    let medium: Box<dyn Medium> = match file.stripe_unit() {
        None => Box::new(flash(0)?),
        Some(unit) => {
            let mut drives = Vec::new();
            for (number, file) in file.parts()[0].files.iter().enumerate() {
                let folder = file.path.parent().unwrap_or(&file.path);
                drives.push(Drive {
                    medium: flash(number)?,
                    name: folder.display().to_string(),
                });
            }
            Box::new(Stripe::new(drives, unit, options.medium.depth))
        }
    };
    let site = MediumSite {
        lap: *lap,
        residency,
        memory,
        part_lens: &file.part_lens(),
    };
    let medium = match &options.maker {
        Some(maker) => maker.make(medium, &site)?,
        None => Box::new(medium),
    };
    let notices = events.into_iter().map(|event| event.message).collect();
    Ok((medium, notices))
}

/// What a line is made of.
pub struct LineSource {
    /// The medium to read from.
    pub medium: Checked<Box<dyn MadeMedium>>,
    /// The region of the memory to read into.
    pub region: Region,
    /// The line's clock.
    pub clock: Rc<dyn Clock>,
}

/// The line that feeds laps.
pub fn open_line(
    file: &ModelFile,
    source: LineSource,
    atlas: &Atlas,
    residency: &Residency,
    options: &Options,
) -> Result<EngineLine, Error> {
    let mut line = Line::new(
        source.medium,
        source.clock,
        source.region,
        LineSetup {
            extents: atlas.cut.extents.clone(),
            part_lens: file.part_lens(),
            homes: atlas.residences.iter().map(|r| r.at()).collect(),
            config: Config {
                window: residency.window,
                read_len: READ_LEN,
                retries: RETRIES,
            },
        },
    )?;
    if options.trace {
        line.trace_on();
    }
    Ok(line)
}
