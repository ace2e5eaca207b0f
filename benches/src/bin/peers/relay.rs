//! The floor: what it costs to carry bytes from one socket to another on tokio,
//! one upstream connection for each client connection and no look at the bytes.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};

/// The buffer of each direction in the copying relay.
const BUFFER: usize = 64 << 10;

/// The pipe of each direction in the splicing relay: the most that an
/// unprivileged process may have.
const PIPE: usize = 1 << 20;

/// Serves until it is killed.
pub(crate) fn run(
    listen: SocketAddr,
    to: SocketAddr,
    splicing: bool,
) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_nodelay(true)?; // inherited by what it accepts
        socket.bind(listen)?;
        let listener = socket.listen(4096)?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                // An ordinary end and a broken connection are the same to a floor.
                let _ = serve(client, to, splicing).await;
            });
        }
    })
}

async fn serve(mut client: TcpStream, to: SocketAddr, splicing: bool) -> io::Result<()> {
    let mut origin = TcpStream::connect(to).await?;
    origin.set_nodelay(true)?;
    if splicing {
        tokio::try_join!(carry(&client, &origin), carry(&origin, &client))?;
    } else {
        let (client_read, client_write) = client.split();
        let (origin_read, origin_write) = origin.split();
        tokio::try_join!(
            copy(client_read, origin_write),
            copy(origin_read, client_write)
        )?;
    }
    Ok(())
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let got = from.read(&mut buffer).await?;
        if got == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..got]).await?;
    }
}

async fn carry(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (drain, fill): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&fill, PIPE)?;
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        let mut held = from
            .async_io(Interest::READABLE, || {
                would_block(splice(from, None, &fill, None, PIPE, flags))
            })
            .await?;
        if held == 0 {
            return socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
        }
        while held > 0 {
            held -= to
                .async_io(Interest::WRITABLE, || {
                    would_block(splice(&drain, None, to, None, held, flags))
                })
                .await?;
        }
    }
}

fn would_block(result: Result<usize, Errno>) -> io::Result<usize> {
    Ok(result?)
}
