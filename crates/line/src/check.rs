//! Checks a line's setup against the memory and the medium.

use delayline_plan::{ALIGN, Extent, ExtentId};

use crate::types::LineSetup;
use crate::{Caps, LineError};

/// What it is, its value, whether that is good, and in words what would be: those are made
/// only where they are needed, because a plan may have a hundred thousand extents.
type Figure<'a> = (&'static str, u64, bool, &'a dyn Fn() -> String);

/// Checks everything, for a memory of `memory` bytes.
pub(crate) fn all(setup: &LineSetup, caps: &Caps, memory: u64) -> Result<(), LineError> {
    config(setup, caps, memory)?;
    for (index, (one, home)) in setup.extents.iter().zip(&setup.homes).enumerate() {
        extent(ExtentId(index as u32), one, *home, setup, memory)?;
    }
    homes(&setup.extents, &setup.homes)
}

fn config(setup: &LineSetup, caps: &Caps, memory: u64) -> Result<(), LineError> {
    let LineSetup {
        extents,
        homes,
        config,
        ..
    } = setup;
    let read_len = u64::from(config.read_len);
    let largest = u64::from(caps.largest_len);
    let figures: [Figure; 4] = [
        (
            "a window",
            config.window,
            config.window.is_multiple_of(ALIGN) && config.window <= memory,
            &|| format!("a multiple of {ALIGN}, at most the memory's {memory}"),
        ),
        (
            "a read length",
            read_len,
            read_len > 0 && read_len.is_multiple_of(ALIGN) && read_len <= largest,
            &|| format!("a positive multiple of {ALIGN}, at most the medium's {largest}"),
        ),
        (
            "a medium's depth",
            caps.depth as u64,
            (1..=1 << 20).contains(&caps.depth),
            &|| "1 to 1048576".to_owned(),
        ),
        (
            "a number of homes",
            homes.len() as u64,
            homes.len() == extents.len(),
            &|| format!("{}, one for each extent", extents.len()),
        ),
    ];
    match figures.into_iter().find(|(_, _, good, _)| !good) {
        None => Ok(()),
        Some((what, got, _, expected)) => Err(LineError::Config {
            what,
            got,
            expected: expected(),
        }),
    }
}

fn extent(
    id: ExtentId,
    extent: &Extent,
    home: Option<u64>,
    setup: &LineSetup,
    memory: u64,
) -> Result<(), LineError> {
    let LineSetup {
        part_lens, config, ..
    } = setup;
    let multiple = || format!("a multiple of {ALIGN}");
    let part_len = part_lens.get(usize::from(extent.part)).copied();
    let end = extent.offset.saturating_add(extent.len);
    let limit = part_len.unwrap_or(0).next_multiple_of(ALIGN);
    let fits = |at: u64| at.saturating_add(extent.len) <= memory;
    let figures: [Figure; 6] = [
        ("part", u64::from(extent.part), part_len.is_some(), &|| {
            format!("below {}, the number of parts", part_lens.len())
        }),
        (
            "offset",
            extent.offset,
            extent.offset.is_multiple_of(ALIGN),
            &multiple,
        ),
        (
            "length",
            extent.len,
            extent.len > 0 && extent.len.is_multiple_of(ALIGN),
            &|| format!("{}, not 0", multiple()),
        ),
        ("end", end, end <= limit, &|| {
            format!("at most {limit}, the end of the part")
        }),
        (
            "home",
            home.unwrap_or(config.window),
            home.is_none_or(|at| at >= config.window && at.is_multiple_of(ALIGN) && fits(at)),
            &|| {
                format!(
                    "{}, after the window of {} bytes and within the memory of {memory}",
                    multiple(),
                    config.window
                )
            },
        ),
        (
            "length",
            extent.len,
            home.is_some() || extent.len <= config.window,
            &|| format!("at most the window's {}", config.window),
        ),
    ];
    match figures.into_iter().find(|(_, _, good, _)| !good) {
        None => Ok(()),
        Some((what, got, _, expected)) => Err(LineError::Extent {
            extent: id,
            what,
            got,
            expected: expected(),
        }),
    }
}

fn homes(extents: &[Extent], homes: &[Option<u64>]) -> Result<(), LineError> {
    let mut taken: Vec<(u64, u64, usize)> = homes
        .iter()
        .zip(extents)
        .enumerate()
        .filter_map(|(index, (home, extent))| home.map(|at| (at, at + extent.len, index)))
        .collect();
    taken.sort_unstable();
    match taken.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        None => Ok(()),
        Some(pair) => Err(LineError::Extent {
            extent: ExtentId(pair[1].2 as u32),
            what: "home",
            got: pair[1].0,
            expected: format!("{} or more, after the home before it", pair[0].1),
        }),
    }
}
