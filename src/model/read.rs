//! Reads a stream into memory up to a limit.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// Reserved at once, since a buffer that grows leaves copies of a secret behind.
const CAPACITY: usize = 32 * 1024;

/// Reads a stream to its end or to `limit` bytes.
pub(crate) fn read_at_most(reader: &mut dyn Read, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(CAPACITY));
    reader.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
