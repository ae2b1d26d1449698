//! `backup`, `restore` and `set-aside`: the store as a whole, in and out of files.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde_json::json;
use spindown::{
    clock::{Clock, SystemClock},
    config::{self, Loaded},
    model::{Error, Kind, Result},
    store::{
        backup::{self, BackupStore, Contents, Head, LIMIT},
        embedded::Embedded,
        redis::Redis,
    },
};

/// The name that stands for standard input or output.
const STANDARD: &str = "-";

/// Writes a backup of the store into `path`.
pub(super) async fn backup(path: &Path) -> Result<()> {
    let loaded = config::load()?;
    let head = Head::new(loaded.config.instance.to_string(), SystemClock::new().now().at);
    let contents = contents(&loaded, &head).await?;
    let text = backup::write(&head, &contents)?;
    if path == Path::new(STANDARD) {
        io::stdout().write_all(text.as_bytes()).map_err(|e| failed("standard output", "written", e))?;
    } else {
        keep(path, &text).map_err(|e| failed(&path.display().to_string(), "written", e))?;
    }
    eprintln!("backed up {}", told(&contents));
    Ok(())
}

/// All that the store holds. The file of a server that serves is asked of that server.
async fn contents(loaded: &Loaded, head: &Head) -> Result<Contents> {
    if let Some(url) = &loaded.config.redis_url {
        return Redis::connect(url, &loaded.config.instance.to_string()).await?.export().await;
    }
    let folder = loaded.config.data.path();
    match Embedded::open_existing(folder) {
        Ok(store) => store.export().await,
        Err(error) if error.kind() == Kind::Conflict => Embedded::ask(folder, head).await,
        Err(error) => Err(error),
    }
}

/// Puts what the backup in `path` holds into the store.
pub(super) async fn restore(path: &Path, replace: bool) -> Result<()> {
    let loaded = config::load()?;
    let instance = loaded.config.instance.to_string();
    let (head, contents) = backup::read(&read(path)?)?;
    if head.instance != instance {
        return Err(Error::invalid(format!(
            "this backup is of the instance {:?}, the configuration is of {instance:?}: set spindown.instance, the \
             containers belong to it",
            head.instance
        )));
    }
    match &loaded.config.redis_url {
        Some(url) => {
            let store = Redis::connect(url, &instance).await?;
            match store.others().await {
                Some(0) => {}
                Some(others) => {
                    return Err(Error::conflict(format!(
                        "{others} other connections are at work on this store: stop all its servers, restore, and start \
                         them again"
                    )));
                }
                None => eprintln!("spindown: Redis does not tell whether servers are at work; none may be"),
            }
            store.import(&contents, replace).await?;
        }
        None => Embedded::open(loaded.config.data.path())?.import(&contents, replace).await?,
    }
    eprintln!("restored {} of {}", told(&contents), head.made_at);
    Ok(())
}

/// Moves what cannot be read out of the store into `path`.
pub(super) async fn set_aside(path: &Path) -> Result<()> {
    let loaded = config::load()?;
    let store: Box<dyn BackupStore> = match &loaded.config.redis_url {
        Some(url) => Box::new(Redis::connect(url, &loaded.config.instance.to_string()).await?),
        None => Box::new(Embedded::open_existing(loaded.config.data.path())?),
    };
    let (newer, damaged): (Vec<_>, Vec<_>) = store.unreadable().await?.into_iter().partition(|record| record.newer);
    for record in &newer {
        eprintln!("left where it is: {}", record.why);
    }
    if damaged.is_empty() {
        eprintln!("no record is damaged");
        return Ok(());
    }
    let file = path.display().to_string();
    // On the disk before anything is taken out.
    let lines = damaged.iter().map(|record| {
        let text = String::from_utf8_lossy(&record.bytes);
        format!("{}\n", json!({"record": record.of.noun(), "key": record.key, "text": text, "bytes": record.bytes}))
    });
    let mut options = OpenOptions::new();
    let mut kept = options.write(true).create_new(true).mode(0o600).open(path).map_err(|e| failed(&file, "made", e))?;
    kept.write_all(lines.collect::<String>().as_bytes())
        .and_then(|()| kept.sync_all())
        .map_err(|e| failed(&file, "written", e))?;
    for record in &damaged {
        let name = format!("{} {}", record.of.noun(), record.key);
        if store.take_out(record).await? {
            eprintln!("set aside: {name}");
        } else {
            eprintln!("changed meanwhile, left where it is: {name}");
        }
    }
    Ok(())
}

/// Writes a file that is there wholly or not at all, and nobody else's to read.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("that names no file"))?;
    let folder = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let unfinished = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = if path == Path::new(STANDARD) {
        io::stdin().lock().take(LIMIT + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| failed(&name, "read", e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::invalid(format!("{name} is larger than any backup")));
    }
    Ok(bytes)
}

fn failed(file: &str, what: &str, error: io::Error) -> Error {
    Error::unavailable(format!("{file} cannot be {what}: {error}")).caused_by(error)
}

fn told(contents: &Contents) -> String {
    let Contents { containers, claims, attempts, .. } = contents;
    format!("{} containers, {} claims, {} attempts", containers.len(), claims.len(), attempts.len())
}
