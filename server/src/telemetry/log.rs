//! One row of the write-ahead log: the points of one accepted batch as bytes.

/// The points one batch brought to one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) series: i64,
    pub(super) times_ms: Vec<i64>,
    pub(super) values: Vec<f64>,
}

const FORMAT: u8 = 1;

/// Writes a row: per series its number, count, times as differences, values as they are.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let points: usize = entries.iter().map(|entry| entry.times_ms.len()).sum();
    let mut bytes = Vec::with_capacity(1 + entries.len() * 8 + points * 12);
    bytes.push(FORMAT);
    for entry in entries {
        put_varint(&mut bytes, entry.series.cast_unsigned());
        put_varint(&mut bytes, entry.times_ms.len() as u64);
        let mut previous = 0i64;
        for &time in &entry.times_ms {
            put_varint(&mut bytes, zigzag(time.wrapping_sub(previous)));
            previous = time;
        }
        for value in &entry.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

/// Reads a row back; `None` if it is not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (&format, mut rest) = bytes.split_first()?;
    if format != FORMAT {
        return None;
    }
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let series = take_varint(&mut rest)?.cast_signed();
        let count = usize::try_from(take_varint(&mut rest)?).ok()?;
        // Each point takes at least nine bytes, so a false count cannot ask for much memory.
        if count > rest.len() / 9 {
            return None;
        }
        let mut times_ms = Vec::with_capacity(count);
        let mut previous = 0i64;
        for _ in 0..count {
            previous = previous.wrapping_add(unzigzag(take_varint(&mut rest)?));
            times_ms.push(previous);
        }
        let (raw, after) = rest.split_at_checked(count * 8)?;
        let values = raw
            .as_chunks::<8>()
            .0
            .iter()
            .map(|chunk| f64::from_le_bytes(*chunk))
            .collect();
        rest = after;
        entries.push(Entry {
            series,
            times_ms,
            values,
        });
    }
    Some(entries)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (
            0i64..1_000_000,
            prop::collection::vec(any::<(i64, f64)>(), 0..40),
        )
            .prop_map(|(series, points)| {
                let (times_ms, values) = points.into_iter().unzip();
                Entry {
                    series,
                    times_ms,
                    values,
                }
            })
    }

    fn bits(entries: &[Entry]) -> Vec<(i64, Vec<i64>, Vec<u64>)> {
        let of = |entry: &Entry| {
            let values = entry.values.iter().map(|value| value.to_bits()).collect();
            (entry.series, entry.times_ms.clone(), values)
        };
        entries.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn a_row_reads_back_bit_for_bit(entries in prop::collection::vec(entry(), 0..8)) {
            let read = decode(&encode(&entries)).expect("own bytes are readable");
            prop_assert_eq!(bits(&read), bits(&entries));
        }

        #[test]
        fn damaged_rows_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            let _ = decode(&bytes);
        }
    }
}
