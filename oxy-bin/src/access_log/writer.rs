//! The thread that writes.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use oxy_core::{Error, Result, Side};

use super::Counts;

/// How much is written at a time when lines come faster than they can be written one by one.
const BATCH: usize = 64 * 1024;

/// How long the writer lets lines come together. While it sleeps, a worker that logs need not wake it up, which costs more
/// than all the rest of logging; the queue has room for what comes meanwhile.
const GATHERING: Duration = Duration::from_millis(5);

/// How long the end of the process waits for lines that are still to be written: whatever reads them may have stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// The thread that writes. It ends when the last sender is gone.
#[derive(Debug)]
pub(crate) struct Writer {
    done: Receiver<()>,
}

impl Writer {
    /// Starts to write to `out` what is sent, with `room` lines in between.
    pub(super) fn start(
        out: Box<dyn Write + Send>,
        room: usize,
        counts: Arc<Counts>,
    ) -> Result<(SyncSender<Vec<u8>>, Self)> {
        let (queue, lines) = mpsc::sync_channel(room);
        let (ended, done) = mpsc::channel();
        std::thread::Builder::new()
            .name("oxy-access-log".into())
            .spawn(move || {
                write(&lines, out, &counts);
                let _ = ended.send(());
            })
            .map_err(|e| Error::io(Side::Local, e).context("starting the access log"))?;
        Ok((queue, Self { done }))
    }

    /// Waits until all is written, for a while. All senders must be gone.
    pub(crate) fn finish(self) {
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

fn write(lines: &Receiver<Vec<u8>>, mut out: Box<dyn Write + Send>, counts: &Counts) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = lines.recv() {
        std::thread::sleep(GATHERING);
        let (mut next, mut count) = (Some(first), 0);
        while let Some(line) = next {
            batch.extend_from_slice(&line);
            count += 1;
            next = lines.try_recv().ok();
            if next.is_some() && batch.len() < BATCH {
                continue;
            }
            let counter = match out.write_all(&batch).and_then(|()| out.flush()) {
                Ok(()) => &counts.written,
                // A full disk or a closed pipe may get better; the proxy goes on without its log meanwhile.
                Err(_) => &counts.dropped,
            };
            counter.fetch_add(count, Relaxed);
            count = 0;
            batch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// Blocks until it is let go.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        changed: Condvar,
    }

    struct Gated(Arc<Gate>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut open = self.0.open.lock().unwrap();
            while !*open {
                open = self.0.changed.wait(open).unwrap();
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_is_stuck_holds_nobody_up_and_is_waited_for_at_the_end() {
        let (gate, counts) = (Arc::new(Gate::default()), Arc::new(Counts::default()));
        let (queue, writer) =
            Writer::start(Box::new(Gated(gate.clone())), 4, counts.clone()).unwrap();
        let taken = (0..100)
            .filter(|_| queue.try_send(b"line\n".to_vec()).is_ok())
            .count();
        // What is in the queue, and what the writer has taken out of it in the meantime.
        assert!((4..100).contains(&taken), "{taken}");
        *gate.open.lock().unwrap() = true;
        gate.changed.notify_all();
        drop(queue);
        writer.finish();
        assert_eq!(counts.written(), taken as u64);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let counts = Arc::new(Counts::default());
        let (queue, writer) = Writer::start(Box::new(Full), 4, counts.clone()).unwrap();
        queue.send(b"line\n".to_vec()).unwrap();
        drop(queue);
        writer.finish();
        assert_eq!((counts.written(), counts.dropped()), (0, 1));
    }
}
