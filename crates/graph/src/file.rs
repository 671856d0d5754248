//! A file of feature rows: the place of each row, and whether the file was changed after
//! it was opened. Reads only the header.

use crate::npy::{NPY_HEADER_MAX, NPY_MAGIC};
use crate::{ElementType, Error, NpyHeader};
use delayline_medium::Fingerprint;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The format of a file of rows. A raw file needs a shape and a type; a .npy file has both
/// in its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowFormat {
    /// Number of rows, and of elements in each.
    pub shape: Option<(u64, u64)>,
    /// The type of the elements.
    pub element: Option<ElementType>,
    /// Offset of row 0 in a raw file, in bytes. `None` means 0 in a raw file, and in a
    /// .npy file the end of the header.
    pub offset: Option<u64>,
}

/// A file with consecutive rows of equal length.
#[derive(Debug)]
pub struct FeatureFile {
    path: PathBuf,
    file: File,
    fingerprint: Fingerprint,
    /// The type of the elements.
    pub element: ElementType,
    /// Number of rows, at most 2^32 - 2.
    pub rows: u64,
    /// Number of elements in a row.
    pub columns: u64,
    /// Offset of row 0 in bytes.
    pub offset: u64,
}

impl FeatureFile {
    /// Opens a .npy file, or a raw file whose shape and type are given.
    ///
    /// # Errors
    /// [`Error::Open`] if it cannot be read, [`Error::Format`] if it is not an array of
    /// rows or not the one that is given, [`Error::Length`] if it is too short.
    pub fn open(path: &Path, given: &RowFormat) -> Result<Self, Error> {
        let refused = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(refused)?;
        let fingerprint = Fingerprint::of(&file).map_err(refused)?;
        let mut start = Vec::new();
        (&mut file)
            .take(NPY_HEADER_MAX as u64)
            .read_to_end(&mut start)
            .map_err(refused)?;
        let format = |what: String| Error::Format {
            path: path.to_owned(),
            what,
        };
        let (element, (rows, columns), offset) = match given.offset {
            None if start.starts_with(NPY_MAGIC) => of_npy(&start, given),
            _ => of_raw(&start, given),
        }
        .map_err(format)?;
        let this = Self {
            path: path.to_owned(),
            file,
            fingerprint,
            element,
            rows,
            columns,
            offset,
        };
        this.check().map_err(|what| what.unwrap_or_else(format))?;
        Ok(this)
    }

    fn check(&self) -> Result<(), Result<Error, String>> {
        let (rows, columns) = (self.rows, self.columns);
        if rows == 0 || columns == 0 || rows >= u64::from(u32::MAX) || columns > 1 << 24 {
            return Err(Err(format!(
                "{rows} rows of {columns} elements, expected 1 to 2^32 - 2 rows of 1 to 2^24"
            )));
        }
        let bytes = rows.checked_mul(self.row_len());
        let need = bytes.and_then(|bytes| bytes.checked_add(self.offset));
        let have = self.fingerprint.size;
        match need {
            Some(need) if need <= have => Ok(()),
            _ => Err(Ok(Error::Length {
                path: self.path.clone(),
                rows,
                row_len: self.row_len(),
                offset: self.offset,
                need: need.unwrap_or(u64::MAX),
                have,
            })),
        }
    }

    /// The path with which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.fingerprint.size
    }

    /// Always false: a file has at least one row.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of a row.
    pub fn row_len(&self) -> u64 {
        self.columns * self.element.size()
    }

    /// The byte range of a row in the file.
    pub fn bytes_of(&self, row: u32) -> Range<u64> {
        let start = self.offset + u64::from(row) * self.row_len();
        start..start + self.row_len()
    }

    /// The byte range of all rows in the file.
    pub(crate) fn bytes_of_rows(&self) -> Range<u64> {
        self.offset..self.offset + self.rows * self.row_len()
    }

    /// Checks that the file was not changed after it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`]; [`Error::Open`] if the file cannot be examined.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let path = || self.path.clone();
        let now = Fingerprint::of(&self.file).map_err(|source| Error::Open {
            path: path(),
            source,
        })?;
        match self.fingerprint.changed(&now, &self.path) {
            true => Err(Error::Changed { path: path() }),
            false => Ok(()),
        }
    }
}

/// Type, shape, and offset of row 0.
type Found = (ElementType, (u64, u64), u64);

/// The format of a raw file, as given.
fn of_raw(start: &[u8], given: &RowFormat) -> Result<Found, String> {
    match (given.element, given.shape) {
        (Some(element), Some(shape)) => Ok((element, shape, given.offset.unwrap_or(0))),
        _ => Err(match NpyHeader::parse(start, None) {
            Err(what) => what,
            Ok(_) => {
                "an offset into a .npy file makes it raw bytes: give shape and dtype too".into()
            }
        }),
    }
}

/// The format in a .npy header, with which the given format must agree.
fn of_npy(start: &[u8], given: &RowFormat) -> Result<Found, String> {
    let header = NpyHeader::parse(start, given.element)?;
    let &[rows, columns] = header.shape.as_slice() else {
        return Err(format!(
            "the array has the shape {:?}, expected two dimensions, rows and features; reshape it",
            header.shape
        ));
    };
    let found = (header.element, (rows, columns));
    let asked = (
        given.element.unwrap_or(found.0),
        given.shape.unwrap_or(found.1),
    );
    if asked != found {
        return Err(format!(
            "the file holds {} of the shape {:?}, but {} of the shape {:?} is asked for; leave dtype \
             and shape out, or give an offset to read it as raw bytes",
            found.0, found.1, asked.0, asked.1
        ));
    }
    Ok((found.0, found.1, header.data_at))
}
