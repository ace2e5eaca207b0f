//! One side of a TLS session: rustls's state machine, told apart from what moves its bytes.

use oxy_core::buffer::Buffer;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};
use tokio::io::ReadBuf;

use crate::seal::{self, sealing_into};

/// The most plaintext that one record carries (RFC 8446 section 5.1).
pub(crate) const MAX_PLAIN: usize = 16 * 1024;

/// A session, as server or client.
pub(crate) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How far [`Session::advance`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// All input has been used that makes a whole; more is needed to go on.
    Starved,
    /// Plaintext waits that was not taken: there was no room for all of it, or nobody asked.
    Plaintext,
}

/// Where plaintext goes.
pub(crate) enum Sink<'a, 'b> {
    /// Nowhere yet: it stays in the session.
    Keep,
    /// Into `buf`; of the first record what does not fit goes into the second.
    Read(&'a mut ReadBuf<'b>, &'a mut Buffer),
    /// All of it, to be read later.
    Spill(&'a mut Buffer),
}

impl Sink<'_, '_> {
    /// Whether a record of `len` bytes may come.
    fn takes(&self, len: usize) -> bool {
        match self {
            Self::Keep => false,
            Self::Spill(_) => true,
            Self::Read(buf, spill) => {
                spill.is_empty() && (len <= buf.remaining() || buf.filled().is_empty())
            }
        }
    }

    fn put(&mut self, record: &[u8]) {
        match self {
            Self::Keep => {}
            Self::Spill(spill) => spill.put(record),
            Self::Read(buf, spill) => {
                let (now, later) = record.split_at(record.len().min(buf.remaining()));
                buf.put_slice(now);
                if !later.is_empty() {
                    if spill.is_empty() {
                        **spill = Buffer::new();
                    }
                    spill.put(later);
                }
            }
        }
    }
}

/// Room for what rustls itself passes on while records go elsewhere: their number times [`seal::HEADER`], and a key update.
const ASIDE: usize = 128;

/// What a turn of the state machine leads to.
enum Turn {
    Again,
    Done(Advance),
    PeerClosed,
}

impl Session {
    /// What has been settled so far.
    pub(crate) fn common(&self) -> &CommonState {
        match self {
            Self::Server(conn) => conn,
            Self::Client(conn) => conn,
        }
    }

    /// Uses up `input`: plaintext goes to `sink`, what is to be sent is added to `out`, and `closed` is set when the peer has
    /// said that it sends no more.
    ///
    /// # Errors
    ///
    /// Errors are final; the alert that tells the peer has been added to `out`.
    pub(crate) fn advance(
        &mut self,
        input: &mut Buffer,
        out: &mut Buffer,
        closed: &mut bool,
        mut sink: Sink<'_, '_>,
    ) -> Result<Advance, Error> {
        loop {
            match self.turn(input, out, &mut sink) {
                Ok(Turn::Again) => {}
                Ok(Turn::PeerClosed) => *closed = true,
                Ok(Turn::Done(advance)) => return Ok(advance),
                Err(error) => {
                    // Only as long as there is something to be sent: the machine must not look at the input again.
                    while self.common().wants_write()
                        && matches!(self.turn(input, out, &mut Sink::Keep), Ok(Turn::Again))
                    {
                    }
                    return Err(error);
                }
            }
        }
    }

    fn turn(
        &mut self,
        input: &mut Buffer,
        out: &mut Buffer,
        sink: &mut Sink<'_, '_>,
    ) -> Result<Turn, Error> {
        let (discard, turn) = match self {
            Self::Client(conn) => {
                let UnbufferedStatus { discard, state, .. } =
                    conn.process_tls_records(input.filled_mut());
                (discard, state.and_then(|state| step(state, out, sink)))
            }
            Self::Server(conn) => {
                let UnbufferedStatus { discard, state, .. } =
                    conn.process_tls_records(input.filled_mut());
                let turn = match state {
                    Ok(ConnectionState::ReadEarlyData(mut early)) => {
                        if early.peek_len().is_some_and(|len| !sink.takes(len.get())) {
                            Ok(Turn::Done(Advance::Plaintext))
                        } else {
                            match early.next_record() {
                                Some(Ok(record)) => sink.put(record.payload),
                                Some(Err(error)) => return Err(error),
                                None => {}
                            }
                            Ok(Turn::Again)
                        }
                    }
                    state => state.and_then(|state| step(state, out, sink)),
                };
                (discard, turn)
            }
        };
        input.consume(discard);
        turn
    }

    /// Lets `write` encrypt into `out`. Plaintext that has come goes to `spill` first, as the machine gives it before it takes
    /// any. None where the handshake has to go on before anything can be sent.
    pub(crate) fn write<T>(
        &mut self,
        input: &mut Buffer,
        out: &mut Buffer,
        closed: &mut bool,
        spill: &mut Buffer,
        write: impl FnOnce(&mut dyn Encrypt, &mut Buffer) -> Result<T, EncryptError>,
    ) -> Result<Option<T>, WriteError> {
        self.advance(input, out, closed, Sink::Spill(spill))?;
        // Starved: another turn with the same input leads to the same state, which is that of writing if there may be any.
        Ok(match self {
            Self::Server(conn) => match conn.process_tls_records(input.filled_mut()).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(write(&mut traffic, out)?),
                Ok(_) => None,
                Err(error) => return Err(error.into()),
            },
            Self::Client(conn) => match conn.process_tls_records(input.filled_mut()).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(write(&mut traffic, out)?),
                Ok(_) => None,
                Err(error) => return Err(error.into()),
            },
        })
    }
}

/// Why nothing could be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Session(#[from] Error),
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
}

/// What encrypts, on either side.
pub(crate) trait Encrypt {
    /// Adds `plain` to `out`, as one record or several.
    fn encrypt(&mut self, plain: &[u8], out: &mut Buffer) -> Result<(), EncryptError>;
    /// Adds a `close_notify`.
    fn close(&mut self, out: &mut Buffer) -> Result<(), EncryptError>;
}

impl<D> Encrypt for WriteTraffic<'_, D> {
    fn encrypt(&mut self, plain: &[u8], out: &mut Buffer) -> Result<(), EncryptError> {
        let mut aside = [0; ASIDE];
        let before = out.len();
        let (done, sealed) = sealing_into(out, || WriteTraffic::encrypt(self, plain, &mut aside));
        match done {
            Ok(written) => {
                // What rustls had to say before these records.
                let first = &aside[..written.saturating_sub(sealed * seal::HEADER)];
                if !first.is_empty() {
                    out.insert(before, first);
                }
                Ok(())
            }
            // Nothing has happened yet: the cipher is none of ours, or there is more to say before.
            Err(EncryptError::InsufficientSize(_)) => {
                with_room(out, |room| WriteTraffic::encrypt(self, plain, room))
            }
            Err(error) => Err(error),
        }
    }

    fn close(&mut self, out: &mut Buffer) -> Result<(), EncryptError> {
        with_room(out, |room| self.queue_close_notify(room))
    }
}

/// Adds what `put` writes to `out`, making the room that it asks for.
fn with_room(
    out: &mut Buffer,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let written = match put(out.spare()) {
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
            out.reserve(required_size);
            put(out.spare())?
        }
        done => done?,
    };
    out.advance(written);
    Ok(())
}

fn step<D>(
    state: ConnectionState<'_, '_, D>,
    out: &mut Buffer,
    sink: &mut Sink<'_, '_>,
) -> Result<Turn, Error> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            if traffic.peek_len().is_some_and(|len| !sink.takes(len.get())) {
                return Ok(Turn::Done(Advance::Plaintext));
            }
            if let Some(record) = traffic.next_record() {
                sink.put(record?.payload);
            }
        }
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out)?,
        // What was encoded is in `out`, whose bytes are sent in their order.
        ConnectionState::TransmitTlsData(data) => data.done(),
        ConnectionState::PeerClosed => return Ok(Turn::PeerClosed),
        ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_)
        | ConnectionState::Closed => return Ok(Turn::Done(Advance::Starved)),
        _ => return Err(Error::General("an unknown state of the session".into())),
    }
    Ok(Turn::Again)
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Buffer) -> Result<(), Error> {
    let written = match data.encode(out.spare()) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            out.reserve(required_size);
            data.encode(out.spare())
        }
        done => done,
    };
    match written {
        Ok(written) => {
            out.advance(written);
            Ok(())
        }
        Err(error) => Err(Error::General(error.to_string())),
    }
}
