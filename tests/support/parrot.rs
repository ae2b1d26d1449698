//! An application that repeats what it is told, and what there is to say to it: whoever lost a byte on the way, or has met
//! another container, finds out.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{block::Block, brew::Brew};

/// The port at which it hears all that is said until that has ended, and then repeats it after its name.
pub const REPEATS: u16 = 7_000;
/// The port at which it says each thing back at once.
pub const ECHOES: u16 = 7_001;
/// Longer than anything here takes on a busy machine, and for whoever is the last in a long line.
const PATIENCE: Duration = Duration::from_secs(180);

const PROGRAM: &str = r#"
use strict; use IO::Socket::INET; open my $h, '<', '/etc/hostname'; my $name = <$h>;
$SIG{CHLD} = 'IGNORE'; $SIG{TERM} = sub { exit };
my ($greeting, $delay) = @ARGV; sleep $delay if $delay;
sub serve {
    my ($port, $talk) = @_;
    my $s = IO::Socket::INET->new(LocalPort => $port, Listen => 256, ReuseAddr => 1) or die "$port: $!";
    while (1) {
        my $c = $s->accept or next;
        if (!fork) { close $s; print $c $greeting if $greeting; $c->flush; $talk->($c); exit }
        close $c;
    }
}
if (!fork) {
    serve(7001, sub { my $c = shift; while (sysread $c, my $b, 65536) { print $c $b; $c->flush } });
}
serve(7000, sub {
    my $c = shift; my $all = ''; 1 while sysread $c, $all, 65536, length $all;
    print $c $name, $all; $c->flush; shutdown $c, 1;
});
"#;

/// Its image. It begins each talk with `greeting`, if that is not empty, and takes `delay` seconds to come up.
pub fn brew(block: &Block, name: &str, greeting: &str, delay: u32) -> Brew {
    let wake = if greeting.is_empty() { "" } else { "LABEL spindown.wake=connect\n" };
    let lines = format!(
        "FROM spindown/base\nCOPY parrot /parrot\nEXPOSE {REPEATS} {ECHOES}\n{wake}\
         ENTRYPOINT [\"perl\", \"/parrot\", \"{greeting}\", \"{delay}\"]\n"
    );
    Brew::build_with(block, name, &lines, &[("parrot", PROGRAM)])
}

/// Connects, from this address if one is given.
pub async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    within(socket.connect(to)).await
}

/// Tells a parrot something, and answers its name and what it repeats.
///
/// # Errors
/// What the connection breaks off with. One that ends cleanly and too soon is an error of the kind `UnexpectedEof`.
pub async fn tell(from: Option<IpAddr>, to: SocketAddr, said: &[u8]) -> io::Result<(String, Vec<u8>)> {
    let mut stream = connect(from, to).await?;
    within(stream.write_all(said)).await?;
    within(stream.shutdown()).await?;
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await?;
    let end = answer.iter().position(|byte| *byte == b'\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    let repeated = answer.split_off(end + 1);
    let name = String::from_utf8_lossy(&answer[..end]).into_owned();
    if repeated.len() < said.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((name, repeated))
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
