//! What this program was built for: the level of processor, and the version of glibc that
//! its symbols need.

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::FileHeader;

/// The level that `make dist` built this program for.
pub const LEVEL: &str = match option_env!("DELAYLINE_LEVEL") {
    Some(level) => level,
    None => "from source",
};

/// [`LEVEL`] for a person.
pub fn text() -> String {
    match option_env!("DELAYLINE_LEVEL") {
        Some(level) => format!("built for {level}"),
        None => "built from source".into(),
    }
}

/// The oldest glibc that has all symbols of this program; `None` if it needs none.
pub fn glibc() -> Option<String> {
    let program = std::fs::read("/proc/self/exe").ok()?;
    newest_version(&program).ok().flatten()
}

/// The newest version `GLIBC_x.y` that an ELF program of 64 bits needs.
fn newest_version(program: &[u8]) -> object::Result<Option<String>> {
    let header = FileHeader64::<Endianness>::parse(program)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, program)?;
    let mut newest: Vec<u32> = Vec::new();
    if let Some((mut libraries, link)) = sections.gnu_verneed(endian, program)? {
        let strings = sections.strings(endian, program, link)?;
        while let Some((_, mut versions)) = libraries.next()? {
            while let Some(version) = versions.next()? {
                let name = std::str::from_utf8(version.name(endian, strings)?).unwrap_or_default();
                let numbers = name.strip_prefix("GLIBC_").unwrap_or_default();
                newest = newest.max(numbers.split('.').flat_map(str::parse).collect());
            }
        }
    }
    let numbers: Vec<String> = newest.iter().map(u32::to_string).collect();
    Ok((!numbers.is_empty()).then(|| numbers.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_asks_for_a_version_that_is_here() {
        let needed = glibc().expect("tests are linked against glibc");
        let (major, minor) = needed.split_once('.').expect("two numbers");
        // The oldest version of x86-64 and of Arm; the loader would have refused a newer.
        assert_eq!(major, "2");
        assert!((2..100).contains(&minor.split('.').next().unwrap().parse::<u32>().unwrap()));
        assert!(newest_version(b"no program").is_err());
    }
}
