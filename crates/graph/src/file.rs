//! A file of feature rows: where row n is, and whether the file is still the one that
//! was opened. It reads the header alone.

use crate::npy::{NPY_HEADER_MAX, NPY_MAGIC};
use crate::{ElementType, Error, NpyHeader};
use delayline_medium::Fingerprint;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is said of a file beside its name; a raw one needs a shape and a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsAs {
    /// Rows, and elements of each.
    pub shape: Option<(u64, u64)>,
    /// What the elements are.
    pub element: Option<ElementType>,
    /// First byte of row 0 in a raw file; `None` for 0, or behind the header of a
    /// .npy file.
    pub offset: Option<u64>,
}

/// Rows of equal length, one behind the other.
#[derive(Debug)]
pub struct FeatureFile {
    path: PathBuf,
    file: File,
    fingerprint: Fingerprint,
    /// What the elements are.
    pub element: ElementType,
    /// How many rows; at most 2^32 - 1.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// First byte of row 0.
    pub offset: u64,
}

impl FeatureFile {
    /// Opens a .npy file, or a raw one whose shape and type are given.
    ///
    /// # Errors
    /// [`Error`], when it cannot be read, or is not what it should be.
    pub fn open(path: &Path, given: &RowsAs) -> Result<Self, Error> {
        let refused = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(refused)?;
        let fingerprint = Fingerprint::of(&file).map_err(refused)?;
        let mut start = Vec::new();
        let most = NPY_HEADER_MAX as u64;
        (&mut file)
            .take(most)
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

    /// Where it is.
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

    /// Never: there is a row at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of a row.
    pub fn row_len(&self) -> u64 {
        self.columns * self.element.size()
    }

    /// The bytes of a row.
    pub fn bytes_of(&self, row: u32) -> Range<u64> {
        let start = self.offset + u64::from(row) * self.row_len();
        start..start + self.row_len()
    }

    /// The bytes of all rows.
    pub(crate) fn bytes_of_rows(&self) -> Range<u64> {
        self.offset..self.offset + self.rows * self.row_len()
    }

    /// Checks that the file is the one that was opened.
    ///
    /// # Errors
    /// [`Error::Changed`], [`Error::Open`].
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

/// Type, shape and first byte.
type Found = (ElementType, (u64, u64), u64);

/// What is given, where there is no header.
fn of_raw(start: &[u8], given: &RowsAs) -> Result<Found, String> {
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

/// What a .npy header says; what is given has to agree with it.
fn of_npy(start: &[u8], given: &RowsAs) -> Result<Found, String> {
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
            "the file says {} of the shape {:?}, but {} of the shape {:?} is asked for; leave dtype \
             and shape out, or give the offset of raw bytes",
            found.0, found.1, asked.0, asked.1
        ));
    }
    Ok((found.0, found.1, header.data_at))
}
