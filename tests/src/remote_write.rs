//! Prometheus remote write from outside: protobuf and snappy written by hand, so that no code is shared.

/// A request with one series.
#[must_use]
pub fn request(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut series, 1, &label);
    }
    for &(time_ms, value) in samples {
        let mut sample = vec![(1 << 3) | 1];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(2 << 3);
        varint(&mut sample, time_ms.cast_unsigned());
        field(&mut series, 2, &sample);
    }
    let mut message = Vec::new();
    field(&mut message, 1, &series);
    snappy(&message)
}

/// A block of literals: valid snappy that compresses nothing.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    varint(&mut block, bytes.len() as u64);
    for chunk in bytes.chunks(60) {
        let length = u8::try_from(chunk.len() - 1).expect("at most 60");
        block.push(length << 2);
        block.extend_from_slice(chunk);
    }
    block
}

fn field(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push((number << 3) | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    to.push(u8::try_from(value).expect("seven bits"));
}
