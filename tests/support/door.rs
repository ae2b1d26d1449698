//! A door before the machine's engine. While it is shut it takes connections and never answers, as an engine does that
//! has come to a halt; those that were open when it was shut are silent too. The engine itself is none the wiser.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// Where the machine's engine listens.
const ENGINE: &str = "/var/run/docker.sock";

/// The door, open at first.
pub struct Door {
    folder: TempDir,
    shut: watch::Sender<bool>,
    within: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Door {
    /// It needs a runtime with a thread to spare while the test waits for other things.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(path(&folder)).unwrap();
        let door = Self { folder, shut: watch::Sender::new(false), within: Arc::default(), most: Arc::default() };
        let (shut, within, most) = (door.shut.clone(), Arc::clone(&door.within), Arc::clone(&door.most));
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                most.fetch_max(within.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let (shut, within) = (shut.subscribe(), Arc::clone(&within));
                tokio::spawn(async move {
                    pass(caller, shut).await;
                    within.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        door
    }

    /// What a server is told as its engine's address.
    pub fn url(&self) -> String {
        format!("unix://{}", path(&self.folder).display())
    }

    /// From now on nobody is answered.
    pub fn shut(&self) {
        self.shut.send_replace(true);
    }

    /// Who still waits is turned away; who comes anew is let through.
    pub fn open(&self) {
        self.shut.send_replace(false);
    }

    /// How many connections there were at once, at the most.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("engine.sock")
}

/// Carries what is said to and fro until the door is shut, and then nothing until it is opened.
async fn pass(mut caller: UnixStream, mut shut: watch::Receiver<bool>) {
    let carry = async {
        if let Ok(mut engine) = UnixStream::connect(ENGINE).await {
            let _ = copy_bidirectional(&mut caller, &mut engine).await;
        }
    };
    let mut shuts = shut.clone();
    let was_shut = tokio::select! {
        biased;
        _ = shuts.wait_for(|shut| *shut) => true,
        () = carry => false,
    };
    if was_shut {
        let leaves = async {
            // A caller that gives up is let go.
            let mut nothing = [0; 1024];
            loop {
                match tokio::io::AsyncReadExt::read(&mut caller, &mut nothing).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        tokio::select! {
            _ = shut.wait_for(|shut| !*shut) => {}
            () = leaves => {}
        }
    }
}
