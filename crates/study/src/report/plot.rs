//! The kinds of plots and their values.

/// A direction of a plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured.
    pub label: String,
    /// In which unit; may be empty. Values are in it, and get SI prefixes.
    pub unit: String,
    /// Whether equal distances are equal factors.
    pub log: bool,
}

/// A line of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// `(x, y)`, in order of x.
    pub points: Vec<(f64, f64)>,
    /// `(low, high)` of y at each point; empty if that is not known.
    pub band: Vec<(f64, f64)>,
    /// Broken instead of drawn through: what is not simulated or measured.
    pub dashed: bool,
}

/// Something to compare with: a line across the plot.
#[derive(Clone, Debug, PartialEq)]
pub struct PlotMark {
    /// Beside the line.
    pub label: String,
    /// Where on the x axis; on the y axis if `None`.
    pub x: Option<f64>,
    /// Where on the y axis, if `x` is `None`.
    pub y: f64,
}

/// A value with its range, in a row of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Whisker {
    /// Left of it.
    pub name: String,
    /// Low, typical and high.
    pub value: crate::interval::Interval,
}

/// Parts of a whole, in a row of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Left of it.
    pub name: String,
    /// How large each part is; as many as there are parts.
    pub parts: Vec<f64>,
}

/// The form of a plot.
#[derive(Clone, Debug, PartialEq)]
pub enum PlotShape {
    /// Lines over x.
    Lines {
        /// The horizontal axis.
        x: Axis,
        /// The vertical axis.
        y: Axis,
        /// The lines.
        series: Vec<Series>,
        /// What to compare with.
        marks: Vec<PlotMark>,
    },
    /// A row each, with a dot and its range.
    Whiskers {
        /// The horizontal axis.
        x: Axis,
        /// The rows.
        rows: Vec<Whisker>,
    },
    /// A row each, divided into shares of its whole.
    Shares {
        /// Names of the parts.
        parts: Vec<String>,
        /// The rows.
        rows: Vec<Bar>,
    },
}

/// A plot with its words.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// What one should see in it; may be empty.
    pub caption: String,
    /// Its form and values.
    pub shape: PlotShape,
}

impl Axis {
    /// An axis with equal distances.
    pub fn linear(label: &str, unit: &str) -> Self {
        Self {
            label: label.to_owned(),
            unit: unit.to_owned(),
            log: false,
        }
    }

    /// An axis with equal factors.
    pub fn log(label: &str, unit: &str) -> Self {
        Self {
            log: true,
            ..Self::linear(label, unit)
        }
    }
}
