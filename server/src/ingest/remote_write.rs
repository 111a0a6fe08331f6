//! Prometheus remote write 1.0: a snappy block around one protobuf message.
//!
//! The message is walked by hand, not built as a tree, so a small body cannot ask for much memory.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use prost::Message;

use super::parsed::{IngestError, MAX_SAMPLES, Parsed};
use crate::telemetry::{Rejected, Sample};

/// The largest message, decompressed.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// The most labels one series may carry.
const MAX_LABELS: usize = 64;

/// Snappy never compresses better than 64 bytes into 3, so a header that claims more is a lie.
const MAX_RATIO: usize = 22;

/// Reads a request. A series without a name, an asset or room for its labels is rejected by itself.
///
/// The asset is the label `asset`, or else `instance`; the metric is `__name__`. All other labels
/// become part of the metric, sorted, as in `errors{bus="pci",port="1"}`, so that two series of a
/// sender never fall into one of ours.
pub fn decode(body: &[u8]) -> Result<Parsed, IngestError> {
    let snappy = |reason: String| IngestError::Snappy { reason };
    let claimed = snap::raw::decompress_len(body).map_err(|error| snappy(error.to_string()))?;
    if claimed > MAX_MESSAGE_BYTES {
        let (limit, unit) = (MAX_MESSAGE_BYTES, "bytes decompressed");
        return Err(IngestError::Oversized { limit, unit });
    }
    if claimed > body.len().saturating_mul(MAX_RATIO) {
        let reason = format!("{} bytes cannot hold the {claimed} announced", body.len());
        return Err(snappy(reason));
    }
    let message = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|error| snappy(error.to_string()))?;
    read_request(&message)
}

/// Writes samples as a request: one series per asset and metric, in order of first appearance.
pub fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut request = WriteRequest::default();
    for sample in samples {
        let key = (&*sample.asset, &*sample.metric);
        let place = *places.entry(key).or_insert_with(|| {
            request.timeseries.push(TimeSeries {
                labels: vec![Label::of(NAME, key.1), Label::of("asset", key.0)],
                samples: Vec::new(),
            });
            request.timeseries.len() - 1
        });
        request.timeseries[place].samples.push(WireSample {
            value: sample.value,
            timestamp: sample.time_ms,
        });
    }
    let message = request.encode_to_vec();
    // Fails only for messages beyond 4 GiB, which no caller builds.
    snap::raw::Encoder::new()
        .compress_vec(&message)
        .unwrap_or_default()
}

const NAME: &str = "__name__";

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<WireSample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Label {
    fn of(name: &str, value: &str) -> Self {
        let (name, value) = (name.to_owned(), value.to_owned());
        Self { name, value }
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

fn read_request(message: &[u8]) -> Result<Parsed, IngestError> {
    let mut parsed = Parsed::default();
    let mut index = 0;
    let mut points = Vec::new();
    let mut reader = Reader::over(message, 0);
    while let Some((field, value)) = reader.next_field()? {
        let (1, Wire::Bytes(bytes, offset)) = (field, value) else {
            continue;
        };
        points.clear();
        let names = read_series(bytes, offset, &mut points)?;
        if index + points.len() > MAX_SAMPLES {
            let (limit, unit) = (MAX_SAMPLES, "samples");
            return Err(IngestError::Oversized { limit, unit });
        }
        match names {
            Ok((asset, metric)) => {
                for (place, &(time_ms, value)) in points.iter().enumerate() {
                    parsed.samples.push(Sample {
                        asset: Arc::clone(&asset),
                        metric: Arc::clone(&metric),
                        time_ms,
                        value,
                    });
                    parsed.indices.push(index + place);
                }
            }
            Err((field, reason)) => {
                parsed
                    .rejected
                    .extend((0..points.len()).map(|place| Rejected {
                        index: index + place,
                        field: field.into(),
                        reason: reason.clone(),
                    }));
            }
        }
        index += points.len();
    }
    Ok(parsed)
}

/// The asset and metric of a series, or the label at fault and why.
type Names = Result<(Arc<str>, Arc<str>), (&'static str, String)>;

fn read_series(
    bytes: &[u8],
    offset: usize,
    points: &mut Vec<(i64, f64)>,
) -> Result<Names, IngestError> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut too_many = false;
    let mut reader = Reader::over(bytes, offset);
    while let Some((field, value)) = reader.next_field()? {
        match (field, value) {
            (1, Wire::Bytes(label, offset)) => {
                too_many |= labels.len() == MAX_LABELS;
                if !too_many {
                    labels.push(read_label(label, offset)?);
                }
            }
            (2, Wire::Bytes(sample, offset)) => {
                // Told apart from the rest of the message before memory is spent on it.
                if points.len() == MAX_SAMPLES {
                    let (limit, unit) = (MAX_SAMPLES, "samples");
                    return Err(IngestError::Oversized { limit, unit });
                }
                points.push(read_sample(sample, offset)?);
            }
            _ => {}
        }
    }
    if too_many {
        let reason = format!("series has more than {MAX_LABELS} labels");
        return Ok(Err(("labels", reason)));
    }
    Ok(names(labels))
}

fn read_label(bytes: &[u8], offset: usize) -> Result<(&str, &str), IngestError> {
    let (mut name, mut text) = ("", "");
    let mut reader = Reader::over(bytes, offset);
    while let Some((field, value)) = reader.next_field()? {
        let (1 | 2, Wire::Bytes(bytes, offset)) = (field, value) else {
            continue;
        };
        let read = std::str::from_utf8(bytes).map_err(|_| IngestError::Protobuf {
            offset,
            reason: "label is not UTF-8",
        })?;
        *(if field == 1 { &mut name } else { &mut text }) = read;
    }
    Ok((name, text))
}

fn read_sample(bytes: &[u8], offset: usize) -> Result<(i64, f64), IngestError> {
    let (mut time_ms, mut number) = (0, 0.0);
    let mut reader = Reader::over(bytes, offset);
    while let Some((field, value)) = reader.next_field()? {
        match (field, value) {
            (1, Wire::Fixed64(bits)) => number = f64::from_bits(bits),
            (2, Wire::Varint(time)) => time_ms = time.cast_signed(),
            _ => {}
        }
    }
    Ok((time_ms, number))
}

fn names(mut labels: Vec<(&str, &str)>) -> Names {
    // To Prometheus a label with an empty value is one that is not there.
    labels.retain(|label| !label.1.is_empty());
    labels.sort_unstable();
    if let Some(twice) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let reason = format!("label `{}` appears more than once", twice[0].0);
        return Err(("labels", reason));
    }
    let find = |name: &str| labels.iter().find(|label| label.0 == name).copied();
    let Some(asset) = find("asset").or_else(|| find("instance")) else {
        let reason = "series has neither a label `asset` nor `instance`".to_owned();
        return Err(("asset", reason));
    };
    let Some(name) = find(NAME) else {
        return Err(("metric", format!("series has no label `{NAME}`")));
    };
    if name.1.contains(['{', '}', '"']) && labels.len() > 2 {
        let reason = format!(
            "metric `{}` has labels both in its name and beside it",
            name.1
        );
        return Err(("metric", reason));
    }
    let mut metric = name.1.to_owned();
    let mut open = false;
    for &(label, value) in &labels {
        if label == asset.0 || label == NAME {
            continue;
        }
        metric.push(if open { ',' } else { '{' });
        open = true;
        // Writing to a string cannot fail.
        let _ = write!(metric, "{label}={value:?}");
    }
    if open {
        metric.push('}');
    }
    Ok((asset.1.into(), metric.into()))
}

/// The value of one protobuf field.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    /// With the offset of its first byte in the whole message.
    Bytes(&'a [u8], usize),
    Fixed32,
}

/// Walks the fields of one protobuf message.
struct Reader<'a> {
    rest: &'a [u8],
    /// The offset of `rest` in the whole message.
    offset: usize,
}

impl<'a> Reader<'a> {
    fn over(bytes: &'a [u8], offset: usize) -> Self {
        let rest = bytes;
        Self { rest, offset }
    }

    fn next_field(&mut self) -> Result<Option<(u64, Wire<'a>)>, IngestError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                let fixed = bytes.first_chunk::<8>().copied().unwrap_or_default();
                Wire::Fixed64(u64::from_le_bytes(fixed))
            }
            2 => {
                let length = self.varint()?;
                let offset = self.offset;
                let length = usize::try_from(length).map_err(|_| self.fault("length overflows"))?;
                Wire::Bytes(self.take(length)?, offset)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(self.fault("unknown wire type")),
        };
        if key >> 3 == 0 {
            return Err(self.fault("field number 0"));
        }
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, IngestError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault("varint is longer than ten bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], IngestError> {
        let parts = self.rest.split_at_checked(length);
        let (taken, rest) = parts.ok_or_else(|| self.fault("message ends early"))?;
        self.rest = rest;
        self.offset += length;
        Ok(taken)
    }

    fn fault(&self, reason: &'static str) -> IngestError {
        let offset = self.offset;
        IngestError::Protobuf { offset, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Labels<'a> = &'a [(&'a str, &'a str)];
    type Points<'a> = &'a [(i64, f64)];

    fn request(series: &[(Labels<'_>, Points<'_>)]) -> Vec<u8> {
        let series = series.iter().map(|(labels, samples)| TimeSeries {
            labels: labels
                .iter()
                .map(|(name, value)| Label::of(name, value))
                .collect(),
            samples: samples
                .iter()
                .map(|&(timestamp, value)| WireSample { value, timestamp })
                .collect(),
        });
        let timeseries = series.collect();
        let message = WriteRequest { timeseries }.encode_to_vec();
        snap::raw::Encoder::new()
            .compress_vec(&message)
            .expect("compresses")
    }

    #[test]
    fn labels_become_an_asset_and_a_metric() {
        let cases: [(Labels<'_>, (&str, &str)); 5] = [
            (
                &[("__name__", "up"), ("instance", "fan-1:9100")],
                ("fan-1:9100", "up"),
            ),
            (&[("asset", "fan-1"), ("__name__", "rpm")], ("fan-1", "rpm")),
            (
                &[
                    ("__name__", "rpm"),
                    ("asset", "fan-1"),
                    ("instance", "gateway"),
                ],
                ("fan-1", "rpm{instance=\"gateway\"}"),
            ),
            (
                &[
                    ("__name__", "cpu"),
                    ("mode", "idle"),
                    ("cpu", "0"),
                    ("instance", "host"),
                ],
                ("host", "cpu{cpu=\"0\",mode=\"idle\"}"),
            ),
            (
                &[
                    ("__name__", "x"),
                    ("a", "q\"u,o\\te"),
                    ("b", ""),
                    ("instance", "host"),
                ],
                ("host", "x{a=\"q\\\"u,o\\\\te\"}"),
            ),
        ];
        for (labels, (asset, metric)) in cases {
            let parsed = decode(&request(&[(labels, &[(5, 1.5)])])).expect("decodes");
            assert_eq!(parsed.rejected, [], "{labels:?}");
            let wanted = Sample {
                asset: asset.into(),
                metric: metric.into(),
                time_ms: 5,
                value: 1.5,
            };
            assert_eq!(parsed.samples, [wanted]);
        }
    }

    #[test]
    fn a_series_that_cannot_be_named_is_rejected_by_itself() {
        let many: Vec<(String, String)> = (0..=MAX_LABELS)
            .map(|i| (format!("l{i}"), "x".to_owned()))
            .collect();
        let many: Vec<(&str, &str)> = many.iter().map(|l| (&*l.0, &*l.1)).collect();
        let good: Labels<'_> = &[("__name__", "rpm"), ("asset", "fan-1")];
        let cases: [(Labels<'_>, &str); 5] = [
            (&[("__name__", "rpm")], "asset"),
            (&[("asset", "fan-1")], "metric"),
            (
                &[("asset", "a"), ("asset", "b"), ("__name__", "rpm")],
                "labels",
            ),
            (
                &[("asset", "a"), ("x", "b"), ("__name__", "rpm{y=\"1\"}")],
                "metric",
            ),
            (&many, "labels"),
        ];
        for (labels, field) in cases {
            let points: Points<'_> = &[(1, 1.0), (2, 2.0)];
            let body = request(&[(good, points), (labels, points), (good, points)]);
            let parsed = decode(&body).expect("decodes");
            assert_eq!(parsed.indices, [0, 1, 4, 5]);
            let rejected: Vec<(usize, &str)> = parsed
                .rejected
                .iter()
                .map(|item| (item.index, &*item.field))
                .collect();
            assert_eq!(rejected, [(2, field), (3, field)]);
        }
    }

    #[test]
    fn lies_about_size_are_refused_before_memory_is_spent() {
        // Announces 31 MiB in a body of a few bytes.
        let mut bomb = vec![0x80, 0x80, 0x80 | 0x7c, 0x0f];
        bomb.extend([0; 8]);
        assert!(matches!(decode(&bomb), Err(IngestError::Snappy { .. })));
        let zeros = vec![0u8; MAX_MESSAGE_BYTES + 1];
        let large = snap::raw::Encoder::new()
            .compress_vec(&zeros)
            .expect("compresses");
        assert!(matches!(decode(&large), Err(IngestError::Oversized { .. })));
        let labels: Labels<'_> = &[("__name__", "rpm"), ("asset", "fan-1")];
        let points = vec![(0i64, 0.0f64); MAX_SAMPLES + 1];
        let refused = decode(&request(&[(labels, &points)]));
        assert!(matches!(refused, Err(IngestError::Oversized { .. })));
    }

    #[test]
    fn the_most_compressible_body_is_still_accepted() {
        let labels: Labels<'_> = &[("__name__", "rpm"), ("asset", "fan-1")];
        let points = vec![(0i64, 0.0f64); 50_000];
        let parsed = decode(&request(&[(labels, &points)])).expect("decodes");
        assert_eq!(parsed.samples.len(), 50_000);
    }

    fn any_sample() -> impl Strategy<Value = Sample> {
        ("[a-c]{1,3}", "[x-z]{1,3}", any::<i64>(), any::<f64>()).prop_map(
            |(asset, metric, time_ms, value)| Sample {
                asset: asset.into(),
                metric: metric.into(),
                time_ms,
                value,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(samples in prop::collection::vec(any_sample(), 0..60)) {
            let mut parsed = decode(&encode(&samples)).expect("decodes");
            // Protobuf has one zero: a negative one is not written at all.
            let bits = |value: f64| (if value == 0.0 { 0.0 } else { value }).to_bits();
            let key = |s: &Sample| (s.asset.clone(), s.metric.clone(), s.time_ms, bits(s.value));
            let mut wanted: Vec<_> = samples.iter().map(key).collect();
            wanted.sort();
            parsed.samples.sort_by_key(key);
            let found: Vec<_> = parsed.samples.iter().map(key).collect();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            let _ = read_request(&bytes);
            let body = snap::raw::Encoder::new().compress_vec(&bytes).expect("compresses");
            let _ = decode(&body);
        }

        #[test]
        fn a_damaged_message_is_read_as_prost_reads_it(
            samples in prop::collection::vec(any_sample(), 1..10),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut message = snap::raw::Decoder::new()
                .decompress_vec(&encode(&samples))
                .expect("decompresses");
            for (place, byte) in changes {
                let place = place.index(message.len());
                message[place] = byte;
            }
            let ours = read_request(&message);
            if let Ok(theirs) = WriteRequest::decode(&*message) {
                let count: usize = theirs.timeseries.iter().map(|s| s.samples.len()).sum();
                if let Ok(ours) = ours {
                    prop_assert_eq!(ours.samples.len() + ours.rejected.len(), count);
                }
            }
        }
    }
}
