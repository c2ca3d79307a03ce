//! Compression of bodies, both ways: ClickHouse's own blocks (`compress=1`, `decompress=1`) and
//! the HTTP encodings.
//!
//! A block is a CityHash128 (v1.0.2) of all that follows it, a method byte, the sizes of the
//! block with and without compression (little endian, the first one counts these nine bytes), and
//! the data.

use std::io::{self, Read, Write};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;
const NONE: u8 = 0x02;

/// The largest piece that is packed into one block.
const BLOCK_BYTES: usize = 1 << 20;
/// The largest block that is taken from a client, packed or not; ClickHouse's own limit.
const MAX_BLOCK_BYTES: usize = 0x4000_0000;

fn checksum(data: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(data).rotate_right(64).to_le_bytes()
}

fn broken(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// Packs `data` into blocks with LZ4.
fn pack_blocks(data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    for piece in data.chunks(BLOCK_BYTES) {
        let packed = lz4_flex::block::compress(piece);
        let size = u32::try_from(HEADER + packed.len()).map_err(io::Error::other)?;
        let plain = u32::try_from(piece.len()).map_err(io::Error::other)?;
        let mut block = Vec::with_capacity(HEADER + packed.len());
        block.push(LZ4);
        block.extend_from_slice(&size.to_le_bytes());
        block.extend_from_slice(&plain.to_le_bytes());
        block.extend_from_slice(&packed);
        out.extend_from_slice(&checksum(&block));
        out.extend_from_slice(&block);
    }
    Ok(())
}

/// Unpacks a stream of ClickHouse blocks.
pub(crate) struct BlockReader<R> {
    inner: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> BlockReader<R> {
    pub(crate) const fn new(inner: R) -> Self {
        Self { inner, block: Vec::new(), at: 0 }
    }

    /// Reads the next block; `false` at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut head = [0_u8; CHECKSUM + HEADER];
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest)? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(broken("a compressed block ends in its header")),
                read => filled += read,
            }
        }
        let (sum, header) = head.split_at(CHECKSUM);
        let [method, sizes @ ..] = header else { return Err(broken("no header")) };
        let size = |bytes: Option<&[u8]>| {
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .map(u32::from_le_bytes)
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| *size <= MAX_BLOCK_BYTES)
                .ok_or_else(|| broken("the size of a compressed block is out of range"))
        };
        let packed_size = size(sizes.get(..4))?;
        let plain_size = size(sizes.get(4..))?;
        let body_size = packed_size
            .checked_sub(HEADER)
            .ok_or_else(|| broken("the size of a compressed block is out of range"))?;
        let mut block = header.to_vec();
        let read = self.inner.by_ref().take(body_size as u64).read_to_end(&mut block)?;
        if read != body_size {
            return Err(broken("a compressed block ends before its data"));
        }
        if checksum(&block) != sum {
            return Err(broken("checksum of a compressed block does not match its data"));
        }
        let packed = block.get(HEADER..).unwrap_or_default();
        self.block = match *method {
            LZ4 => lz4_flex::block::decompress(packed, plain_size)
                .map_err(|error| broken(format!("a block is no LZ4: {error}")))?,
            ZSTD => zstd::bulk::decompress(packed, plain_size)?,
            NONE => packed.to_vec(),
            other => return Err(broken(format!("compression method {other:#x} is not known"))),
        };
        if self.block.len() != plain_size {
            return Err(broken("a compressed block holds another size than it says"));
        }
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let read = self.block.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

/// A `Content-Encoding` that both sides may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Zstd,
    Lz4,
    Gzip,
    Deflate,
}

impl Encoding {
    /// In the order in which they are preferred for answers.
    const ALL: [Self; 4] = [Self::Zstd, Self::Lz4, Self::Gzip, Self::Deflate];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The encoding that a `Content-Encoding` names.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name().eq_ignore_ascii_case(name.trim()))
    }

    /// The best one that an `Accept-Encoding` allows.
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        let refused = |quality: &str| {
            quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0)
        };
        let allowed: Vec<Self> = header
            .split(',')
            .filter_map(|item| {
                let (name, quality) = item.split_once(';').unwrap_or((item, ""));
                Self::parse(name).filter(|_| !refused(quality))
            })
            .collect();
        Self::ALL.into_iter().find(|encoding| allowed.contains(encoding))
    }

    /// Unpacks a body.
    pub(crate) fn reader<'a>(self, inner: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(inner)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(inner)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(inner)),
            Self::Deflate => Box::new(flate2::read::ZlibDecoder::new(inner)),
        })
    }
}

/// Packs an answer piece by piece.
pub(crate) enum Packer {
    Plain,
    Blocks,
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Deflate(flate2::write::ZlibEncoder<Vec<u8>>),
}

impl Packer {
    pub(crate) fn encoding(encoding: Encoding) -> io::Result<Self> {
        let fast = flate2::Compression::fast();
        Ok(match encoding {
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
            Encoding::Lz4 => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(Vec::new()))),
            Encoding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), fast)),
            Encoding::Deflate => Self::Deflate(flate2::write::ZlibEncoder::new(Vec::new(), fast)),
        })
    }

    /// Packs a piece; what comes back may be empty, as packers hold data until they have enough.
    pub(crate) fn pack(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(data.to_vec()),
            Self::Blocks => {
                let mut out = Vec::new();
                pack_blocks(data, &mut out)?;
                Ok(out)
            }
            Self::Zstd(packer) => {
                packer.write_all(data)?;
                Ok(std::mem::take(packer.get_mut()))
            }
            Self::Lz4(packer) => {
                packer.write_all(data)?;
                Ok(std::mem::take(packer.get_mut()))
            }
            Self::Gzip(packer) => {
                packer.write_all(data)?;
                Ok(std::mem::take(packer.get_mut()))
            }
            Self::Deflate(packer) => {
                packer.write_all(data)?;
                Ok(std::mem::take(packer.get_mut()))
            }
        }
    }

    /// Ends the answer and gives what was still held.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain | Self::Blocks => Ok(Vec::new()),
            Self::Zstd(packer) => packer.finish(),
            Self::Lz4(packer) => packer.finish().map_err(io::Error::other),
            Self::Gzip(packer) => packer.finish(),
            Self::Deflate(packer) => packer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn blocks_come_back_as_they_were() {
        let data = sample();
        let packed = Packer::Blocks.pack(&data).unwrap();
        assert!(packed.len() < data.len());
        let mut back = Vec::new();
        BlockReader::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert_eq!(back, data);
    }

    #[test]
    fn a_changed_or_cut_block_is_refused() {
        let packed = Packer::Blocks.pack(b"hello hello hello hello").unwrap();
        let read = |bytes: &[u8]| BlockReader::new(bytes).read_to_end(&mut Vec::new());
        for cut in 1..packed.len() {
            assert!(read(&packed[..cut]).is_err(), "{cut}");
        }
        for at in 0..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn http_encodings_come_back_as_they_were() {
        let data = sample();
        for encoding in Encoding::ALL {
            let mut packer = Packer::encoding(encoding).unwrap();
            let mut packed = packer.pack(&data[..10]).unwrap();
            packed.extend(packer.pack(&data[10..]).unwrap());
            packed.extend(packer.finish().unwrap());
            let mut back = Vec::new();
            encoding.reader(packed.as_slice()).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(back, data, "{encoding:?}");
        }
    }

    #[test]
    fn the_best_accepted_encoding_wins() {
        assert_eq!(Encoding::accepted("gzip, deflate, br"), Some(Encoding::Gzip));
        assert_eq!(Encoding::accepted("gzip;q=0.5, zstd;q=0"), Some(Encoding::Gzip));
        assert_eq!(Encoding::accepted("lz4,zstd"), Some(Encoding::Zstd));
        assert_eq!(Encoding::accepted("br, identity"), None);
    }
}
