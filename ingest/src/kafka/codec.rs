//! Decompresses the records of a batch, within a bound.
//!
//! Invariant: never more than [`BYTES_MAX`] are made, whatever a header claims: output grows as it is
//! produced, and one byte beyond the bound is an error (F10). Codecs: Kafka's attributes, bits 0 to 2.

use std::io::Read;

use super::records::Fault;

/// A batch holds at most this much: 64 times the broker's default for a compressed one.
pub const BYTES_MAX: usize = 64 << 20;

/// Xerial's framing of Snappy, which Kafka's own clients write: eight bytes, two versions.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// Appends what `payload` holds to `out`, which is empty.
pub fn decompress(codec: u16, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    match codec {
        1 => stream(flate2::read::MultiGzDecoder::new(payload), out, "gzip"),
        2 => snappy(payload, out),
        3 => stream(lz4_flex::frame::FrameDecoder::new(payload), out, "lz4"),
        4 => {
            let decoder = zstd::stream::read::Decoder::with_buffer(payload);
            stream(decoder.map_err(|_| Fault::Decompression("zstd"))?, out, "zstd")
        }
        other => Err(Fault::UnknownCodec(other)),
    }
}

fn stream(decoder: impl Read, out: &mut Vec<u8>, codec: &'static str) -> Result<(), Fault> {
    let read = decoder.take(BYTES_MAX as u64 + 1).read_to_end(out);
    read.map_err(|_| Fault::Decompression(codec))?;
    within(out)
}

fn within(out: &[u8]) -> Result<(), Fault> {
    match out.len() <= BYTES_MAX {
        true => Ok(()),
        false => Err(Fault::Decompression("it holds more than 64 MiB")),
    }
}

/// Blocks behind Xerial's header, or one block without any (librdkafka's and others').
fn snappy(payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if !payload.starts_with(XERIAL) {
        return snappy_block(payload, out);
    }
    let mut left = payload.get(XERIAL_HEADER_BYTES..).ok_or(Fault::Decompression("snappy"))?;
    while !left.is_empty() {
        let (length, behind) =
            left.split_first_chunk::<4>().ok_or(Fault::Decompression("snappy"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = behind.get(..length).ok_or(Fault::Decompression("snappy"))?;
        snappy_block(block, out)?;
        left = &behind[length..];
    }
    Ok(())
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let bad = |_| Fault::Decompression("snappy");
    let length = snap::raw::decompress_len(block).map_err(bad)?;
    // Memory is taken for what is claimed.
    if out.len() + length > BYTES_MAX {
        return Err(Fault::Decompression("snappy claims more than 64 MiB"));
    }
    let begun = out.len();
    out.resize(begun + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[begun..]).map_err(bad)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xerial(bytes: &[u8]) -> Vec<u8> {
        let mut out = XERIAL.to_vec();
        out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for block in bytes.chunks(32 << 10) {
            let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
            out.extend((block.len() as u32).to_be_bytes());
            out.extend(block);
        }
        out
    }

    fn all(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        vec![
            (1, gzip(bytes)),
            (2, xerial(bytes)),
            (2, snap::raw::Encoder::new().compress_vec(bytes).unwrap()),
            (3, lz4(bytes)),
            (4, zstd::encode_all(bytes, 1).unwrap()),
        ]
    }

    fn decompressed(codec: u16, payload: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        decompress(codec, payload, &mut out).map(|()| out)
    }

    #[test]
    fn every_codec_gives_back_what_was_compressed() {
        let text: Vec<u8> =
            (0..200_000u32).flat_map(|i| (i % 997).to_string().into_bytes()).collect();
        for bytes in [&text[..], b"x", b""] {
            for (codec, payload) in all(bytes) {
                assert_eq!(decompressed(codec, &payload).as_deref(), Ok(bytes), "codec {codec}");
            }
        }
        assert_eq!(decompressed(5, b""), Err(Fault::UnknownCodec(5)));
    }

    #[test]
    fn f10_a_bomb_ends_at_the_bound() {
        let zeros = vec![0; BYTES_MAX + (1 << 20)];
        for (codec, payload) in all(&zeros) {
            let mut out = Vec::new();
            let found = decompress(codec, &payload, &mut out);
            assert!(matches!(found, Err(Fault::Decompression(_))), "codec {codec}");
            assert!(out.len() <= BYTES_MAX + 1, "codec {codec}: {} bytes were made", out.len());
        }
        // Snappy's length says four gigabytes.
        let found = decompressed(2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(matches!(found, Err(Fault::Decompression(_))));
    }

    #[test]
    fn f10_cut_and_flipped_payloads_are_errors_or_other_bytes_but_no_panic() {
        for (codec, payload) in all(b"some text that is some text and some more text") {
            for cut in 0..payload.len() {
                let _ = decompressed(codec, &payload[..cut]);
                let mut flipped = payload.clone();
                flipped[cut] ^= 0x55;
                let _ = decompressed(codec, &flipped);
            }
        }
    }
}
