//! The way to a backup while a server has the file: a socket beside it, on which the server hands out a snapshot to
//! whoever may read the data folder. One caller at a time: it sends the head of its backup in a line and is answered with
//! the whole of it, or with a line that says why not.

use std::{
    fs::{self, Permissions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use redb::ReadableDatabase;
use serde::{Deserialize, Serialize};

use super::{backup::export, file::DataFile};
use crate::{
    model::{Error, Result},
    socket::ShortPath,
    store::backup::{self, Contents, Head, LIMIT},
};

/// The socket's name in the data folder.
const NAME: &str = "spindown.sock";
/// How long either end waits for the other to go on.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest line that a caller may send, in bytes.
const LINE: u64 = 4_096;

/// Why there is no backup.
#[derive(Serialize, Deserialize)]
struct Refusal {
    refused: String,
}

/// The socket, served by a thread until this is dropped.
pub(super) struct Share {
    folder: PathBuf,
    ending: Arc<AtomicBool>,
    /// Who is being served.
    caller: Arc<Mutex<Option<UnixStream>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Share {
    /// Serves what `file` holds. Whoever calls this has the folder to himself: a socket that is there is an old one.
    pub(super) fn start(folder: &Path, file: Arc<DataFile>) -> io::Result<Self> {
        let path = ShortPath::of(folder, NAME)?;
        match fs::remove_file(&*path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&*path)?;
        fs::set_permissions(&*path, Permissions::from_mode(0o600))?;
        let (ending, caller) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let (ends, serves) = (Arc::clone(&ending), Arc::clone(&caller));
        let run = move || {
            for stream in listener.incoming() {
                // Whatever keeps a caller from being taken lasts a while: without a pause this would spin.
                let Ok(stream) = stream else {
                    thread::sleep(Duration::from_millis(100));
                    continue;
                };
                *serves.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                if let Err(error) = serve(&stream, &file) {
                    tracing::warn!(%error, "a backup was not fetched to its end");
                }
                *serves.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        };
        let thread = Some(thread::Builder::new().name("share".into()).spawn(run)?);
        Ok(Self { folder: folder.to_owned(), ending, caller, thread })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        if let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = caller.shutdown(std::net::Shutdown::Both);
        }
        // The thread waits for a caller: this is the last one. If it cannot be reached, it cannot be waited for.
        let called = ShortPath::of(&self.folder, NAME).and_then(|path| UnixStream::connect(&*path));
        let _ = fs::remove_file(self.folder.join(NAME));
        if let (Ok(_), Some(thread)) = (called, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn patient(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn serve(stream: &UnixStream, file: &DataFile) -> io::Result<()> {
    patient(stream)?;
    let mut asked = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut asked)?;
    let text = serde_json::from_str(&asked)
        .map_err(|_| Error::invalid("the line that asks for a backup is not understood"))
        .and_then(|head: Head| backup::write(&head, &file.work(|database| export(&database.begin_read()?))?));
    let text = text.or_else(|error| {
        serde_json::to_string(&Refusal { refused: error.message().to_owned() }).map(|refusal| refusal + "\n")
    })?;
    (&mut &*stream).write_all(text.as_bytes())
}

/// Asks the server that has the file below `folder` for all that it holds.
///
/// # Errors
/// `Unavailable` if no server answers there; why it refuses; `Invalid` for an answer that is not whole.
pub(super) fn ask(folder: &Path, head: &Head) -> Result<Contents> {
    let silent = |error: io::Error| {
        Error::unavailable(format!(
            "the store below {} is in use, and who has it hands out no backup ({error}): try again, or stop the server",
            folder.display()
        ))
    };
    let exchange = || {
        let stream = UnixStream::connect(&*ShortPath::of(folder, NAME)?)?;
        patient(&stream)?;
        let line = serde_json::to_string(head)? + "\n";
        (&stream).write_all(line.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(silent)?;
    if let Ok(Refusal { refused }) = serde_json::from_slice(&answer) {
        return Err(Error::conflict(refused));
    }
    let (_, contents) = backup::read(&answer)?;
    Ok(contents)
}
