//! A block of samples without loss: times and values by pco, every bit kept.
//!
//! Layout, little endian: `FWB1`, number of samples (u32), length of the times (u32), checksum of the
//! rest (u64), the times, the values. Both parts are pco's standalone format.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};

use crate::rng::checksum;

/// Most samples in a block: a bound on what decoding may allocate.
pub const MOST_SAMPLES: usize = 1 << 20;

const MAGIC: &[u8; 4] = b"FWB1";

/// Why bytes are no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// They do not start like one, or end within the header.
    #[error("bytes do not start with a block's header")]
    NotABlock,
    /// The block claims more samples than any block has.
    #[error("block claims {samples} samples, at most {MOST_SAMPLES} are allowed")]
    TooLarge {
        /// The claim.
        samples: usize,
    },
    /// The checksum does not match.
    #[error("block is damaged: its checksum does not match its content")]
    Checksum,
    /// The compressed content is not what the header says.
    #[error("block is damaged: its {part} cannot be unpacked")]
    Content {
        /// `times` or `values`.
        part: &'static str,
    },
}

/// Packs samples. The times need not be in order, though order packs best.
///
/// # Panics
/// If there are not as many times as values, or more than [`MOST_SAMPLES`].
pub fn encode(times_ms: &[i64], values: &[f64]) -> Vec<u8> {
    assert_eq!(
        times_ms.len(),
        values.len(),
        "a block has one value per time"
    );
    assert!(
        values.len() <= MOST_SAMPLES,
        "a block has at most {MOST_SAMPLES} samples"
    );
    let times = pack(times_ms);
    let mut content = (times.len() as u32).to_le_bytes().to_vec();
    content.extend_from_slice(&times);
    content.extend_from_slice(&pack(values));
    let mut bytes = Vec::with_capacity(16 + content.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(values.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

/// Unpacks a block. Whatever the bytes are, the answer is samples or an error, and no more memory is
/// taken than [`MOST_SAMPLES`] need.
pub fn decode(bytes: &[u8]) -> Result<(Vec<i64>, Vec<f64>), CodecError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(CodecError::NotABlock)?;
    let (samples, rest) = rest.split_first_chunk::<4>().ok_or(CodecError::NotABlock)?;
    let (sum, content) = rest.split_first_chunk::<8>().ok_or(CodecError::NotABlock)?;
    let samples = u32::from_le_bytes(*samples) as usize;
    if samples > MOST_SAMPLES {
        return Err(CodecError::TooLarge { samples });
    }
    if u64::from_le_bytes(*sum) != checksum(content) {
        return Err(CodecError::Checksum);
    }
    let (length, parts) = content
        .split_first_chunk::<4>()
        .ok_or(CodecError::NotABlock)?;
    let length = u32::from_le_bytes(*length) as usize;
    let times = parts
        .get(..length)
        .ok_or(CodecError::Content { part: "times" })?;
    Ok((
        unpack(times, samples, "times")?,
        unpack(&parts[length..], samples, "values")?,
    ))
}

fn pack<T: Number>(numbers: &[T]) -> Vec<u8> {
    simple_compress(numbers, &ChunkConfig::default()).expect("the default configuration is valid")
}

fn unpack<T: Number + Default>(
    bytes: &[u8],
    samples: usize,
    part: &'static str,
) -> Result<Vec<T>, CodecError> {
    let mut numbers = vec![T::default(); samples];
    match simple_decompress_into(bytes, &mut numbers) {
        Ok(progress) if progress.n_processed == samples && progress.finished => Ok(numbers),
        _ => Err(CodecError::Content { part }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn assert_exact(times: &[i64], values: &[f64]) {
        let (got_times, got_values) = decode(&encode(times, values)).expect("own block");
        assert_eq!(got_times, times);
        let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got_values), bits(values));
    }

    #[test]
    fn odd_numbers_keep_every_bit() {
        let payload = f64::from_bits(0x7ff0_0000_0000_0001);
        let odd = [
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            payload,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        let tiny = [
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            f64::MIN,
            0.1,
            1.0 / 3.0,
        ];
        let values: Vec<f64> = odd.into_iter().chain(tiny).cycle().take(5000).collect();
        let times: Vec<i64> = (0..5000)
            .map(|i| [i64::MIN, i64::MAX, 0, i][i as usize % 4])
            .collect();
        assert_exact(&times, &values);
        assert_exact(&[], &[]);
        assert_exact(&[-5], &[f64::NAN]);
    }

    #[test]
    fn regular_samples_take_few_bytes() {
        let mut rng = Rng::new(1);
        let times: Vec<i64> = (0..1024).map(|i| 1_700_000_000_000 + 60_000 * i).collect();
        let values: Vec<f64> = (0..1024)
            .map(|_| (40.0 + rng.normal()).round() / 2.0)
            .collect();
        let size = encode(&times, &values).len();
        // About two bits of entropy per value; raw samples are 16 bytes each.
        assert!(size < 1024, "{size} bytes");
        assert_exact(&times, &values);
    }

    #[test]
    fn a_claim_of_too_many_samples_is_refused_before_memory_is_taken() {
        let mut bytes = encode(&[1], &[1.0]);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            decode(&bytes),
            Err(CodecError::TooLarge {
                samples: u32::MAX as usize
            })
        );
    }

    /// Mends the checksum of mutated content, so that the mutation reaches the decompressor.
    fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() >= 16 {
            let sum = checksum(&bytes[16..]);
            bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn every_truncation_is_an_error() {
        let times: Vec<i64> = (0..600).map(|i| i * i).collect();
        let values: Vec<f64> = (0..600).map(|i| f64::from(i).sqrt()).collect();
        let bytes = encode(&times, &values);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
            assert!(decode(&mended(bytes[..length].to_vec())).is_err());
        }
    }

    #[test]
    fn mutated_blocks_never_panic() {
        let mut rng = Rng::new(11);
        let times: Vec<i64> = (0..700).map(|i| i * 1000 + (i % 7)).collect();
        let values: Vec<f64> = (0..700).map(|i| f64::from(i % 13) * 0.1).collect();
        let blocks = [
            encode(&times, &values),
            encode(&times[..5], &values[..5]),
            encode(&[], &[]),
        ];
        for _ in 0..20_000 {
            let mut bytes = blocks[rng.below(blocks.len())].clone();
            for _ in 0..=rng.below(4) {
                let place = 8 + rng.below(bytes.len() - 8);
                bytes[place] = rng.next_u64() as u8;
            }
            if rng.below(4) == 0 {
                let place = rng.below(bytes.len());
                bytes.insert(place, rng.next_u64() as u8);
            }
            // A mutation may yield other samples; it must not yield a panic or another count.
            if let Ok((times, values)) = decode(&mended(bytes)) {
                assert_eq!(times.len(), values.len());
            }
        }
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in prop::collection::vec((any::<i64>(), any::<u64>()), 0..300)) {
            let (times, bits): (Vec<i64>, Vec<u64>) = samples.into_iter().unzip();
            let values: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
            assert_exact(&times, &values);
        }

        #[test]
        fn any_bytes_are_samples_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut framed = b"FWB1".to_vec();
            framed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            framed.extend_from_slice(&[0; 8]);
            framed.extend_from_slice(&bytes);
            prop_assert!(decode(&bytes).is_err());
            // Only its absence of panics matters here.
            let _ = decode(&mended(framed));
        }
    }
}
