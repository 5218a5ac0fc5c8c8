//! Writes every hostile case and its manifest into a folder.
//!
//! ```console
//! cargo run -p tensorlift-fixture-kit --example write_hostile -- FOLDER
//! ```

use std::path::Path;
use std::{env, io};

use tensorlift_fixture_kit::hostile;

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).expect("usage: write_hostile FOLDER");
    let manifest = hostile::write_all(Path::new(&folder))?;
    println!("{} cases, {}", hostile::cases().len(), manifest.display());
    Ok(())
}
