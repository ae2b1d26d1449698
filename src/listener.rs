//! The two listeners: the API's, and the one for check-ins on the gateway of the containers' network, which is there
//! only once the engine has made the network.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rocket::{Build, Rocket, Shutdown, fairing::AdHoc, figment::Figment};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    http::{self, UnderWay},
    model::{Error, Result},
    service::Spindown,
};

/// How long to wait before the listener for check-ins is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// A server that listens.
pub(crate) struct Listener {
    /// Where.
    pub(crate) address: SocketAddr,
    /// The task that it runs in, which ends with it.
    pub(crate) task: JoinHandle<Result<()>>,
    shutdown: Shutdown,
    under_way: UnderWay,
}

impl Listener {
    /// Ends it: nothing new is taken, and what is under way is finished, within Rocket's bounds. Rocket alone would wait
    /// for all of its grace if one connection is merely open.
    pub(crate) async fn end(&mut self) {
        self.shutdown.clone().notify();
        tokio::select! {
            () = self.under_way.over() => {}
            _ = &mut self.task, if !self.task.is_finished() => {}
        }
    }
}

/// Launches a server and returns once it listens.
pub(crate) async fn launch(server: Rocket<Build>) -> Result<Listener> {
    let (listening, listens) = oneshot::channel();
    let listening = std::sync::Mutex::new(Some(listening));
    let server = server.attach(AdHoc::on_liftoff("listening", move |rocket| {
        Box::pin(async move {
            let address = SocketAddr::new(rocket.config().address, rocket.config().port);
            if let Some(listening) = listening.lock().ok().and_then(|mut l| l.take()) {
                let _ = listening.send((rocket.shutdown(), address));
            }
        })
    }));
    let under_way = server.state::<UnderWay>().cloned().unwrap_or_default();
    let server = server.ignite().await.map_err(|e| refused(&e))?;
    let address = SocketAddr::new(server.config().address, server.config().port);
    let task = tokio::spawn(async move {
        match server.launch().await {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(&error)),
        }
    });
    match listens.await {
        Ok((shutdown, address)) => Ok(Listener { address, task, shutdown, under_way }),
        Err(_) => Err(match task.await {
            Ok(Err(error)) => Error::conflict(format!("cannot listen on {address}: {}", error.message())),
            _ => Error::conflict(format!("cannot listen on {address}")),
        }),
    }
}

/// Serves check-ins until the service ends, whatever happens to the listener meanwhile.
///
/// # Errors
/// `Conflict` if somebody else listens there; while the address itself is not there it is waited for.
pub(crate) async fn serve_check_ins(
    figment: Figment,
    address: SocketAddr,
    spindown: Arc<Spindown>,
) -> Result<JoinHandle<()>> {
    let figment = figment.merge(("address", address.ip())).merge(("port", address.port()));
    let mut listener = attempt(&figment, address, &spindown).await?;
    Ok(tokio::spawn(async move {
        while !spindown.shutdown().is_cancelled() {
            match listener.take() {
                Some(mut serving) => {
                    tokio::select! {
                        outcome = &mut serving.task => {
                            tracing::error!(?outcome, "the listener for check-ins ended");
                            spindown.listener_seen(Some(format!("nothing listens for check-ins on {address}")));
                        }
                        () = spindown.shutdown().cancelled() => {
                            serving.end().await;
                        }
                    }
                }
                None => {
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = spindown.shutdown().cancelled() => return,
                    }
                    listener = attempt(&figment, address, &spindown).await.unwrap_or_else(|error| {
                        spindown.listener_seen(Some(error.message().to_owned()));
                        None
                    });
                }
            }
        }
    }))
}

/// Tries once. `None` while the machine does not have the address.
async fn attempt(figment: &Figment, address: SocketAddr, spindown: &Arc<Spindown>) -> Result<Option<Listener>> {
    // Rocket tells only that it cannot bind; the kind of the error tells why.
    match std::net::TcpListener::bind(address) {
        Ok(probe) => drop(probe),
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            spindown.listener_seen(Some(format!("{address} is not there yet: the engine makes it with the network")));
            return Ok(None);
        }
        Err(error) => {
            let hint = "free it, or set spindown.check_in.port (containers report to port 80 of their gateway unless told otherwise)";
            return Err(Error::conflict(format!("cannot listen for check-ins on {address}: {error}; {hint}")));
        }
    }
    let listener = launch(http::check_in_server(figment.clone(), Arc::clone(spindown))).await?;
    spindown.listener_seen(None);
    Ok(Some(listener))
}

fn refused(error: &rocket::Error) -> Error {
    use rocket::error::ErrorKind::{Bind, Config, Io};
    let reason = match error.kind() {
        Bind(e) | Io(e) => e.to_string(),
        Config(e) => e.to_string(),
        other => other.to_string(),
    };
    Error::conflict(reason)
}
