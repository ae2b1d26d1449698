//! The link to the server: one multiplexed connection, made again when it is lost, and a deadline around every call.
//!
//! The client's own connection manager is not used: once it fails to log in while it reconnects, it never tries again,
//! and it cannot tell a call that was never sent from one that may have been done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, RedisResult, ScriptInvocation, ServerErrorKind, aio::MultiplexedConnection,
    io::tcp::TcpSettings,
};
use tokio::{sync::Mutex, time::timeout};

use crate::model::{Error, Kind, Result};

/// How long a call may take, connecting included.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long what was sent may stay unacknowledged: a server whose machine is gone says nothing.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// What is asked of the server.
pub(super) enum Request<'a> {
    /// A command.
    Command(&'a Cmd),
    /// A script.
    Script(&'a ScriptInvocation<'a>),
}

/// Whether a call may be sent again when the connection breaks before its answer: it may have been done already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Doing it twice is the same as doing it once.
    Harmless,
    /// The caller has to look for itself.
    Never,
}

/// A connection, and whether the client still has it.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    alive: Arc<AtomicBool>,
}

/// The way to the server.
pub(super) struct Link {
    client: Client,
    name: String,
    line: Mutex<Option<Line>>,
}

impl Link {
    /// Connects, so that a wrong address or password is known at once.
    pub(super) async fn connect(url: &str, prefix: &str) -> Result<Self> {
        // Neither the address nor the client's error is repeated: the address may hold a password.
        let refused = |what: &str| Error::invalid(format!("the Redis address is refused: {what}"));
        let info =
            url.into_connection_info().map_err(|_| refused("write redis://[user:password@]host[:port][/database]"))?;
        // The third version of the protocol tells of a lost connection before the next call runs into it.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(UNACKNOWLEDGED);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|_| refused("this build knows no TLS, use redis://"))?;
        let link = Self { client, name: Self::name(prefix), line: Mutex::new(None) };
        match timeout(DEADLINE, link.line()).await {
            Ok(Ok(_)) => Ok(link),
            Ok(Err(error)) => {
                let why = match error.code() {
                    Some("WRONGPASS" | "NOAUTH") => "it refuses the user or the password".to_owned(),
                    _ => error.to_string(),
                };
                Err(Error::unavailable(format!("Redis at {} cannot be used: {why}", link.address())).caused_by(error))
            }
            Err(_) => Err(Error::unavailable(format!(
                "Redis at {} does not answer within {} seconds",
                link.address(),
                DEADLINE.as_secs()
            ))),
        }
    }

    /// What Redis calls the connections of those who work on what lies under this prefix.
    pub(super) fn name(prefix: &str) -> String {
        format!("spindown/{prefix}")
    }

    /// Host and port, or the path of the socket.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Asks the server.
    pub(super) async fn ask<T: FromRedisValue>(&self, request: Request<'_>, repeat: Repeat) -> Result<T> {
        match timeout(DEADLINE, self.send(&request, repeat)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.translate(error)),
            Err(late) => Err(Error::unavailable("the store does not answer").caused_by(late)),
        }
    }

    async fn send<T: FromRedisValue>(&self, request: &Request<'_>, repeat: Repeat) -> RedisResult<T> {
        let mut may_repeat = repeat == Repeat::Harmless;
        loop {
            let mut line = self.line().await?;
            let answer = match request {
                Request::Command(command) => command.query_async(&mut line.connection).await,
                Request::Script(script) => script.invoke_async(&mut line.connection).await,
            };
            let Err(error) = &answer else { return answer };
            // A server that has become a replica stays one: the address may lead to its successor by now.
            let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
            if demoted || error.is_unrecoverable_error() {
                line.alive.store(false, Ordering::Relaxed);
            }
            if !(may_repeat && error.is_connection_dropped()) {
                return answer;
            }
            may_repeat = false;
        }
    }

    /// The connection; a new one if there is none. Who waits for it waits behind one attempt, not beside it.
    async fn line(&self) -> RedisResult<Line> {
        let mut line = self.line.lock().await;
        if let Some(line) = line.as_ref().filter(|l| l.alive.load(Ordering::Relaxed)) {
            return Ok(line.clone());
        }
        let alive = Arc::new(AtomicBool::new(true));
        let lost = Arc::clone(&alive);
        let config = AsyncConnectionConfig::new()
            // The deadline is around all of it.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    lost.store(false, Ordering::Relaxed);
                }
                Ok::<_, std::convert::Infallible>(())
            });
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // By its name a restore tells that a server is at work. Not every user may give one.
        let _ = redis::cmd("CLIENT").arg("SETNAME").arg(&self.name).query_async::<()>(&mut connection).await;
        Ok(line.insert(Line { connection, alive }).clone())
    }

    fn translate(&self, error: RedisError) -> Error {
        let ours = error.code() == Some("WRONGTYPE")
            || matches!(
                error.kind(),
                ErrorKind::UnexpectedReturnType | ErrorKind::Parse | ErrorKind::Server(ServerErrorKind::CrossSlot)
            );
        let translated = if ours {
            Error::new(Kind::Internal, "the store holds something else under a key of Spindown's")
        } else if error.is_io_error() {
            Error::unavailable("the store cannot be reached")
        } else {
            Error::unavailable("the store refuses to work")
        };
        translated.caused_by(format!("Redis at {}: {error}", self.address()))
    }
}
