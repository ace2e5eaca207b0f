//! Frame headers (RFC 9113 section 4.1), and where they are in a run of bytes.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// RFC 9218 section 7.1.
pub(crate) const PRIORITY_UPDATE: u8 = 16;

/// `END_STREAM` of DATA and HEADERS, ACK of SETTINGS and PING.
pub(crate) const FLAG_ONE: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// Octets of a frame header.
pub(crate) const HEADER: usize = 9;

/// What a frame header says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    fn parse(header: [u8; HEADER]) -> Self {
        Self {
            length: u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize,
            kind: header[3],
            flags: header[4],
            // The first bit is reserved and ignored.
            stream: u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]),
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Finds the frames in bytes that come in pieces, and gathers as much of their payload as is asked for.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    /// How much is to come before the first frame.
    before: usize,
    /// A frame header that has come in part.
    header: [u8; HEADER],
    known: usize,
    /// The frame that is being read, and how much of it is left.
    head: Head,
    left: usize,
    /// How much of its payload is wanted, and what has come of that if it came in pieces.
    wanted: usize,
    gathered: Vec<u8>,
}

/// What the next bytes are.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// Nothing to tell.
    Nothing,
    /// A frame header is complete: say with [`Walker::want`] how much is wanted of its payload.
    Head(Head),
    /// As much of a frame's payload as was wanted.
    Payload(Head, Gathered<'a>),
}

/// Payload that has come at once, or in pieces.
#[derive(Debug)]
pub(crate) enum Gathered<'a> {
    Slice(&'a [u8]),
    Pieces(Vec<u8>),
}

impl std::ops::Deref for Gathered<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Pieces(pieces) => pieces,
        }
    }
}

impl Walker {
    /// For frames that come after `before` other bytes.
    pub(crate) fn after(before: usize) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Of the frame whose header was seen last, the first `n` octets of payload are to be shown.
    pub(crate) fn want(&mut self, n: usize) {
        self.wanted = n.min(self.left);
    }

    /// Whether the bytes so far end with a frame's end.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.before == 0 && self.known == 0 && self.left == 0
    }

    /// What `bytes`, which are not empty, begin with, and how many of them that is.
    pub(crate) fn step<'a>(&mut self, bytes: &'a [u8]) -> (usize, Seen<'a>) {
        if self.wanted > 0 {
            return self.gather(bytes);
        }
        let skip = self.before.max(self.left).min(bytes.len());
        if skip > 0 {
            self.before = self.before.saturating_sub(skip);
            self.left = self.left.saturating_sub(skip);
            return (skip, Seen::Nothing);
        }
        let n = (HEADER - self.known).min(bytes.len());
        self.header[self.known..self.known + n].copy_from_slice(&bytes[..n]);
        self.known += n;
        if self.known < HEADER {
            return (n, Seen::Nothing);
        }
        self.known = 0;
        self.head = Head::parse(self.header);
        self.left = self.head.length;
        (n, Seen::Head(self.head))
    }

    fn gather<'a>(&mut self, bytes: &'a [u8]) -> (usize, Seen<'a>) {
        let n = self.wanted.min(bytes.len());
        self.wanted -= n;
        self.left -= n;
        let part = &bytes[..n];
        if self.wanted > 0 || !self.gathered.is_empty() {
            self.gathered.extend_from_slice(part);
        }
        if self.wanted > 0 {
            return (n, Seen::Nothing);
        }
        let payload = if self.gathered.is_empty() {
            Gathered::Slice(part)
        } else {
            // Given away, so that a connection holds nothing between frames.
            Gathered::Pieces(std::mem::take(&mut self.gathered))
        };
        (n, Seen::Payload(self.head, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_the_bytes_are_cut_does_not_matter() {
        let bytes = [
            b"pre".as_slice(),
            &[0, 0, 4, 8, 0, 0x80, 0, 0, 1, 1, 2, 3, 4],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            &[0, 0, 5, 0, 9, 0, 0, 0, 3, 6, 7, 8, 9, 10],
        ]
        .concat();
        for cut in 1..=bytes.len() {
            let mut walker = Walker::after(3);
            let mut seen = Vec::new();
            for mut part in bytes.chunks(cut) {
                while !part.is_empty() {
                    let (n, what) = walker.step(part);
                    part = &part[n..];
                    match what {
                        Seen::Nothing => {}
                        Seen::Head(head) => {
                            walker.want(if head.kind == DATA { 1 } else { 100 });
                            seen.push((head.kind, head.stream, head.length, Vec::new()));
                        }
                        Seen::Payload(_, payload) => seen.last_mut().unwrap().3 = payload.to_vec(),
                    }
                }
            }
            let expected = [
                (WINDOW_UPDATE, 1, 4, vec![1, 2, 3, 4]),
                (SETTINGS, 0, 0, vec![]),
                (DATA, 3, 5, vec![6]),
            ];
            assert_eq!(seen, expected, "{cut}");
        }
    }
}
