//! Containers as the server hands them out attack each other and the host. `firewall` has every way in depth; this is
//! whether the service puts in place what is tested there.

use super::*;
use crate::firewall::yard::{Listener, Place, assert_open, assert_silent, host, host_addresses, probe};

fn inside(container: &Value) -> Place {
    ["docker", "exec", engine_id(container)].map(str::to_owned).to_vec()
}

fn address(container: &Value) -> String {
    inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
}

#[tokio::test]
async fn what_is_handed_out_reaches_neither_the_others_nor_the_host() {
    let server = Server::start(&[]);
    let (a, b) = (server.create("").await, server.create("").await);
    for container in [&a, &b] {
        until_greeted(HERE, port(container)).await;
    }
    let gateway = server.block.network().gateway();
    let api = server.url.rsplit_once(':').unwrap().1.to_owned();
    // Something that listens everywhere, as an SSH server of the host would, and something where the API does.
    let everywhere = server.block.ports().0 + 40;
    let _daemon = Listener::new(([0, 0, 0, 0], everywhere));
    // Containers have no other than IPv4, and cannot give themselves any.
    let mut hosts = host_addresses(&server.block);
    hosts.retain(|host| !host.contains(':'));
    assert!(hosts.len() >= 3 && hosts.contains(&gateway.to_string()), "{hosts:?}");

    let direct = format!("tcp {} 22", address(&b));
    let mut targets = vec![direct.clone(), "tcp 169.254.169.254 80".to_owned()];
    for host in &hosts {
        targets.extend([
            format!("tcp {host} {}", port(&b)),
            format!("tcp {host} {}", port(&a)),
            format!("tcp {host} {everywhere}"),
            format!("udp {host} {everywhere}"),
            format!("tcp {host} {api}"),
            format!("icmp {host} 0"),
        ]);
    }
    // The host reaches all that is there, and check-in is open to the container.
    let local = [format!("tcp 127.0.0.1 {}", port(&b)), format!("tcp {gateway} {everywhere}"), direct];
    let check_in = [format!("tcp {gateway} 80")];
    let attack = |targets: &[String]| {
        assert_open(&host(), &local);
        assert_open(&inside(&a), &check_in);
        assert_silent(&inside(&a), targets);
    };
    attack(&targets);
    assert_eq!(probe(&host(), &[format!("tcp 127.0.0.1 {api}")]).into_values().next().unwrap(), "open");

    // The rules are what holds them: without them the attack succeeds, and they are back within seconds.
    let table = server.block.instance();
    let published = format!("tcp {gateway} {}", port(&b));
    run("nft", &["delete", "table", "inet", &table]);
    assert_open(&inside(&a), std::slice::from_ref(&published));
    until("the rules are back", || {
        std::process::Command::new("nft").args(["list", "table", "inet", &table]).output().unwrap().status.success()
    })
    .await;
    attack(&targets);
    until_well(&server).await;
    assert!(server.log().matches("firewall rules were gone and have been put back").count() >= 1, "{}", server.log());
}

#[tokio::test]
async fn what_is_handed_out_is_confined() {
    let server = Server::start(&[("SPINDOWN_LIMITS_PIDS", "99")]);
    let made = server.create("memory=128m&cpus=0.5").await;
    let cat = |script: &str| run("docker", &["exec", engine_id(&made), "sh", "-c", script]);
    // Of the first process, and of what root can ever get.
    for set in ["CapEff", "CapBnd"] {
        let bits = u64::from_str_radix(&cat(&format!("sed -n 's/^{set}:\\s*//p' /proc/1/status")), 16).unwrap();
        for (name, bit) in [("NET_ADMIN", 12), ("NET_RAW", 13), ("SYS_MODULE", 16), ("SYS_ADMIN", 21), ("MKNOD", 27)] {
            assert_eq!(bits & (1 << bit), 0, "{name} in {set} {bits:x}");
        }
        // Not merely nothing at all: an account must be able to become another.
        assert_ne!(bits & (1 << 7), 0, "SETUID in {set} {bits:x}");
    }
    assert_eq!(cat("sed -n 's/^Seccomp:\\s*//p' /proc/1/status"), "2");
    assert_eq!(inspect(&made, "{{.HostConfig.Privileged}} {{len .Mounts}} {{.HostConfig.Init}}"), "false 0 true");
    assert_eq!(
        inspect(&made, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"),
        "134217728 500000000 99"
    );
    assert_eq!(
        inspect(&made, "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"max-file\"}}"),
        "json-file 2"
    );
}
