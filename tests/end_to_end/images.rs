//! The images with an app: it is served at the app port, counted, and found again after a stop.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::support::server::SshKey;

/// The first start makes a database, on a machine that is busy with other tests.
const FIRST_START: Duration = Duration::from_secs(60);

/// A container of this image, with its two ports.
async fn make(server: &Server, image: &str, key: &SshKey) -> Value {
    let wanted = format!("image={image}&authorized_keys={}", key.encoded());
    let made = server.post("/v1/containers", &wanted).await;
    assert_eq!(made.status, 201, "{:#}", made.json);
    let ports: Vec<u64> =
        made.json["ports"].as_array().unwrap().iter().map(|p| p["host_port"].as_u64().unwrap()).collect();
    assert_eq!(ports.len(), 2, "{:#}", made.json);
    made.json
}

fn app_port(container: &Value) -> String {
    let port = container["app_port"].as_str().unwrap();
    assert_ne!(port, container["ssh_port"].as_str().unwrap());
    port.to_owned()
}

/// Has it report what it counts, and waits until the API shows this.
async fn until_active(server: &Server, container: &Value, count: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        run("docker", &["exec", engine_id(container), "spindown-check-in"]);
        let now = server.get(&path(container)).await.json;
        if now["active"] == count {
            return;
        }
        assert!(Instant::now() < deadline, "not {count}: {now:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn stop_and_start(server: &Server, container: &Value) {
    let path = path(container);
    assert_eq!(server.patch(&path, "status=stopped").await.status, 200);
    let stopped = server.wait_for_status(container["id"].as_str().unwrap(), "stopped").await;
    assert_eq!((&stopped["exit_code"], &stopped["app_port"]), (&0.into(), &"".into()), "{stopped:#}");
    let again = server.patch(&path, "status=running").await;
    assert_eq!((&again.json["app_port"], again.status), (&container["app_port"], 200), "{:#}", again.json);
}

/// Runs SQL over the network, and answers what it yields, if anybody does.
fn psql(port: &str, password: &str, sql: &str) -> Result<String, String> {
    let output = psql_command(port, password, sql).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn psql_command(port: &str, password: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-XAtqw", "-h", "127.0.0.1", "-p", port, "-U", "student", "-c", sql]);
    command.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "5");
    command
}

/// Somebody who is connected to the database, until it is dropped.
struct Connected(Child);

impl Connected {
    fn to(port: &str, password: &str) -> Self {
        let mut command = psql_command(port, password, "SELECT 'in'");
        let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        Self(child)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_database_is_served_counted_and_kept() {
    let server = Server::start(&[]);
    let key = SshKey::make();
    let made = make(&server, "spindown/postgres", &key).await;
    let (port, ssh) = (app_port(&made), made["ssh_port"].as_str().unwrap());
    until_greeted(HERE, ssh.parse().unwrap()).await;

    // The password is there once the database is made.
    let deadline = Instant::now() + FIRST_START;
    let password = loop {
        let found = key.login(ssh, &["cut -d : -f 5 .pgpass"]).unwrap_or_default();
        if !found.is_empty() && psql(&port, &found, "SELECT 1").is_ok() {
            break found;
        }
        assert!(Instant::now() < deadline, "there is no database");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(psql(&port, "spindocker", "SELECT 1").unwrap_err().contains("password authentication failed"));
    psql(&port, &password, "CREATE TABLE notes AS SELECT 'here' AS note").unwrap();

    until_active(&server, &made, "0").await;
    let client = Connected::to(&port, &password);
    until_active(&server, &made, "1").await;
    let session = key.stay(ssh);
    until_active(&server, &made, "2").await;
    drop((client, session));
    until_active(&server, &made, "0").await;

    stop_and_start(&server, &made).await;
    let kept = || psql(&port, &password, "TABLE notes").is_ok_and(|note| note == "here");
    until("the row is there again", kept).await;
}

#[tokio::test]
async fn a_site_is_served_counted_and_kept() {
    let server = Server::start(&[]);
    let key = SshKey::make();
    let made = make(&server, "spindown/django", &key).await;
    let ssh = made["ssh_port"].as_str().unwrap();
    let url = format!("http://127.0.0.1:{}/", app_port(&made));
    let page = || run("sh", &["-c", &format!("curl -s -m 5 {url} || true")]);
    until_greeted(HERE, ssh.parse().unwrap()).await;

    until_active(&server, &made, "0").await;
    until("the site is served", || page().contains("<h1>It works</h1>")).await;
    until_active(&server, &made, "1").await;
    // Whether somebody merely stays is seen from outside: its meters tell of pages and of keys.
    let session = key.stay(ssh);
    until_active(&server, &made, "1").await;
    drop(session);

    key.login(ssh, &["sed -i 's/It works/It is mine/' mysite/mysite/urls.py"]).unwrap();
    stop_and_start(&server, &made).await;
    until("the site is served as it was left", || page().contains("<h1>It is mine</h1>")).await;
}
