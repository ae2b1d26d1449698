//! Whether a container that was woken is ready: its own port accepts a connection, and it is that container.

use std::{pin::pin, time::Duration};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    model::{Error, Result},
    policy::door::Way,
    service::{
        Spindown,
        door::{Called, READY_WITHIN},
    },
};

/// How long a container that refuses is left alone before it is tried again.
const TRY_EVERY: Duration = Duration::from_millis(5);
/// How often it is seen whether it is still up while it does not answer at all.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Connects to the container, as soon as it accepts.
///
/// # Errors
/// `Unavailable` if it does not in time; `Conflict` if it went down again.
pub(super) async fn connect(called: &Called, port: u16, spindown: &Spindown) -> Result<TcpStream> {
    let late =
        |_| Error::unavailable(format!("nothing in it accepted connections within {} s", READY_WITHIN.as_secs()));
    let accepted = async {
        loop {
            let mut trying = pin!(TcpStream::connect((called.address, called.port)));
            let tried = loop {
                let tried = timeout(LOOK_EVERY, &mut trying).await;
                // It has its address for as long as it is there. So if it is there afterwards, it is what accepted.
                if !is_up(called, port, spindown) {
                    return Err(Error::conflict("it went down again before it accepted connections"));
                }
                if let Ok(tried) = tried {
                    break tried;
                }
            };
            if let Ok(container) = tried {
                return Ok(container);
            }
            sleep(TRY_EVERY).await;
        }
    };
    timeout(READY_WITHIN, accepted).await.map_err(late)?
}

/// Whether the port is still this container's, and the container up.
fn is_up(called: &Called, port: u16, spindown: &Spindown) -> bool {
    let now = spindown.called(port).filter(|now| now.id == called.id);
    now.is_some_and(|now| now.demand.is_none() && now.way != Way::Closed)
}
