//! A container's output.

use std::time::Duration;

use bollard::{container::LogOutput, errors::Error as Fault, query_parameters as query};
use futures::{StreamExt, stream::BoxStream};

use super::{
    Docker,
    errors::{self, Task},
};
use crate::{
    engine::Engine,
    model::{EngineId, LogRange, Result},
};

/// The pieces of the output, and how long one may be waited for.
type Output = (BoxStream<'static, Result<LogOutput, Fault>>, Option<Duration>);

/// Reads what a container has written, and goes on with what it writes if that is asked for.
pub(super) async fn read(
    docker: &Docker,
    id: &EngineId,
    range: &LogRange,
) -> Result<BoxStream<'static, Result<Vec<u8>>>> {
    // The engine's first word comes with the first piece, which may be long in coming: what is wrong is found out here.
    docker.inspect(id).await?;
    let options = query::LogsOptions {
        follow: range.follow,
        stdout: true,
        stderr: true,
        timestamps: range.timestamps,
        tail: range.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        ..Default::default()
    };
    let client = docker.client().map_err(|fault| errors::translate(&Task::Logs, fault))?;
    let pieces = client.logs(id.as_str(), Some(options)).boxed();
    // What is there comes at once; what is yet to be written may take for ever.
    let patience = (!range.follow).then(|| docker.deadlines.of(&Task::Logs));
    let output: Option<Output> = Some((pieces, patience));
    Ok(futures::stream::unfold(output, |output| async {
        let (mut pieces, patience) = output?;
        let piece = match patience {
            None => pieces.next().await,
            Some(patience) => match tokio::time::timeout(patience, pieces.next()).await {
                Ok(piece) => piece,
                Err(late) => return Some((Err(errors::unreachable().caused_by(late)), None)),
            },
        };
        match piece? {
            Ok(piece) => Some((Ok(piece.into_bytes().to_vec()), Some((pieces, patience)))),
            Err(fault) => Some((Err(errors::translate(&Task::Logs, fault)), None)),
        }
    })
    .boxed())
}
