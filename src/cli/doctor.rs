//! `doctor`: looks at all that Spindown stands on, and says of each what is wrong and how to mend it. `probe` looks and
//! changes nothing, `judge` decides what that means; this file brings them together and prints.

mod judge;
mod probe;

use std::{fmt::Write, net::SocketAddr, process::ExitCode};

use serde::Serialize;
use spindown::{
    config::{self, Loaded},
    model::Result,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Problem,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    level: Level,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// Prints what is found, and answers 1 if there is a problem.
pub(super) async fn doctor(json: bool) -> Result<ExitCode> {
    let findings = match config::load() {
        Ok(loaded) => examine(&loaded, (loaded.address, loaded.port).into()).await,
        Err(error) => vec![judge::config_refused(&error)],
    };
    if json {
        println!("{}", serde_json::json!({ "checks": findings }));
    } else {
        print!("{}", table(&findings));
    }
    let sick = findings.iter().any(|finding| finding.level == Level::Problem);
    // Returning would wait for whatever hangs, a disk that does not answer for one.
    std::process::exit(i32::from(sick))
}

/// Looks at everything. `address` is where the API listens, or would.
pub(super) async fn examine(loaded: &Loaded, address: SocketAddr) -> Vec<Finding> {
    let api = probe::api(address).await;
    let serving = matches!(api, probe::Api::Spindown { .. });
    let engine = async {
        let described = probe::engine(loaded).await;
        let (time, disk) = tokio::join!(probe::time(), probe::engine_disk(loaded, &described));
        let skew = described.as_ref().ok().and_then(|(_, skew)| *skew);
        let named = loaded.config.engine.as_str();
        (judge::engine(named, described.map(|(described, _)| described)), judge::clock(time, skew), disk)
    };
    let ((engine, clock, engine_disk), (network, routes), rules, obstacle, (listeners, own), store, disk, image, files) = tokio::join!(
        engine,
        probe::network(loaded),
        probe::rules(loaded),
        probe::obstacle(loaded),
        probe::listeners(loaded),
        probe::store(loaded),
        probe::disk(loaded.config.data.path()),
        probe::image(loaded),
        probe::secrets(loaded),
    );
    let mut findings = judge::config(&files);
    findings.push(judge::api(address, &api));
    findings.push(engine);
    findings.push(judge::network(&loaded.network(), &network, &routes));
    findings.push(judge::rules(loaded.config.firewall.enabled, &rules, serving));
    let ports = &loaded.config.ports;
    findings.push(judge::ports(ports.first..=ports.last, probe::ephemeral(), &listeners, &own));
    if loaded.config.check_in.enabled && !serving {
        findings.push(judge::check_in(loaded.network().gateway(), loaded.config.check_in.port, &listeners));
    }
    findings.push(judge::door(loaded.door(), &obstacle, (!serving).then_some(&*listeners)));
    findings.push(judge::store(&store));
    findings.push(clock);
    if loaded.config.redis_url.is_none() {
        findings.push(judge::disk("the data folder", &disk));
    }
    findings.extend(engine_disk.map(|disk| judge::disk("the engine's folder", &disk)));
    findings.push(judge::image(probe::IMAGE, &image));
    findings
}

/// What is said if the ports overlap those that the kernel gives to outgoing connections.
pub(super) fn overlap(loaded: &Loaded) -> Option<String> {
    let ports = &loaded.config.ports;
    judge::overlap(&(ports.first..=ports.last), probe::ephemeral().as_ref())
}

/// A line for each finding, and below it what to do.
pub(super) fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, level, message, mend } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{level:<8} {check:<8} {message}");
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:<17} -> {mend}", "");
        }
    }
    text
}
