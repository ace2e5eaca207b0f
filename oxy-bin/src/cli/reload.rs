//! `oxy reload`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use oxy_core::onramp::ListenAddr;
use rustix::process::{Pid, Signal, kill_process};

use super::args::Reload;
use super::exit::{Exit, complain, print};

/// How long the answer may take: certificates are read and listeners bound in the meantime, which takes milliseconds, but
/// another reload may be under way.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn reload(args: &Reload) -> Result<Exit, Exit> {
    match (args.pid.and_then(Pid::from_raw), &args.admin) {
        (Some(pid), _) => match kill_process(pid, Signal::HUP) {
            Ok(()) => Ok(Exit::Done),
            Err(e) => failed(&format!("process {pid}: {e}")),
        },
        (None, Some(admin)) => match ask(&admin.address) {
            Ok((200, text)) => print(&text),
            Ok((409, text)) => {
                complain(text.trim_end());
                Err(Exit::Settings)
            }
            Ok((status, text)) => failed(&format!("{admin}: {status} {}", text.trim_end())),
            Err(e) => failed(&format!("{admin}: {e}")),
        },
        (None, None) => failed("that is no process's number"),
    }
}

fn failed(why: &str) -> Result<Exit, Exit> {
    complain(why);
    Err(Exit::Failed)
}

/// Asks the admin listener, and gives its status and what it says.
fn ask(address: &ListenAddr) -> io::Result<(u16, String)> {
    let request =
        "POST /reload HTTP/1.1\r\nHost: oxy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    match address {
        ListenAddr::Tcp(address) => {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)?;
        }
        ListenAddr::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)?;
        }
        other => return Err(io::Error::other(format!("{other} is no admin listener"))),
    }
    let parsed = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    parsed.ok_or_else(|| io::Error::other("that is no admin listener of oxy"))
}
