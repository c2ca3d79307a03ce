//! The partition of a key, as Kafka's Java client chooses it.

use std::num::NonZeroU32;

/// Kafka's murmur2: `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // The length wraps as Java's `int` does.
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ k >> 24).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of these bytes among so many: `toPositive(murmur2(bytes)) % partitions`.
pub fn partition(bytes: &[u8], partitions: NonZeroU32) -> u32 {
    (murmur2(bytes) & 0x7fff_ffff) % partitions
}
