//! The origin: answers as the request's plan says, and resets where it says so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::plan::{Answer, Framing, Plan, Reset};
use crate::tally::Tally;
use crate::wire::{self, Fault, Reader};

/// Starts it on a thread of its own.
pub(crate) fn start(tally: Arc<Tally>, reset_percent: f64) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    // The standard library asks for 128 places, and thousands may come at once.
    SockRef::from(&listener).listen(4096)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        if let Err(error) = runtime.block_on(serve(listener, tally, reset_percent)) {
            eprintln!("soak: origin: {error}");
        }
    });
    Ok(address)
}

async fn serve(
    listener: std::net::TcpListener,
    tally: Arc<Tally>,
    reset_percent: f64,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The peer was gone before it was let in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                eprintln!("soak: origin: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let tally = tally.clone();
        tokio::spawn(async move {
            tally.origin_open.one();
            // Proxies hang up, too, when their client does.
            let _ = connection(stream, &tally, reset_percent).await;
            tally.origin_open.subtract_one();
        });
    }
}

/// Serves a connection to its end.
async fn connection(mut stream: TcpStream, tally: &Tally, reset_percent: f64) -> Result<(), Fault> {
    let (read, mut write) = stream.split();
    let mut reader = Reader::new(read);
    while reader.begun().await? {
        let asked = reader
            .head(|head| head.first_line().split(' ').nth(1)?[1..].parse().ok())
            .await?;
        let Some(id) = asked else {
            tally.mistake(&tally.wrong, "the origin got another path".into());
            return Ok(());
        };
        let plan = Plan::of(id, reset_percent);
        // A request that comes again, because the proxy tries again, is answered.
        let reset = plan.reset.filter(|_| tally.resets(id));
        match exchange(&mut reader, &mut write, id, &plan, reset).await {
            Ok(()) => {}
            Err(Fault::Wrong(what)) => {
                tally.mistake(&tally.wrong, format!("upload {id}: {what}"));
                return Ok(());
            }
            Err(Fault::Cut) => return Ok(()),
        }
        if reset.is_some() {
            if reset == Some(Reset::Idle) {
                tally.idle_resets.one();
            }
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Ok(());
        }
        if plan.response.framing == Framing::Close {
            return Ok(());
        }
    }
    Ok(())
}

/// Does what `plan` says, up to where `reset` stops it.
async fn exchange(
    reader: &mut Reader<ReadHalf<'_>>,
    write: &mut WriteHalf<'_>,
    id: u64,
    plan: &Plan,
    reset: Option<Reset>,
) -> Result<(), Fault> {
    let size = plan.response.bytes.len();
    if let Some(Reset::BeforeHead(part)) = reset {
        if let Some(upload) = &plan.upload {
            let limit = size * part as usize / 256;
            reader.part(upload.framing, upload.bytes, limit).await?;
        }
        return Ok(());
    }
    if let (Some(upload), Answer::After) = (&plan.upload, plan.answer) {
        reader.body(upload.framing, upload.bytes).await?;
    }
    let head = format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\n");
    match reset {
        Some(Reset::MidHead) => return Ok(write.write_all(&head.as_bytes()[..20]).await?),
        Some(Reset::MidBody(part)) => {
            let count = size * part as usize / 256;
            return Ok(wire::write(write, &head, plan.response, count).await?);
        }
        _ => wire::write(write, &head, plan.response, size).await?,
    }
    if let (Some(upload), Answer::Early) = (&plan.upload, plan.answer) {
        reader.body(upload.framing, upload.bytes).await?;
    }
    Ok(())
}
