//! A private registry of the test's own, on loopback, where engines need no certificate. It ends when it is dropped, and
//! what was pushed to it is gone from the engine.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use spindown::model::RegistryCredentials;
use tempfile::TempDir;

use super::server::run;

/// Below the kernel's ephemeral range, and beside what other tests take.
const FIRST_PORT: u16 = 18_500;
const PORTS: u16 = 200;

/// Who may push and pull. The password is one that the two alphabets of base64 write differently, wherever it stands.
pub const USER: &str = "keeper-of-images";
pub const PASSWORD: &str = "secret~?>~~";
/// The password's hash, as `htpasswd -B` makes it.
const HASH: &str = "$2b$04$FAs18TtrPdKIzZkGBIXki.emqmRAJ2puqGwq6KzZem.kAqqhg58/S";

/// A registry that runs.
pub struct Registry {
    child: Child,
    port: u16,
    folder: TempDir,
    pushed: Mutex<Vec<String>>,
    _lock: File,
}

impl Registry {
    /// Starts one and waits until it listens.
    pub fn start() -> Self {
        let locks = std::env::temp_dir().join("spindown-test-registry");
        fs::create_dir_all(&locks).unwrap();
        for port in FIRST_PORT..FIRST_PORT + PORTS {
            let lock = File::create(locks.join(port.to_string())).unwrap();
            if lock.try_lock().is_err() {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            // Somebody else's server may sit on the port.
            if let Some(child) = spawn(port, &folder) {
                return Self { child, port, folder, pushed: Mutex::default(), _lock: lock };
            }
        }
        panic!("no port is left for a registry");
    }

    /// Host and port, as images' names begin with them.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pushes a small image that exposes port 80 and does nothing, and takes it from the engine again. Answers its name.
    pub fn push(&self, name: &str) -> String {
        let image = format!("{}/{name}", self.host());
        let files = self.folder.path().join("files");
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("content"), rand::random::<[u8; 32]>().repeat(10_000)).unwrap();
        let script = "tar -C \"$0\" -c . | docker import -c 'EXPOSE 80' -c 'CMD [\"/none\"]' - \"$1\"";
        run("sh", &["-c", script, files.to_str().unwrap(), &image]);
        let config = self.folder.path().join("client");
        fs::create_dir_all(&config).unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        fs::write(config.join("config.json"), format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, self.host()))
            .unwrap();
        run("docker", &["--config", config.to_str().unwrap(), "push", "-q", &image]);
        run("docker", &["rmi", &image]);
        self.pushed.lock().unwrap().push(image.clone());
        image
    }

    /// What lets one in.
    pub fn credentials(&self) -> RegistryCredentials {
        RegistryCredentials {
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
            server: Some(self.host()),
            ..Default::default()
        }
    }

    /// The same as a header.
    pub fn header(&self) -> String {
        header(USER, PASSWORD, &self.host())
    }
}

/// The value of `X-Registry-Auth` that tells this.
pub fn header(user: &str, password: &str, server: &str) -> String {
    let json = serde_json::json!({"username": user, "password": password, "serveraddress": server});
    URL_SAFE.encode(json.to_string())
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for image in self.pushed.lock().unwrap().iter() {
            let _ = Command::new("docker").args(["rmi", "-f", image]).output();
        }
    }
}

/// Starts a registry; `None` if it ends before it listens.
fn spawn(port: u16, folder: &TempDir) -> Option<Child> {
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("htpasswd"), format!("{USER}:{HASH}\n")).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
        path("images"),
        path("htpasswd")
    );
    fs::write(path("config.yml"), config).unwrap();
    // Should the test be killed, the registry dies with it.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "docker-registry", "serve", &path("config.yml")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker-registry and setpriv are installed: scripts/install --test");
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        if line.contains("listening on") {
            // A full pipe would hold it up.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Some(child);
        }
        line.clear();
    }
    child.wait().unwrap();
    None
}
