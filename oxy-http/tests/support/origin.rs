//! An origin that serves each connection by a script.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use super::Peer;

/// A listener whose connections are served on threads of their own.
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

#[derive(Default)]
struct State {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    /// What is open, for [`Origin::finish`] to end; a script that drops its end still closes it.
    open: Mutex<Vec<Weak<TcpStream>>>,
}

impl Origin {
    /// Serves every connection by `script`, which is also told how many came before it.
    pub fn new(script: impl Fn(&mut Option<Peer>, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let accepting = std::thread::spawn({
            let (state, script) = (state.clone(), Arc::new(script));
            move || accept(&listener, &state, &script)
        });
        Self {
            address,
            state,
            accepting: Some(accepting),
        }
    }

    /// Serves every connection by `script`; it is closed at the script's end.
    pub fn each(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::new(move |peer, _| {
            if let Some(peer) = peer {
                script(peer);
            }
        })
    }

    /// Serves every connection by `script`, which decides how it ends.
    pub fn once(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::new(move |peer, _| {
            if let Some(peer) = peer.take() {
                script(peer);
            }
        })
    }

    /// Answers every request with these bytes, and keeps the connection.
    pub fn answering(response: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::each(move |peer| {
            // The proxy may have given the request up meanwhile.
            while peer.request().is_ok() && peer.try_send(response.as_ref()).is_ok() {}
        })
    }

    /// Answers every request with what it got: its head, blank line and body, without its framing or trailers.
    pub fn echo() -> Self {
        Self::each(move |peer| {
            while let Ok(request) = peer.request() {
                let lines = request.fields.iter();
                let lines: Vec<_> = lines.map(|(n, v)| format!("\r\n{n}: {v}")).collect();
                let head = format!("{}{}\r\n\r\n", request.start, lines.concat());
                let body = [head.as_bytes(), &request.body].concat();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                peer.send([head.as_bytes(), &body].concat());
            }
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(SeqCst)
    }

    /// Ends all connections, and fails if a script failed.
    pub fn finish(mut self) {
        join(self.close());
    }

    /// Waits for all scripts, and fails if one failed.
    pub fn join(mut self) {
        join(self.stop());
    }

    fn stop(&mut self) -> Vec<JoinHandle<()>> {
        let Some(accepting) = self.accepting.take() else {
            return Vec::new();
        };
        self.state.stopping.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        accepting.join().unwrap_or_default()
    }

    fn close(&mut self) -> Vec<JoinHandle<()>> {
        let scripts = self.stop();
        for socket in self.state.open.lock().unwrap().drain(..) {
            if let Some(socket) = socket.upgrade() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        scripts
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.close();
    }
}

fn join(scripts: Vec<JoinHandle<()>>) {
    for script in scripts {
        if let Err(panic) = script.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn accept<S: Fn(&mut Option<Peer>, usize) + Send + Sync + 'static>(
    listener: &TcpListener,
    state: &State,
    script: &Arc<S>,
) -> Vec<JoinHandle<()>> {
    let mut scripts = Vec::new();
    for socket in listener.incoming() {
        if state.stopping.load(SeqCst) {
            break;
        }
        let peer = Peer::new(socket.unwrap());
        let turn = state.accepted.fetch_add(1, SeqCst);
        let open = Arc::downgrade(peer.socket());
        state.open.lock().unwrap().push(open);
        let script = script.clone();
        scripts.push(std::thread::spawn(move || script(&mut Some(peer), turn)));
    }
    scripts
}
