//! Copies features to a .npy file whose row 0 begins a page. NumPy writes a header of 128
//! bytes before the rows, so that of rows of 512 bytes every eighth lies in two pages, and
//! both have to be read.

use crate::folder::folder_of;
use crate::npy::{NPY_MAGIC, npy_header};
use crate::synth::Progress;
use crate::{Error, FeatureFile};
use delayline_plan::ALIGN;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bytes that are copied at once.
const PIECE: usize = 4 << 20;

/// Writes the rows of `from` to the file `out`, which appears only when it is complete.
/// With `force`, a .npy file at `out` is replaced, but no other file, and never `from`
/// itself.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`], [`Error::Open`], [`Error::Changed`],
/// [`Error::Interrupted`]. After an error, nothing is left of `out`.
pub fn repack_features(
    from: &FeatureFile,
    out: &Path,
    force: bool,
    progress: Progress<'_>,
) -> Result<(), Error> {
    check_free(from, out, force)?;
    let refused = |source| Error::Write {
        path: out.to_owned(),
        source,
    };
    let mut file = tempfile::Builder::new()
        .prefix(".delayline-")
        // The umask applies, as to other files; the default is for the user only.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder_of(out))
        .map_err(refused)?;
    let header = npy_header(
        from.element.descr(),
        &[from.rows, from.columns],
        ALIGN as usize,
    );
    file.write_all(&header).map_err(refused)?;
    copy_rows(from, file.as_file_mut(), &refused, progress)?;
    from.check_unchanged()?;
    file.as_file().sync_all().map_err(refused)?;
    // Something may have been written there meanwhile.
    check_free(from, out, force)?;
    let kept = match force {
        true => file.persist(out),
        false => file.persist_noclobber(out),
    };
    kept.map(drop).map_err(|error| refused(error.error))
}

fn copy_rows(
    from: &FeatureFile,
    to: &mut File,
    refused: &dyn Fn(io::Error) -> Error,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let unread = |source| Error::Open {
        path: from.path().to_owned(),
        source,
    };
    let bytes = from.bytes_of_rows();
    let mut source = from.file().try_clone().map_err(unread)?;
    source.seek(SeekFrom::Start(bytes.start)).map_err(unread)?;
    let mut source = source.take(bytes.end - bytes.start);
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    loop {
        let len = source.read(&mut piece).map_err(unread)?;
        if len == 0 {
            return match bytes.start + done == bytes.end {
                true => Ok(()),
                false => Err(unread(io::ErrorKind::UnexpectedEof.into())),
            };
        }
        to.write_all(&piece[..len]).map_err(refused)?;
        done += len as u64;
        if !progress(done) {
            return Err(Error::Interrupted);
        }
    }
}

/// Refuses to write to `out` if that would replace something that it must not.
fn check_free(from: &FeatureFile, out: &Path, force: bool) -> Result<(), Error> {
    let exists = |why| Error::Exists {
        path: out.to_owned(),
        why,
    };
    let Ok(found) = fs::symlink_metadata(out) else {
        return Ok(());
    };
    let is_source =
        matches!((fs::canonicalize(out), fs::canonicalize(from.path())), (Ok(a), Ok(b)) if a == b);
    if is_source {
        return Err(exists(" and is the file that is read: choose another name"));
    }
    let mut head = [0; 6];
    let is_array = found.is_file()
        && File::open(out)
            .and_then(|mut file| file.read_exact(&mut head))
            .is_ok()
        && head == *NPY_MAGIC;
    match (is_array, force) {
        (true, true) => Ok(()),
        (true, false) => Err(exists("; choose another name, or replace it with --force")),
        (false, _) => Err(exists(
            " and is not a .npy file, so it is not replaced: choose another name",
        )),
    }
}
