//! Telemetry from a CSV file, read by a mapping that leaves nothing to guess.
//!
//! `csv:FILE?time=COL&asset=COL&metric=COL&value=COL` reads one sample per row;
//! `csv:FILE?time=COL&asset=COL&wide` takes every other column for a metric, an empty cell for a
//! gap. Times either carry their offset, or `zone=Europe/Berlin` says where they were read off the
//! clock, or `unit=s|ms|us|ns` says what a number since 1970 counts.

use std::{borrow::Cow, collections::HashMap, path::PathBuf, str::FromStr, sync::Arc};

use jiff::{civil, tz::TimeZone};

use crate::telemetry::Sample;

/// A file and how to read it.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvSource {
    /// The file.
    pub path: PathBuf,
    /// Which column means what.
    pub mapping: CsvMapping,
}

/// Which column means what.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvMapping {
    /// The column of the time.
    pub time: String,
    /// The column of the asset.
    pub asset: String,
    /// Where metrics and values are.
    pub layout: CsvLayout,
    /// How times are written.
    pub clock: CsvClock,
}

/// Where metrics and values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsvLayout {
    /// One sample per row.
    Long {
        /// The column of the metric.
        metric: String,
        /// The column of the value.
        value: String,
    },
    /// One column per metric, named by its header.
    Wide,
}

/// How times are written.
#[derive(Clone, Debug, PartialEq)]
pub enum CsvClock {
    /// With their offset, as RFC 3339 asks.
    Offset,
    /// As a clock on the wall of this zone showed them.
    Zone(TimeZone),
    /// As a number of these since 1970 (UTC).
    Since1970(TimeUnit),
}

/// What a number of a time column counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

/// Why a source cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvSourceError {
    /// There is no file or no mapping.
    #[error("source `{0}` is not of the form csv:FILE?time=COL&asset=COL&metric=COL&value=COL")]
    Form(String),
    /// A needed part is missing.
    #[error("csv source does not say `{0}=…`")]
    Missing(&'static str),
    /// A part that means nothing here.
    #[error("csv source has an unknown or repeated part `{0}`")]
    Unknown(String),
    /// Parts that exclude each other.
    #[error("csv source says both `{0}` and `{1}`")]
    Both(&'static str, &'static str),
    /// The zone is in no time-zone database.
    #[error("csv source names the unknown time zone `{0}`; expected one such as Europe/Berlin")]
    Zone(String),
    /// The unit is none.
    #[error("csv source names the unknown time unit `{0}`; expected s, ms, us or ns")]
    Unit(String),
}

/// Why a file cannot be read; nothing of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct CsvError {
    /// The line, from one.
    pub line: usize,
    /// The character in the line, from one.
    pub column: usize,
    /// What is wrong, and the remedy.
    pub reason: String,
}

impl FromStr for CsvSource {
    type Err = CsvSourceError;

    fn from_str(source: &str) -> Result<Self, CsvSourceError> {
        let form = || CsvSourceError::Form(source.to_owned());
        let rest = source.strip_prefix("csv:").ok_or_else(form)?;
        let (path, query) = rest.rsplit_once('?').ok_or_else(form)?;
        if path.is_empty() {
            return Err(form());
        }
        let mut parts: HashMap<&'static str, String> = HashMap::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let known = ["time", "asset", "metric", "value", "wide", "zone", "unit"];
            let unknown = || CsvSourceError::Unknown(part.to_owned());
            let key = known
                .into_iter()
                .find(|name| *name == key)
                .ok_or_else(unknown)?;
            if value.is_empty() != (key == "wide") || parts.insert(key, unescape(value)).is_some() {
                return Err(unknown());
            }
        }
        let mut needed = |key: &'static str| parts.remove(key).ok_or(CsvSourceError::Missing(key));
        let (time, asset) = (needed("time")?, needed("asset")?);
        let layout = if needed("wide").is_ok() {
            for key in ["metric", "value"] {
                if needed(key).is_ok() {
                    return Err(CsvSourceError::Both("wide", key));
                }
            }
            CsvLayout::Wide
        } else {
            let (metric, value) = (needed("metric")?, needed("value")?);
            CsvLayout::Long { metric, value }
        };
        let clock = match (needed("zone").ok(), needed("unit").ok()) {
            (None, None) => CsvClock::Offset,
            (Some(_), Some(_)) => return Err(CsvSourceError::Both("zone", "unit")),
            (Some(zone), None) => CsvClock::Zone(
                TimeZone::get(&zone).map_err(|_| CsvSourceError::Zone(zone.clone()))?,
            ),
            (None, Some(unit)) => CsvClock::Since1970(match &*unit {
                "s" => TimeUnit::Seconds,
                "ms" => TimeUnit::Milliseconds,
                "us" => TimeUnit::Microseconds,
                "ns" => TimeUnit::Nanoseconds,
                _ => return Err(CsvSourceError::Unit(unit)),
            }),
        };
        Ok(Self {
            path: path.into(),
            mapping: CsvMapping {
                time,
                asset,
                layout,
                clock,
            },
        })
    }
}

impl CsvMapping {
    /// Reads a whole file. The first row names the columns; the first fault ends the reading.
    pub fn read(&self, bytes: &[u8]) -> Result<Vec<Sample>, CsvError> {
        let mut records = Records::over(bytes)?;
        let header = records.next_record()?.ok_or_else(|| CsvError {
            line: 1,
            column: 1,
            reason: "file is empty; expected a row of column names".to_owned(),
        })?;
        let columns = self.columns(&header)?;
        let mut names = HashMap::new();
        let mut samples = Vec::new();
        while let Some(record) = records.next_record()? {
            if record.len() != header.len() {
                let (found, wanted) = (record.len(), header.len());
                let reason = format!("row has {found} cells, the header has {wanted}");
                return Err(record[0].fault(reason));
            }
            let time_ms = self.time(&record[columns.time])?;
            let asset = shared(&mut names, &record[columns.asset])?;
            for (metric, value) in &columns.values {
                let cell = &record[*value];
                let metric = match metric {
                    Metric::Named(name) => Arc::clone(name),
                    Metric::Column(column) => shared(&mut names, &record[*column])?,
                };
                if cell.text.is_empty() && self.layout == CsvLayout::Wide {
                    continue;
                }
                samples.push(Sample {
                    asset: Arc::clone(&asset),
                    metric,
                    time_ms,
                    value: cell.number()?,
                });
            }
        }
        Ok(samples)
    }

    fn columns(&self, header: &[Cell<'_>]) -> Result<Columns, CsvError> {
        let find = |name: &str| {
            let mut places = (0..header.len()).filter(|&place| header[place].text == name);
            match (places.next(), places.next()) {
                (Some(place), None) => Ok(place),
                (Some(_), Some(twice)) => {
                    Err(header[twice].fault(format!("column `{name}` appears more than once")))
                }
                (None, _) => {
                    let known: Vec<&str> = header.iter().map(|cell| &*cell.text).collect();
                    let known = known.join("`, `");
                    Err(header[0].fault(format!("no column `{name}`; there are `{known}`")))
                }
            }
        };
        let (time, asset) = (find(&self.time)?, find(&self.asset)?);
        let values = match &self.layout {
            CsvLayout::Long { metric, value } => {
                vec![(Metric::Column(find(metric)?), find(value)?)]
            }
            CsvLayout::Wide => {
                let mut values = Vec::new();
                for place in (0..header.len()).filter(|&place| place != time && place != asset) {
                    let name = &header[place].text;
                    if name.is_empty() {
                        let reason = "column has no name to call its metric by".to_owned();
                        return Err(header[place].fault(reason));
                    }
                    find(name)?;
                    values.push((Metric::Named(name.as_ref().into()), place));
                }
                values
            }
        };
        Ok(Columns {
            time,
            asset,
            values,
        })
    }

    fn time(&self, cell: &Cell<'_>) -> Result<i64, CsvError> {
        let text = &*cell.text;
        match &self.clock {
            CsvClock::Offset => text
                .parse::<jiff::Timestamp>()
                .map(jiff::Timestamp::as_millisecond)
                .map_err(|_| {
                    cell.fault(format!(
                        "`{}` is not a time with its offset; add zone=… or unit=… to the source",
                        cell.shown()
                    ))
                }),
            CsvClock::Zone(zone) => {
                let local: civil::DateTime = text.parse().map_err(|_| {
                    cell.fault(format!("`{}` is not a date and time", cell.shown()))
                })?;
                // A text with an offset would silently lose it.
                if text.parse::<jiff::Timestamp>().is_ok() {
                    let reason = "time has an offset of its own; leave zone=… out of the source";
                    return Err(cell.fault(reason.to_owned()));
                }
                let instant = zone.to_ambiguous_timestamp(local).unambiguous();
                let instant = instant.map_err(|_| {
                    cell.fault(format!(
                        "`{}` happened twice or never there, when the clocks changed; \
                         write times with their offset",
                        cell.shown()
                    ))
                })?;
                Ok(instant.as_millisecond())
            }
            CsvClock::Since1970(unit) => since_1970(text, *unit).ok_or_else(|| {
                cell.fault(format!(
                    "`{}` is not a number of {unit:?} since 1970",
                    cell.shown()
                ))
            }),
        }
    }
}

struct Columns {
    time: usize,
    asset: usize,
    values: Vec<(Metric, usize)>,
}

enum Metric {
    Named(Arc<str>),
    Column(usize),
}

fn shared<'a>(
    names: &mut HashMap<Cow<'a, str>, Arc<str>>,
    cell: &Cell<'a>,
) -> Result<Arc<str>, CsvError> {
    if cell.text.is_empty() {
        return Err(cell.fault("name is empty".to_owned()));
    }
    if let Some(name) = names.get(&cell.text) {
        return Ok(Arc::clone(name));
    }
    let name: Arc<str> = cell.text.as_ref().into();
    names.insert(cell.text.clone(), Arc::clone(&name));
    Ok(name)
}

/// Reads a whole or decimal number; digits below a millisecond are dropped.
fn since_1970(text: &str, unit: TimeUnit) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits_only = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 12 || !digits_only(fraction) || (text.contains('.') && fraction.is_empty())
    {
        return None;
    }
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty() || unsigned.len() > 20 || !digits_only(unsigned) {
        return None;
    }
    let per_second: i128 = match unit {
        TimeUnit::Seconds => 1,
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Microseconds => 1_000_000,
        TimeUnit::Nanoseconds => 1_000_000_000,
    };
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{unsigned}{fraction}").parse().ok()?;
    let digits = if whole.starts_with('-') {
        -digits
    } else {
        digits
    };
    let time_ms = (digits * 1000).div_euclid(per_second * scale);
    i64::try_from(time_ms).ok()
}

/// Replaces `%26` by `&`, and so on; what is no escape stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |digit: Option<&u8>| char::from(*digit?).to_digit(16);
        let escaped = match (byte, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// One cell and where it begins.
#[derive(Clone, Debug)]
struct Cell<'a> {
    text: Cow<'a, str>,
    line: usize,
    column: usize,
}

impl Cell<'_> {
    fn fault(&self, reason: String) -> CsvError {
        CsvError {
            line: self.line,
            column: self.column,
            reason,
        }
    }

    fn shown(&self) -> String {
        self.text.chars().take(40).collect()
    }

    fn number(&self) -> Result<f64, CsvError> {
        let number: Option<f64> = self.text.parse().ok();
        number.filter(|value| value.is_finite()).ok_or_else(|| {
            self.fault(format!(
                "`{}` is not a finite number; leave out what was not measured",
                self.shown()
            ))
        })
    }
}

/// Walks the records of a file as RFC 4180 writes them; blank lines are passed over.
struct Records<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

impl<'a> Records<'a> {
    fn over(bytes: &'a [u8]) -> Result<Self, CsvError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line_start = good
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |at| at + 1);
            let before = String::from_utf8_lossy(&good[line_start..]);
            CsvError {
                line: good.iter().filter(|&&byte| byte == b'\n').count() + 1,
                column: before.chars().count() + 1,
                reason: "text is not UTF-8".to_owned(),
            }
        })?;
        Ok(Self {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            line: 1,
            column: 1,
        })
    }

    /// The next record, of at least one cell.
    fn next_record(&mut self) -> Result<Option<Vec<Cell<'a>>>, CsvError> {
        while self.skip_line_end() {}
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut record = Vec::new();
        loop {
            record.push(self.cell()?);
            if self.rest.starts_with(',') {
                self.advance(1);
            } else {
                self.skip_line_end();
                return Ok(Some(record));
            }
        }
    }

    fn cell(&mut self) -> Result<Cell<'a>, CsvError> {
        let (line, column) = (self.line, self.column);
        let at = |text| Cell { text, line, column };
        if !self.rest.starts_with('"') {
            let end = self.rest.find([',', '\n', '\r']).unwrap_or(self.rest.len());
            let text = &self.rest[..end];
            self.advance(end);
            if text.contains('"') {
                let reason = "quote inside a cell that does not begin with one".to_owned();
                return Err(at(text.into()).fault(reason));
            }
            return Ok(at(text.trim().into()));
        }
        self.advance(1);
        let mut text = Cow::Borrowed("");
        loop {
            let Some(end) = self.rest.find('"') else {
                return Err(at(text).fault("quote is never closed".to_owned()));
            };
            let part = &self.rest[..end];
            self.advance(end + 1);
            let doubled = self.rest.starts_with('"');
            if text.is_empty() && !doubled {
                text = part.into();
            } else {
                text.to_mut().push_str(part);
            }
            if !doubled {
                break;
            }
            text.to_mut().push('"');
            self.advance(1);
        }
        if !self.rest.is_empty() && !self.rest.starts_with([',', '\n', '\r']) {
            return Err(at(text).fault("text follows the closing quote".to_owned()));
        }
        Ok(at(text))
    }

    fn skip_line_end(&mut self) -> bool {
        let length = match self.rest.as_bytes() {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => return false,
        };
        self.rest = &self.rest[length..];
        self.line += 1;
        self.column = 1;
        true
    }

    fn advance(&mut self, length: usize) {
        let (passed, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.line += passed.matches('\n').count();
        match passed.rfind('\n') {
            Some(end) => self.column = passed[end + 1..].chars().count() + 1,
            None => self.column += passed.chars().count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: &str = "csv:fans.csv?time=at&asset=fan&metric=what&value=reading";
    const WIDE: &str = "csv:fans.csv?time=at&asset=fan&wide";

    fn read(source: &str, text: &str) -> Result<Vec<(String, String, i64, f64)>, CsvError> {
        let source: CsvSource = source.parse().expect("the source is understood");
        let tuple = |s: Sample| {
            (
                s.asset.to_string(),
                s.metric.to_string(),
                s.time_ms,
                s.value,
            )
        };
        Ok(source
            .mapping
            .read(text.as_bytes())?
            .into_iter()
            .map(tuple)
            .collect())
    }

    fn row(asset: &str, metric: &str, time_ms: i64, value: f64) -> (String, String, i64, f64) {
        (asset.to_owned(), metric.to_owned(), time_ms, value)
    }

    #[test]
    fn a_long_file_is_one_sample_per_row() {
        let text = "\u{feff}reading,what,fan,at\r\n1.5,rpm,\"fan \"\"1\"\"\",1970-01-01T00:00:01Z\r\n\
                    -2e3,rpm,fan-2,1970-01-01T01:00:02+01:00\r\n\r\n";
        let found = read(LONG, text).expect("reads");
        assert_eq!(
            found,
            [
                row("fan \"1\"", "rpm", 1000, 1.5),
                row("fan-2", "rpm", 2000, -2000.0)
            ]
        );
    }

    #[test]
    fn a_wide_file_is_one_metric_per_column_with_gaps() {
        let text = "fan,at,rpm,\"temp, c\"\nfan-1,1,1200,\nfan-1,2.5,,40";
        let found = read(&format!("{WIDE}&unit=s"), text).expect("reads");
        assert_eq!(
            found,
            [
                row("fan-1", "rpm", 1000, 1200.0),
                row("fan-1", "temp, c", 2500, 40.0)
            ]
        );
    }

    #[test]
    fn times_are_read_as_the_source_says() {
        let cases = [
            (
                "&zone=Europe/Berlin",
                "2026-07-01 02:00:00",
                1_782_864_000_000,
            ),
            ("&zone=UTC", "2026-07-01T00:00:00", 1_782_864_000_000),
            ("&unit=s", "1782864000", 1_782_864_000_000),
            ("&unit=ms", "1782864000000", 1_782_864_000_000),
            ("&unit=us", "1782864000000999", 1_782_864_000_000),
            ("&unit=ns", "1782864000000000001", 1_782_864_000_000),
            ("&unit=s", "-0.5", -500),
        ];
        for (clock, time, wanted) in cases {
            let found = read(
                &format!("{WIDE}{clock}"),
                &format!("fan,at,rpm\nf,{time},1"),
            );
            assert_eq!(found.expect(time)[0].2, wanted, "{clock} {time}");
        }
    }

    #[test]
    fn a_faulty_file_is_refused_with_line_and_column() {
        let cases = [
            (LONG, "", 1, 1, "empty"),
            (LONG, "at,fan,what\n", 1, 1, "no column `reading`"),
            (LONG, "at,fan,what,reading,at\n", 1, 21, "more than once"),
            (
                LONG,
                "at,fan,what,reading\n2026-01-01T00:00:00,f,m,1",
                2,
                1,
                "zone=",
            ),
            (
                LONG,
                "at,fan,what,reading\n2026-01-01T00:00:00Z,f,m,",
                2,
                26,
                "finite",
            ),
            (
                LONG,
                "at,fan,what,reading\n2026-01-01T00:00:00Z,f,m,NaN",
                2,
                26,
                "finite",
            ),
            (
                LONG,
                "at,fan,what,reading\n2026-01-01T00:00:00Z,,m,1",
                2,
                22,
                "name is empty",
            ),
            (LONG, "at,fan,what,reading\n\n1,2\n", 3, 1, "2 cells"),
            (LONG, "at,fan,what,reading\n\"a\nb", 2, 1, "never closed"),
            (LONG, "at,fan,what,reading\n\"a\"b,", 2, 1, "closing quote"),
            (LONG, "at,fan,what,reading\nab\"c,", 2, 1, "quote inside"),
            (WIDE, "at,fan,rpm,\n", 1, 12, "no name"),
            (WIDE, "at,fan,rpm,rpm\n", 1, 12, "more than once"),
        ];
        for (source, text, line, column, reason) in cases {
            let error = read(source, text).expect_err(text);
            assert_eq!(
                (error.line, error.column),
                (line, column),
                "{text}: {error}"
            );
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        let zone = format!("{WIDE}&zone=Europe/Berlin");
        for time in [
            "2026-03-29T02:30:00",
            "2026-10-25T02:30:00",
            "2026-10-25T02:30:00Z",
            "1",
        ] {
            read(&zone, &format!("at,fan,rpm\n{time},f,1")).expect_err(time);
        }
        let source: CsvSource = LONG.parse().expect("is understood");
        let error = source
            .mapping
            .read(b"at,\nx\xff")
            .expect_err("is not UTF-8");
        assert_eq!((error.line, error.column), (2, 2));
    }

    #[test]
    fn a_source_says_everything_once() {
        let escaped: CsvSource = "csv:a?b.csv?time=t%26t&asset=a%&wide"
            .parse()
            .expect("is fine");
        assert_eq!(escaped.path, PathBuf::from("a?b.csv"));
        assert_eq!(
            (&*escaped.mapping.time, &*escaped.mapping.asset),
            ("t&t", "a%")
        );
        let cases = [
            "csv:fans.csv",
            "csv:?time=t",
            "json:fans",
            "csv:f?time=t&wide",
            "csv:f?asset=a&wide",
            "csv:f?time=t&asset=a",
            "csv:f?time=t&asset=a&metric=m",
            "csv:f?time=t&asset=a&wide&value=v",
            "csv:f?time=t&asset=a&wide&wide",
            "csv:f?time=t&asset=a&wide=1",
            "csv:f?time=&asset=a&wide",
            "csv:f?time=t&asset=a&wide&sep=;",
            "csv:f?time=t&asset=a&wide&zone=Mars/Base",
            "csv:f?time=t&asset=a&wide&unit=h",
            "csv:f?time=t&asset=a&wide&unit=s&zone=UTC",
        ];
        for source in cases {
            source.parse::<CsvSource>().expect_err(source);
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "[a-z0-9,\"\r\n. -]{0,120}", source in ".{0,60}") {
            let _ = source.parse::<CsvSource>();
            let _ = format!("csv:f?{source}").parse::<CsvSource>();
            for source in [LONG.to_owned(), format!("{WIDE}&unit=ns"), format!("{WIDE}&zone=UTC")] {
                let _ = read(&source, &text);
                let _ = read(&source, &format!("at,fan,what,reading\n{text}"));
            }
        }

        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let source: CsvSource = WIDE.parse().expect("is understood");
            let _ = source.mapping.read(&bytes);
        }

        #[test]
        fn quoted_cells_keep_their_text(names in prop::collection::vec("[ -~\n]{1,12}", 1..6)) {
            let mut text = "at,fan,what,reading\n".to_owned();
            for name in &names {
                let quoted = name.replace('"', "\"\"");
                text.push_str(&format!("7,f,\"{quoted}\",1\n"));
            }
            let found = read(&format!("{LONG}&unit=ms"), &text).expect("reads");
            let found: Vec<String> = found.into_iter().map(|row| row.1).collect();
            prop_assert_eq!(found, names);
        }
    }
}
