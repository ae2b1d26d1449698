//! The main story: a student gets a sandbox, works in it, leaves, and finds it again as it was.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use super::*;
use crate::support::server::SshKey;

/// Cron begins with the minute, if not at once.
const FIRST_REPORT: Duration = Duration::from_secs(65);
/// The idle timeout once reports come in.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The fingerprints that the SSH server on this port shows.
fn shown_host_keys(port: u16) -> Vec<String> {
    let scan = format!("ssh-keyscan -p {port} -t ed25519,ecdsa 127.0.0.1 2>/dev/null | ssh-keygen -lf -");
    let mut keys: Vec<_> = run("sh", &["-c", &scan]).lines().map(|l| l.split(' ').nth(1).unwrap().to_owned()).collect();
    keys.sort();
    keys
}

/// The fingerprints that the API tells.
fn told_host_keys(container: &Value) -> Vec<String> {
    let keys = container["ssh_host_keys"].as_array().unwrap().iter();
    let mut keys: Vec<_> = keys.map(|k| k.as_str().unwrap().split_once(' ').unwrap().1.to_owned()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn a_student_works_leaves_and_finds_everything_again() {
    let server = Server::start(&[("SPINDOWN_IDLE_SWEEP", "1s")]);
    let key = SshKey::make();
    let wanted = format!(
        "idle_timeout=2m&evidence=connections%3Don&env=SPINDOWN_CHECK_IN_EVERY%3D1&authorized_keys={}",
        key.encoded()
    );
    let made = server.create(&wanted).await;
    let (path, ssh) = (path(&made), made["ssh_port"].as_str().unwrap().to_owned());
    until_greeted(HERE, port(&made)).await;

    // Nobody gets in without the key.
    assert!(SshKey::make().login(&ssh, &["true"]).unwrap_err().contains("Permission denied"));
    assert_eq!(key.login(&ssh, &["whoami; echo draft >essay"]).unwrap(), "student");
    let keys = shown_host_keys(port(&made));
    let known = server.wait_for(&path, "known by its host keys", |a| told_host_keys(&a.json) == keys).await;
    assert_eq!(keys.len(), 2, "{:#}", known.json);

    // While somebody is there it stays, far beyond the timeout: its own reports keep it.
    let session = key.stay(&ssh);
    let activity = format!("{path}/activity");
    let reported = |a: &Answer| a.json["evidence"].as_array().unwrap().iter().any(|e| e["sign"] == "connections");
    server.wait_within(FIRST_REPORT, &activity, "reported", reported).await;
    let short = server.patch(&path, &format!("idle_timeout={}", TIMEOUT.as_secs())).await;
    assert_eq!((short.status, &short.json["idle_timeout"]), (200, &TIMEOUT.as_secs().into()));
    holds(TIMEOUT * 2 + TIMEOUT / 2, async || {
        let now = server.get(&path).await.json;
        assert_eq!(now["status"], "running", "{now:#}\n{}", server.log());
    })
    .await;
    assert_eq!(server.get(&path).await.json["active"], "1");
    let why = server.get(&activity).await.json;
    assert_eq!((&why["verdict"], &why["evidence"][0]["activity"]), (&"keep".into(), &true.into()), "{why:#}");

    // When he has left, it is stopped, not at once.
    drop(session);
    let left = Instant::now();
    let stopped = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
    assert!(left.elapsed() > TIMEOUT / 2, "{:?}", left.elapsed());
    assert_eq!(stopped["stopped_by"], "idle", "{stopped:#}");
    assert_eq!((&stopped["ssh_port"], &stopped["stops_at"]), (&"".into(), &Value::Null), "{stopped:#}");
    assert_eq!(stopped["ports"], made["ports"]);
    assert!(!runs(&made));

    // He logs in, and finds it where it was, as it was.
    assert_eq!(key.login(&ssh, &["cat essay"]).unwrap(), "draft");
    let again = server.get(&path).await;
    assert_eq!((&again.json["status"], &again.json["ssh_port"]), (&"running".into(), &made["ssh_port"]));
    assert_eq!((&again.json["stopped_by"], &again.json["ports"]), (&Value::Null, &made["ports"]));
    assert_eq!(shown_host_keys(port(&made)), keys);

    // Until it is removed, and nothing is left.
    assert_eq!(server.delete(&path).await.status, 204);
    assert_eq!(server.get(&path).await.status, 404);
    assert!(TcpStream::connect((HERE, port(&made))).is_err());
    let label = format!("label=spindown.id={}", made["id"].as_str().unwrap());
    assert_eq!(run("docker", &["ps", "-aq", "--filter", &label]), "");
}
