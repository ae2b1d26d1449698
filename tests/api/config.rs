//! The configuration of the binary: what it takes, what it refuses, and what it says of it.

use std::{
    fs,
    process::{Command, Output},
    sync::Arc,
};

use crate::support::{
    block::Block,
    server::{Ended, Server},
};

/// Runs `spindown` with this `Rocket.toml` and these variables.
fn spindown(verb: &str, toml: &str, variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Rocket.toml"), toml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_spindown"));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("ROCKET_") || n.starts_with("SPINDOWN_")) {
        command.env_remove(name);
    }
    command.arg(verb).current_dir(folder.path()).envs(variables.iter().copied()).output().unwrap()
}

/// What the effective configuration is.
fn effective(toml: &str, variables: &[(&str, &str)]) -> toml::Table {
    let output = spindown("config", toml, variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}

/// A `Rocket.toml`, variables, and the words that tell what is wrong with them.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn what_is_wrong_stops_the_start_and_is_named() {
    let cases: &[Case] = &[
        ("[default]\nadress = \"::1\"", &[], &["Rocket.toml", "adress"]),
        ("[default]\nport = \"many\"", &[], &["Rocket.toml", "port", "many"]),
        ("[default.spindown]\nredis = 1", &[], &["Rocket.toml", "redis", "redis_url"]),
        ("[default.spindown.idle]\ntimeout = \"soon\"", &[], &["Rocket.toml", "spindown.idle.timeout", "soon"]),
        ("[default.spindown.idle]\ntimeot = \"1h\"", &[], &["Rocket.toml", "timeot", "timeout"]),
        ("[default.spindown.idle]\nsweep = \"7s\"", &[], &["Rocket.toml", "spindown.idle.sweep"]),
        ("[default.spindown.ports]\nfirst = 30000", &[], &["spindown.ports", "30000", "29999"]),
        ("[default.spindown.network]\nsubnet = \"10.0.0.0/30\"", &[], &["spindown.network.subnet", "/28"]),
        ("[default.spindown.auth]\npassword_hash = \"plain\"", &[], &["password_hash", "hash-password"]),
        ("[default.spindown\nidle = 1", &[], &["Rocket.toml", "line 1"]),
        ("port = 80", &[], &["Rocket.toml", "line 1"]),
        ("", &[("SPINDOWN_IDLE_TIMEOUT", "soon")], &["SPINDOWN_IDLE_TIMEOUT", "soon"]),
        ("", &[("SPINDOWN_IDLE_TIMEOT", "1h")], &["SPINDOWN_IDLE_TIMEOT", "unknown"]),
        ("", &[("SPINDOWN_IDEL", "1h")], &["SPINDOWN_IDEL", "unknown"]),
        ("", &[("SPINDOWN_PORTS_FIRST", "x")], &["SPINDOWN_PORTS_FIRST", "x"]),
        ("", &[("SPINDOWN_ENGINE", "docker")], &["SPINDOWN_ENGINE", "unix:///"]),
        ("", &[("ROCKET_PORT", "99999")], &["ROCKET_PORT", "99999"]),
        ("", &[("ROCKET_PROT", "8080")], &["ROCKET_PROT", "unknown"]),
        ("", &[("ROCKET_CONFIG", "nowhere.toml")], &["nowhere.toml", "ROCKET_CONFIG"]),
    ];
    for (toml, variables, words) in cases {
        for verb in ["serve", "config"] {
            let output = spindown(verb, toml, variables);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{verb} {toml} {variables:?}: {told}");
            for word in *words {
                assert!(told.contains(word), "{verb} {toml} {variables:?}: {word} in {told}");
            }
            assert!(!told.contains("panicked"), "{told}");
        }
    }
}

#[test]
fn what_is_effective_is_shown_without_its_secrets() {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$9sTVZEYPMbuPZ7KlKkT5dTb8mcnXJOyNvPZ4QxpT8mM";
    let toml = format!(
        "[default]\nport = 8081\n[default.spindown]\nredis_url = \"redis://me:hush@redis.example:6379/0\"\n\
         [default.spindown.auth]\npassword_hash = \"{hash}\"\n"
    );
    let output = spindown("config", &toml, &[]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for secret in ["hush", "argon2", "9sTVZ"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for word in ["port = 8081", "redis.example:6379/0", "timeout = \"2h30m\"", "first = 20000", "memory = \"512m\""] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    // A password may hold anything; one in a place of its own is no less a secret.
    for (url, masked) in [
        ("redis://:hu@sh@redis.example/0", "redis://********@redis.example/0"),
        ("redis://redis.example/0?protocol=resp3&password=hush", "redis://redis.example/0?********"),
        ("unix:///run/redis.sock?db=1&pass=hu@sh", "unix:///run/redis.sock?********"),
        ("redis://redis.example", "redis://redis.example"),
        ("hush", "********"),
    ] {
        let shown = effective(&format!("[default.spindown]\nredis_url = \"{url}\""), &[]);
        assert_eq!(shown["spindown"]["redis_url"].as_str(), Some(masked), "{url}");
    }
    // Nor does a server tell that cannot reach it.
    let toml = "[default.spindown]\nredis_url = \"redis://:hush@127.0.0.1:1/0\"";
    let output = spindown("serve", toml, &[("SPINDOWN_FIREWALL_ENABLED", "false")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("Redis at 127.0.0.1:1") && !told.contains("hush"), "{told}");
}

#[test]
fn variables_override_profiles_override_defaults() {
    let toml = "[default]\nport = 1001\n[default.spindown.idle]\ntimeout = \"1h\"\nsweep = \"30s\"\n\
                [school]\nport = 1002\n[school.spindown.idle]\ntimeout = \"2h\"\n\
                [global.spindown.ports]\nlast = 29000\n";
    let of = |variables: &[(&str, &str)]| {
        let config = effective(toml, variables);
        let (idle, ports) = (&config["spindown"]["idle"], &config["spindown"]["ports"]);
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        let last = ports["last"].as_integer().unwrap();
        (config["port"].as_integer().unwrap(), text(&idle["timeout"]), text(&idle["sweep"]), last)
    };
    assert_eq!(of(&[]), (1001, "1h".into(), "30s".into(), 29_000));
    assert_eq!(of(&[("ROCKET_PROFILE", "school")]), (1002, "2h".into(), "30s".into(), 29_000));
    assert_eq!(
        of(&[("ROCKET_PROFILE", "school"), ("SPINDOWN_IDLE_TIMEOUT", "never"), ("ROCKET_PORT", "1003")]),
        (1003, "never".into(), "30s".into(), 29_000)
    );
    assert_eq!(effective(toml, &[("ROCKET_PROFILE", "school")])["profile"].as_str(), Some("school"));
}

#[test]
fn a_range_that_the_kernel_uses_is_warned_of() {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let block = Arc::new(Block::take());
    let (own, _) = block.ports();
    let warned = |last: u16| {
        // The engine is not needed for a warning.
        let last = last.to_string();
        let settings = [("SPINDOWN_PORTS_LAST", last.as_str()), ("SPINDOWN_ENGINE", "unix:///nowhere")];
        let server = Server::try_start(Arc::clone(&block), &settings).unwrap();
        server.log().contains("overlap the kernel's ephemeral range")
    };
    assert!(own < first, "the tests' ports are below the range");
    assert!(warned(first));
    assert!(!warned(first - 1));
}

#[test]
fn a_second_server_on_one_place_is_refused() {
    let server = Server::start(&[]);
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let refused = |settings: &[(&str, &str)]| -> Ended {
        match Server::try_start(Arc::new(Block::take()), settings) {
            Ok(_) => panic!("{settings:?} starts"),
            Err(ended) => ended,
        }
    };
    let ended = refused(&[("ROCKET_PORT", &port)]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", ended.log);
    let data = server.folder().join("data");
    let ended = refused(&[("SPINDOWN_DATA", data.to_str().unwrap())]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("data") && ended.log.contains("in use"), "{}", ended.log);
}
