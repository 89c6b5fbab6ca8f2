//! The decoding of compressed responses.
//!
//! Owns the content codings. The client requests none (no Accept-Encoding), but gateways compress what they like. A
//! stream that the server flushes after each event is decoded event by event. Sans-IO. One output is bounded, so that a
//! small input that expands greatly meets the limits of its consumer. Fed by `http`.

use std::io::{self, Write as _};
use std::ops::ControlFlow;

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Compressed bytes of one step: they expand to some 256 KiB at most (deflate's limit is 1,032 to 1).
const STEP_BYTES: usize = 256;

#[derive(Debug)]
pub(super) enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>),
    /// `deflate` means zlib's format. Some servers leave out its frame, which the first byte shows.
    ZlibOrDeflate,
}

/// An unknown coding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown;

impl Decoder {
    /// The decoder for a Content-Encoding; `None` where there is nothing to decode.
    pub(super) fn of(coding: &[u8]) -> Result<Option<Self>, Unknown> {
        match coding.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Self::Gzip(MultiGzDecoder::new(Vec::new())))),
            b"deflate" => Ok(Some(Self::ZlibOrDeflate)),
            _ => Err(Unknown),
        }
    }

    /// Decodes the next bytes and hands out the result in parts. A `Break` drops the rest.
    ///
    /// # Errors
    /// The bytes are not valid in this coding.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut on_plain: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for step in bytes.chunks(STEP_BYTES) {
            if let Self::ZlibOrDeflate = self {
                // Zlib's first byte: method 8 and a window of up to 32 KiB. No block of deflate begins so: it
                // would be one stored, with padding that is not zero.
                *self = if step[0] & 0x0f == 8 && step[0] >> 4 <= 7 {
                    Self::Zlib(ZlibDecoder::new(Vec::new()))
                } else {
                    Self::Deflate(DeflateDecoder::new(Vec::new()))
                };
            }
            let plain = match self {
                Self::Gzip(decoder) => {
                    decoder.write_all(step)?;
                    decoder.flush()?;
                    decoder.get_mut()
                }
                Self::Zlib(decoder) => {
                    decoder.write_all(step)?;
                    decoder.flush()?;
                    decoder.get_mut()
                }
                Self::Deflate(decoder) => {
                    decoder.write_all(step)?;
                    decoder.flush()?;
                    decoder.get_mut()
                }
                Self::ZlibOrDeflate => return Ok(()),
            };
            if !plain.is_empty() {
                let flow = on_plain(plain);
                plain.clear();
                if flow.is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const CODINGS: [&str; 4] = ["gzip", "X-GZip", "deflate", "deflate (raw)"];

    fn decoder(coding: &str) -> Decoder {
        let name = coding.strip_suffix(" (raw)").unwrap_or(coding);
        Decoder::of(name.as_bytes()).unwrap().unwrap()
    }

    /// Each part, compressed and flushed.
    fn encoded(coding: &str, parts: &[&[u8]]) -> Vec<Vec<u8>> {
        macro_rules! with {
            ($encoder:ident) => {{
                let mut encoder = $encoder::new(Vec::new(), Compression::default());
                let mut flushed: Vec<Vec<u8>> = parts
                    .iter()
                    .map(|part| {
                        encoder.write_all(part).unwrap();
                        encoder.flush().unwrap();
                        std::mem::take(encoder.get_mut())
                    })
                    .collect();
                flushed.push(encoder.finish().unwrap());
                flushed
            }};
        }
        match coding {
            "deflate" => with!(ZlibEncoder),
            "deflate (raw)" => with!(DeflateEncoder),
            _ => with!(GzEncoder),
        }
    }

    fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decoder.feed(bytes, |part| {
            plain.extend_from_slice(part);
            ControlFlow::Continue(())
        })?;
        Ok(plain)
    }

    #[test]
    fn an_event_is_there_when_it_was_flushed() {
        let events: [&[u8]; 3] = [b"data: a\n\n", b"data: bbbbbbbbbbbbbbbbbbbbbb\n\n", b"data: [DONE]\n\n"];
        for coding in CODINGS {
            let mut decoder = decoder(coding);
            for (event, bytes) in events.iter().zip(encoded(coding, &events)) {
                assert_eq!(decoded(&mut decoder, &bytes).unwrap(), *event, "{coding}");
            }
        }
    }

    #[test]
    fn what_swells_is_handed_out_in_parts_and_stops_when_nobody_wants_it() {
        let zeros = vec![0; 4 << 20];
        for coding in CODINGS {
            let bomb = encoded(coding, &[&zeros]).concat();
            let (mut most, mut all) = (0, 0);
            let mut decoder = decoder(coding);
            let fed = decoder.feed(&bomb, |part| {
                most = most.max(part.len());
                all += part.len();
                if all > 1 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(fed.is_ok() && most <= 300 << 10 && all < 2 << 20, "{coding}: {most} of {all}");
        }
    }

    #[test]
    fn other_codings_and_other_bytes_are_refused() {
        for coding in ["br", "zstd", "gzip, gzip", "gzip;q=1", "aws-chunked"] {
            assert!(Decoder::of(coding.as_bytes()).is_err(), "{coding}");
        }
        assert!(Decoder::of(b" Identity ").unwrap().is_none());
        for coding in ["gzip", "deflate"] {
            assert!(decoded(&mut decoder(coding), b"data: a\n\ndata: b\n\n").is_err(), "{coding}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            plain in proptest::collection::vec(any::<u8>(), 0..2000),
            cuts in proptest::collection::vec(0.0..1.0f64, 0..6),
            which in 0..CODINGS.len(),
        ) {
            let coding = CODINGS[which];
            let bytes = encoded(coding, &[&plain]).concat();
            let mut at: Vec<usize> = cuts.iter().map(|c| (c * bytes.len() as f64) as usize).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let mut decoder = decoder(coding);
            let mut got = Vec::new();
            for cut in at.windows(2) {
                got.extend(decoded(&mut decoder, &bytes[cut[0]..cut[1]]).unwrap());
            }
            prop_assert_eq!(got, plain);
        }
    }
}
