//! Writes what the designs of the program carry, for `designs/solved.toml`.

use delayline_study::datasheet::Library;
use delayline_study::link::solved_presets;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", solved_presets(&Library::embedded())?);
    Ok(())
}
