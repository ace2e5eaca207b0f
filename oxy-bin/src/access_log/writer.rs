//! The thread that writes.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use oxy_core::{Error, Result, Side};

use super::Counts;
use super::lines::{Lines, Waiting};

/// How long the writer lets lines come together. While it sleeps, a worker that logs need not wake it up, which costs more
/// than all the rest of logging; the buffers have room for what comes meanwhile.
const GATHERING: Duration = Duration::from_millis(20);

/// What buffers keep of their memory: what comes together on a busy worker. What a stall has made of them is given back.
const KEPT: usize = 256 * 1024;

/// How long the end of the process waits for lines that are still to be written: whatever reads them may have stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// The thread that writes. It ends when the lines are closed.
#[derive(Debug)]
pub(crate) struct Writer {
    done: Receiver<()>,
}

impl Writer {
    /// Starts to write `lines` to `out`.
    pub(super) fn start(
        out: Box<dyn Write + Send>,
        lines: &Arc<Lines>,
        counts: Arc<Counts>,
    ) -> Result<Self> {
        let (ended, done) = mpsc::channel();
        let written = lines.clone();
        let thread = std::thread::Builder::new()
            .name("oxy-access-log".into())
            .spawn(move || {
                write(&written, out, &counts);
                let _ = ended.send(());
            })
            .map_err(|e| Error::io(Side::Local, e).context("starting the access log"))?;
        lines.tell(thread.thread().clone());
        Ok(Self { done })
    }

    /// Waits until all is written, for a while. The lines must be closed.
    pub(crate) fn finish(self) {
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

fn write(lines: &Lines, mut out: Box<dyn Write + Send>, counts: &Counts) {
    let mut waiting = Waiting::default();
    loop {
        let closed = lines.is_closed();
        let any = lines.drain(&mut waiting, |waiting| {
            let counter = match out.write_all(&waiting.bytes).and_then(|()| out.flush()) {
                Ok(()) => &counts.written,
                // A full disk or a closed pipe may get better; the proxy goes on without its log meanwhile.
                Err(_) => &counts.dropped,
            };
            counter.fetch_add(waiting.count, Relaxed);
            waiting.count = 0;
            waiting.bytes.clear();
            waiting.bytes.shrink_to(KEPT);
        });
        if closed {
            return;
        }
        if !any {
            std::thread::park();
        }
        if !lines.is_closed() {
            std::thread::sleep(GATHERING);
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

    fn put(lines: &Lines) -> bool {
        lines.put(0, |bytes| bytes.extend_from_slice(b"line\n"))
    }

    #[test]
    fn a_writer_that_is_stuck_holds_nobody_up_and_is_waited_for_at_the_end() {
        let (gate, counts) = (Arc::new(Gate::default()), Arc::new(Counts::default()));
        let lines = Arc::new(Lines::new(1, 20));
        let writer = Writer::start(Box::new(Gated(gate.clone())), &lines, counts.clone()).unwrap();
        let taken = (0..100).filter(|_| put(&lines)).count();
        // What there is room for, and what the writer has taken in the meantime.
        assert!((4..100).contains(&taken), "{taken}");
        *gate.open.lock().unwrap() = true;
        gate.changed.notify_all();
        lines.close();
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
        let lines = Arc::new(Lines::new(1, 20));
        let writer = Writer::start(Box::new(Full), &lines, counts.clone()).unwrap();
        assert!(put(&lines));
        lines.close();
        writer.finish();
        assert_eq!((counts.written(), counts.dropped()), (0, 1));
    }

    #[test]
    fn a_writer_that_rests_is_woken() {
        struct Told(mpsc::Sender<Vec<u8>>);
        impl Write for Told {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (told, written) = mpsc::channel();
        let lines = Arc::new(Lines::new(1, 20));
        let _writer = Writer::start(Box::new(Told(told)), &lines, Arc::default()).unwrap();
        for _ in 0..3 {
            assert!(put(&lines));
            assert_eq!(written.recv_timeout(PATIENCE).unwrap(), b"line\n");
        }
        lines.close();
    }
}
