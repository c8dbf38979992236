//! Reads a stream into memory up to a limit, and decodes text files.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// Initial capacity of the buffer. It is large because each reallocation of a growing
/// buffer leaves a copy of the secret in freed memory.
const INITIAL_CAPACITY: usize = 32 * 1024;

/// Reads a stream to its end, or until `limit` bytes have been read.
pub(crate) fn read_at_most(reader: &mut dyn Read, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(INITIAL_CAPACITY));
    reader.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Decodes UTF-8, or UTF-16 with a byte order mark (PowerShell 5 writes UTF-16).
/// Removes the byte order mark.
pub fn decode_text(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let utf16 = |bytes: &[u8], decode_unit: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks();
        let units = units.iter().copied().map(decode_unit);
        // A reallocation would leave a copy of the secret in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
        for c in char::decode_utf16(units) {
            text.push(c.ok()?);
        }
        rest.is_empty().then_some(text)
    };
    match bytes {
        [0xff, 0xfe, bytes @ ..] => utf16(bytes, u16::from_le_bytes),
        [0xfe, 0xff, bytes @ ..] => utf16(bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, bytes @ ..] | bytes => {
            let text = std::str::from_utf8(bytes).ok()?;
            Some(Zeroizing::new(text.to_owned()))
        }
    }
}
