//! Where a stream's bytes come from: the files, one drive or several, what is to be
//! around them, and the line that reads them.

use std::sync::Arc;

use delayline_line::{Config, Line, Medium};
use delayline_medium::{Drive, Flash, Memory, RealClock, Stripe};
use delayline_plan::Residency;

use crate::atlas::Atlas;
use crate::error::Error;
use crate::model_file::{ModelFile, PartFile};
use crate::options::Options;

/// The line as it runs in production.
pub type RealLine = Line<Box<dyn Medium>, RealClock>;

/// Largest single read in bytes.
pub const READ_LEN: u32 = 4 << 20;

/// How often a failed read is tried again.
const RETRIES: u32 = 3;

/// The files, and what is to be around them.
pub fn open_medium(
    file: &ModelFile,
    memory: &Arc<Memory>,
    options: &Options,
) -> Result<(Box<dyn Medium>, Vec<String>), Error> {
    let mut notices = Vec::new();
    let mut flash = |drive: usize| -> Result<Flash, Error> {
        let mut files = Vec::new();
        for part in file.parts() {
            let PartFile { path, file, .. } = &part.files[drive];
            files.push((path.clone(), file.try_clone().map_err(Error::Memory)?));
        }
        let flash = Flash::from_files(files, memory.clone(), &options.medium)?;
        notices.extend(flash.notices().iter().map(ToString::to_string));
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
    let medium = match &options.around {
        Some(around) => around(medium),
        None => medium,
    };
    Ok((medium, notices))
}

/// The line that feeds laps through the window.
pub fn open_line(
    file: &ModelFile,
    medium: Box<dyn Medium>,
    atlas: &Atlas,
    residency: &Residency,
    options: &Options,
) -> Result<RealLine, Error> {
    let mut line = Line::new(
        medium,
        RealClock::default(),
        atlas.cut.extents.clone(),
        file.parts().iter().map(|p| p.len).collect(),
        atlas.homes.clone(),
        Config {
            window: residency.window,
            read_len: READ_LEN,
            retries: RETRIES,
        },
    )?;
    if options.trace {
        line.trace_on();
    }
    Ok(line)
}
