//! Tables of facts, and what is made of them.

use spindown::model::Protocol;

use super::{super::probe, *};

/// The finding has this level, says these words, and tells what to do unless all is well.
#[track_caller]
fn is(finding: &Finding, level: Level, words: &str) {
    let mend = finding.mend.as_deref().unwrap_or_default();
    assert_eq!(finding.level, level, "{finding:?}");
    assert!(finding.message.contains(words) || mend.contains(words), "{words}: {finding:?}");
    assert!(level == Level::Ok || !mend.is_empty(), "what to do? {finding:?}");
}

fn away() -> Error {
    Error::unavailable("the engine does not answer")
}

#[test]
fn an_engine_is_old_enough_to_be_told_apart() {
    let docker = |version: &str| Description {
        version: version.into(),
        api: "1.41".into(),
        live_restore: Some(true),
        cgroups: Some("2".into()),
        storage: Some("overlay2".into()),
        ..Description::default()
    };
    for (version, level) in [
        ("20.10.24+dfsg1", Level::Ok),
        ("28.0.1", Level::Ok),
        ("dev", Level::Ok),
        ("20.9.1", Level::Problem),
        ("19.03.8", Level::Problem),
    ] {
        is(&engine("unix:///d", Ok(docker(version))), level, version);
    }
    is(
        &engine("unix:///d", Ok(Description { live_restore: Some(false), ..docker("24.0") })),
        Level::Ok,
        "live-restore",
    );
    let slow = Description { storage: Some("vfs".into()), ..docker("24.0") };
    is(&engine("unix:///d", Ok(slow)), Level::Warning, "overlay2");
    is(&engine("unix:///d", Err(away())), Level::Problem, "unix:///d");
}

#[test]
fn a_network_is_there_or_can_be_made() {
    let spec = NetworkSpec { name: "n".into(), bridge: "br0".into(), subnet: "10.9.0.0/20".parse().unwrap() };
    let route = |net: &str, by: &str| (net.parse().unwrap(), by.to_owned());
    let default = route("0.0.0.0/0", "eth0");
    is(&network(&spec, &Ok(true), &[route("10.9.0.0/20", "br0")]), Level::Ok, "br0");
    is(&network(&spec, &Ok(false), &[default.clone(), route("10.9.16.0/20", "eth0")]), Level::Ok, "made");
    // Left over from a network that is gone, and ours.
    is(&network(&spec, &Ok(false), &[route("10.9.0.0/20", "br0")]), Level::Ok, "made");
    for (net, by) in [("10.0.0.0/8", "tun0"), ("10.9.3.0/24", "eth1"), ("10.9.0.0/20", "br1")] {
        is(&network(&spec, &Ok(false), &[default.clone(), route(net, by)]), Level::Problem, by);
    }
    is(&network(&spec, &Err(away()), &[]), Level::Warning, "engine");
    is(&network(&spec, &Err(Error::conflict("it differs: remove it")), &[]), Level::Problem, "remove it");
}

#[test]
fn rules_have_to_be_there_while_a_server_serves() {
    is(&rules(false, &Ok(false), true), Level::Warning, "switched off");
    is(&rules(true, &Ok(true), true), Level::Ok, "in place");
    is(&rules(true, &Ok(false), false), Level::Ok, "at the start");
    is(&rules(true, &Ok(false), true), Level::Problem, "not in place");
    let missing = Error::unavailable("the firewall needs the command nft: install the package nftables");
    is(&rules(true, &Err(missing), false), Level::Problem, "install");
}

#[test]
fn ports_are_the_containers_own() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (range, ephemeral) = (20_000..=20_009, Some(32_768..=60_999));
    let judged = |listeners: &[SocketAddr], own: &[u16]| {
        ports(range.clone(), ephemeral.clone(), listeners, &Ok(own.iter().copied().collect()))
    };
    is(&judged(&[at("0.0.0.0:22"), at("[::]:20010")], &[]), Level::Ok, "20000 to 20009");
    is(&judged(&[at("0.0.0.0:20000")], &[20_000]), Level::Ok, "free");
    is(&judged(&[at("0.0.0.0:20000"), at("127.0.0.1:20001")], &[20_000]), Level::Warning, "listen on 20001");
    let all: Vec<_> = range.clone().map(|port| SocketAddr::from(([0, 0, 0, 0], port))).collect();
    is(&judged(&all, &[]), Level::Warning, "and 5 more");
    // While it is not known which are ours, nobody is blamed.
    is(&ports(range.clone(), ephemeral.clone(), &all, &Err(away())), Level::Ok, "free");
    is(&ports(range.clone(), Some(1_024..=20_000), &[], &Ok(BTreeSet::new())), Level::Warning, "ephemeral");
    let gateway = Ipv4Addr::new(10, 9, 0, 1);
    is(&check_in(gateway, 80, &[at("127.0.0.1:80"), at("0.0.0.0:81"), at("10.9.0.1:443")]), Level::Ok, "free");
    for taken in ["0.0.0.0:80", "[::]:80", "10.9.0.1:80"] {
        is(&check_in(gateway, 80, &[at(taken)]), Level::Problem, taken);
    }
}

#[test]
fn a_door_is_open_and_nobody_stands_in_the_way() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let clear = Ok(None);
    is(&door(None, &clear, None), Level::Warning, "door.enabled");
    is(&door(Some(19_990), &clear, None), Level::Ok, "19990");
    is(&door(Some(19_990), &clear, Some(&[at("127.0.0.1:1999")])), Level::Ok, "19990");
    is(&door(Some(19_990), &clear, Some(&[at("0.0.0.0:19990")])), Level::Problem, "0.0.0.0:19990");
    is(&door(Some(19_990), &Ok(Some("closed: let it in".into())), None), Level::Warning, "let it in");
    is(&door(Some(19_990), &Err(Error::unavailable("no nft: install it")), None), Level::Problem, "install it");
}

#[test]
fn a_store_opens_and_keeps() {
    use spindown::store::{
        backup::{Table, Unreadable},
        embedded, redis,
    };
    let damaged =
        |newer| Unreadable { of: Table::Containers, key: "abc".into(), bytes: Vec::new(), why: "why".into(), newer };
    let file = |unreadable| StoreSeen::File(Ok(embedded::Seen { containers: 3, unreadable }));
    is(&store(&file(vec![])), Level::Ok, "3 containers");
    is(&store(&file(vec![damaged(false)])), Level::Problem, "set-aside");
    is(&store(&file(vec![damaged(true)])), Level::Problem, "upgrade");
    is(&store(&StoreSeen::File(Err(Error::not_found("none")))), Level::Ok, "at the start");
    is(&store(&StoreSeen::File(Err(Error::new(Kind::Internal, "damaged: restore")))), Level::Problem, "restore");
    is(&store(&StoreSeen::Served(Ok(2))), Level::Ok, "2 containers");
    is(&store(&StoreSeen::Served(Err(Error::unavailable("silent: stop it")))), Level::Problem, "stop it");
    is(&store(&StoreSeen::Redis(Err(Error::unavailable("Redis is away")))), Level::Problem, "redis_url");
    let redis = |aof, saves, policy: &str, unreadable| {
        StoreSeen::Redis(Ok(redis::Seen {
            version: Some("7.0".into()),
            keeps_every_write: aof,
            keeps_snapshots: saves,
            eviction: Some(policy.into()),
            containers: 1,
            unreadable,
        }))
    };
    is(&store(&redis(Some(true), Some(false), "noeviction", vec![])), Level::Ok, "Redis 7.0");
    is(&store(&redis(None, None, "noeviction", vec![])), Level::Ok, "Redis 7.0");
    is(&store(&redis(Some(false), Some(false), "noeviction", vec![])), Level::Warning, "nothing to disk");
    is(&store(&redis(Some(false), Some(true), "noeviction", vec![])), Level::Warning, "append-only");
    is(&store(&redis(Some(true), None, "allkeys-lru", vec![])), Level::Warning, "noeviction");
    is(&store(&redis(Some(true), None, "noeviction", vec![damaged(false)])), Level::Problem, "set-aside");
}

#[test]
fn clock_disk_image_and_files() {
    is(&clock(Some(true), Some(0)), Level::Ok, "time service");
    is(&clock(None, None), Level::Ok, "cannot be told");
    is(&clock(Some(false), Some(0)), Level::Warning, "timedatectl");
    is(&clock(Some(true), Some(60)), Level::Warning, "60 s");

    let space = |free| Ok(Space { path: "/d".into(), free });
    for (free, level, words) in
        [(0, Level::Problem, "0 MB"), (99 << 20, Level::Problem, "99 MB"), (500 << 20, Level::Warning, "500 MB")]
    {
        is(&disk("data", &space(free)), level, words);
    }
    is(&disk("data", &space(5 << 30)), Level::Ok, "5 GB");
    is(&disk("data", &Err(Error::unavailable("no answer"))), Level::Warning, "no answer");

    let made = |exposed: &[u16]| Image {
        exposed: exposed.iter().map(|port| (*port, Protocol::Tcp)).collect(),
        ..Image::default()
    };
    is(&image("i", &Ok(made(&[22, 80]))), Level::Ok, "22, 80");
    is(&image("i", &Ok(made(&[]))), Level::Warning, "make image");
    is(&image("i", &Err(Error::not_found("gone"))), Level::Warning, "make image");
    is(&image("i", &Err(away())), Level::Warning, "engine");

    is(&config(&[])[0], Level::Ok, "sound");
    is(&config(&[("a.toml".into(), 0o100_600)])[0], Level::Ok, "sound");
    is(&config(&[("a.toml".into(), 0o100_644)])[0], Level::Warning, "chmod 600 a.toml");
    is(&config_refused(&Error::invalid("spindown.ports: no")), Level::Problem, "spindown.ports");
}

#[test]
fn who_listens_is_told_from_the_answer() {
    let at = "127.0.0.1:8080".parse().unwrap();
    let judged = |answer: &str| api(at, &probe::understood(answer));
    let head = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n";
    is(
        &judged(&format!("{head}{{\"status\":\"ok\",\"checks\":{{\"engine\":{{\"ok\":true}}}}}}")),
        Level::Ok,
        "all well",
    );
    let failing = "{\"checks\":{\"store\":{\"ok\":false,\"message\":\"the disk is full\"}}}";
    is(&judged(&format!("{head}{failing}")), Level::Problem, "store: the disk is full");
    for other in ["", "SSH-2.0-x\r\n", head, &format!("{head}<html>"), &format!("{head}{{\"checks\":1}}")] {
        is(&judged(other), Level::Problem, "another program");
    }
    is(&api(at, &Api::Nobody), Level::Ok, "not running");
    is(&api(at, &Api::Silent), Level::Problem, "does not answer");
}

#[test]
fn the_kernels_tables_are_read() {
    let tcp = "  sl  local_address rem_address   st tx_queue\n\
        \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
        \x20  1: 0200000A:0016 0300000A:C001 01 00000000:00000000 00:00000000 00000000\n\
        \x20  2: nonsense\n\
        \x20  3: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n\
        \x20  4: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0\n";
    let found: Vec<String> = probe::listening(tcp).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["127.0.0.1:8080", "[::]:80", "127.0.0.1:81"]);
    let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
        eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        br0\t0000630A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0\nshort\t1\n";
    let found: Vec<String> = probe::routes(routes).iter().map(|(net, by)| format!("{net} {by}")).collect();
    assert_eq!(found, ["0.0.0.0/0 eth0", "10.99.0.0/20 br0"]);
}
