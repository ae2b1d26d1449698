//! The listener, and what becomes of a connection that arrives at it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{place::Places, ready};
use crate::{
    carrier::{Carrier, copy::end_abruptly, message::Passage},
    meter,
    model::{Demand, Error, Kind, Result},
    policy::door::Way,
    service::{
        Spindown,
        door::{Called, Passed},
    },
    step::{Step, passed},
};

/// How long a client may take for its first bytes.
const DEMAND_WITHIN: Duration = Duration::from_secs(5);
/// How many connections the kernel keeps until they are taken up.
const BACKLOG: u32 = 1_024;
/// How long connections that are on their way to a container may take when the server ends.
const FINISH: Duration = Duration::from_secs(10);
/// How often a container is woken for one connection, should it go down again before it accepts.
const TRIES: u32 = 3;

/// The door, listening.
pub struct Door {
    listener: TcpListener,
    spindown: Arc<Spindown>,
    carrier: Arc<dyn Carrier>,
    places: Places,
}

/// What became of a connection, other than that it is carried.
enum Turned {
    /// Nobody showed that he wants anything.
    Silent,
    /// It is for nobody, or for a container that does not wake, or not now.
    Away(Error),
    /// Its container was to be up for it, and it did not come to that.
    Lost(Error),
}

impl Door {
    /// Listens on `port` of every address: the kernel sends connections to the one on which they came.
    ///
    /// # Errors
    /// `Conflict` if somebody else has the port.
    pub fn open(port: u16, spindown: Arc<Spindown>, carrier: Arc<dyn Carrier>) -> Result<Self> {
        let listener = listen(port).map_err(|error: io::Error| {
            Error::conflict(format!(
                "the door cannot listen on port {port}: {error}; free it, or set spindown.door.port"
            ))
        })?;
        Ok(Self { listener, spindown, carrier, places: Places::default() })
    }

    /// Takes connections until the server ends.
    pub async fn run(self) {
        let shutdown = self.spindown.shutdown().clone();
        let visits = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((client, from)) => drop(visits.spawn(self.see_in(client, from))),
                Err(error) => {
                    tracing::warn!(%error, "a connection at the door could not be taken up");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // From here on ports that are asleep refuse. Whoever is already in may come through.
        self.spindown.give_back().await;
        drop(self.listener);
        visits.close();
        let _ = timeout(FINISH, visits.wait()).await;
        // Some may have been started meanwhile.
        self.spindown.give_back().await;
    }

    /// Sees one connection through, until the carrier has it, and counts what became of it.
    fn see_in(&self, client: TcpStream, from: SocketAddr) -> impl Future<Output = ()> + Send + use<> {
        let (spindown, carrier) = (Arc::clone(&self.spindown), Arc::clone(&self.carrier));
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        // Whatever ends it before its bytes are taken must not look like an end of what was said.
        let (abrupt, place) = (end_abruptly(&client), self.places.take(from.ip()));
        async move {
            let outcome = match (abrupt, &place) {
                (Ok(()), Some(_)) => receive(client, from, &spindown, &*carrier).await,
                (Err(error), _) => Err(Turned::Away(Error::unavailable("it has ended already").caused_by(error))),
                (_, None) => Err(Turned::Away(Error::unavailable("too many connections wait at the door"))),
            };
            let word = match outcome {
                Ok(()) => "carried",
                Err(Turned::Silent) => "silent",
                Err(Turned::Away(_)) => "refused",
                Err(Turned::Lost(_)) => "lost",
            };
            metrics::counter!(meter::DOOR, "outcome" => word).increment(1);
            if let Err(Turned::Away(error) | Turned::Lost(error)) = outcome {
                tracing::debug!(client = %from, error = error.message(), "a connection ended at the door");
            }
        }
    }
}

/// Sees one connection through, until the carrier has it.
async fn receive(
    client: TcpStream,
    from: SocketAddr,
    spindown: &Spindown,
    carrier: &dyn Carrier,
) -> std::result::Result<(), Turned> {
    let port =
        meant(&client).map_err(|e| Turned::Away(Error::not_found("the kernel did not send it here").caused_by(e)))?;
    let nobodys = || Turned::Away(Error::not_found(format!("port {port} is no container's")));
    let called = spindown.called(port).filter(|called| called.way != Way::Closed).ok_or_else(nobodys)?;
    if called.demand == Some(Demand::Bytes) && !is_demand(&client, spindown).await {
        return Err(Turned::Silent);
    }
    let begun = Instant::now();
    let visit = Visit { from, port, called: &called, begun };
    let outcome = async {
        // Nobody is woken who cannot be carried to.
        carrier.ready().await?;
        let container = visit.wake(spindown).await?;
        passed(Step::WakeReady);
        visit.hand_over(client, container, spindown, carrier).await
    };
    outcome.await.map_err(|error| {
        spindown.refuse_wake(&called.id, from.ip(), &error);
        if error.kind() == Kind::TooMany || error.kind() == Kind::Exhausted {
            Turned::Away(error)
        } else {
            Turned::Lost(error)
        }
    })
}

/// A connection that is let in.
struct Visit<'a> {
    from: SocketAddr,
    port: u16,
    called: &'a Called,
    begun: Instant,
}

impl Visit<'_> {
    /// Has the container up, and connects to it when it accepts. One that went down meanwhile is woken again.
    async fn wake(&self, spindown: &Spindown) -> Result<TcpStream> {
        let mut tries = 0;
        loop {
            tries += 1;
            spindown.wake(&self.called.id, self.from.ip()).await?;
            match ready::connect(self.called, self.port, spindown).await {
                Err(error) if error.kind() == Kind::Conflict && tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    /// Hands both ends to the carrier.
    async fn hand_over(
        &self,
        client: TcpStream,
        container: TcpStream,
        spindown: &Spindown,
        carrier: &dyn Carrier,
    ) -> Result<()> {
        let Self { from, port, called, begun } = *self;
        let passage = Passage { container: called.id.to_string(), port, client: from, since: spindown.now().at };
        let number = carrier.carry(passage, descriptor(client)?, descriptor(container)?).await?;
        passed(Step::WakeCarried);
        let waited = begun.elapsed();
        spindown.came_through(&called.id, Passed { number, port, client: from.ip(), waited }).await;
        Ok(())
    }
}

/// Listens on every address there is; a machine may have none of IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = match TcpSocket::new_v6() {
        Ok(socket) => {
            sockopt::set_ipv6_v6only(&socket, false)?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv6Addr::UNSPECIFIED, port).into()).map(|()| socket)
        }
        Err(error) => Err(error),
    };
    let socket = match socket {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
            socket
        }
        outcome => outcome?,
    };
    socket.listen(BACKLOG)
}

/// The port that the client connected to, before the kernel sent it here.
fn meant(client: &TcpStream) -> io::Result<u16> {
    let meant = match client.local_addr()?.ip().to_canonical() {
        IpAddr::V4(_) => sockopt::ip_original_dst(client)?.port(),
        IpAddr::V6(_) => sockopt::ipv6_original_dst(client)?.port(),
    };
    Ok(meant)
}

/// Waits for the client to say something, and leaves that where it is.
async fn is_demand(client: &TcpStream, spindown: &Spindown) -> bool {
    let mut first = [0];
    tokio::select! {
        said = timeout(DEMAND_WITHIN, client.peek(&mut first)) => matches!(said, Ok(Ok(1..))),
        () = spindown.shutdown().cancelled() => false,
    }
}

fn descriptor(stream: TcpStream) -> Result<OwnedFd> {
    let stream = stream.into_std().map_err(|e| Error::unavailable("a connection was lost at the door").caused_by(e))?;
    Ok(stream.into())
}
