//! The configuration: `Rocket.toml` with profiles, overridden by `ROCKET_*` and `SPINDOWN_*` variables. Ours stands in
//! the table `spindown` of a profile, one section per concern. An unknown key or a bad value stops the start with the
//! file, the key and the reason.

pub mod section;
pub mod value;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Serialized, Toml},
    value::{Dict, Value},
};
use serde::{Deserialize, Serialize};

use crate::{
    engine::NetworkSpec,
    model::{Error, HostName, Kind, Limits, Result, Rungs, format_duration},
    service::{Settings, user::Credentials},
};

use section::{Auth, CheckIn, Door, Evidence, Firewall, Idle, Network, Ports, Starts, Store};

/// The user and the password of the documentation, good for an address that nobody else reaches.
pub const DEFAULT_USER: &str = "admin";
/// See [`DEFAULT_USER`].
pub const DEFAULT_PASSWORD: &str = "spindocker";

/// Rocket's own keys that make sense here.
const ROCKET_KEYS: [&str; 13] = [
    "address",
    "port",
    "workers",
    "max_blocking",
    "ident",
    "limits",
    "temp_dir",
    "keep_alive",
    "shutdown",
    "log_level",
    "cli_colors",
    "profile",
    "spindown",
];

/// How the names of the variables begin: Rocket's, and ours.
const VARIABLES: [&str; 2] = ["ROCKET_", "SPINDOWN_"];
/// The longest that passes between two looks: what is shorter than that is not missed for long.
const RAREST_LOOK: Duration = Duration::from_secs(60);
/// The most looks that a window spans: an hour of them with the default of five seconds.
const MOST_LOOKS: u32 = 720;
/// What stands in the place of a secret.
const MASK: &str = "********";

/// Everything that can be set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of the embedded store.
    pub data: value::Folder,
    /// Tells apart several Spindowns on one engine, and names their networks and rules.
    pub instance: value::Instance,
    /// Where Redis is (`redis://[:password@]host:port/db`, `redis+unix:///path`); without it the embedded store is used.
    pub redis_url: Option<String>,
    /// The engine's address (`unix:///var/run/docker.sock`, `tcp://host:port`).
    pub engine: value::EngineUrl,
    /// The containers' network.
    pub network: Network,
    /// The ports that are handed out.
    pub ports: Ports,
    /// What one container may use.
    pub limits: section::Limits,
    /// When idle containers go down which rung.
    pub idle: Idle,
    /// What counts as use.
    pub evidence: Evidence,
    /// How many containers are started at once.
    pub starts: Starts,
    /// How touches are kept.
    pub store: Store,
    /// The listener for check-ins.
    pub check_in: CheckIn,
    /// The rules that isolate the containers.
    pub firewall: Firewall,
    /// Where connections to sleeping containers arrive.
    pub door: Door,
    /// Who may call.
    pub auth: Auth,
}

/// The configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Ours.
    pub config: Config,
    /// All of it, Rocket's keys included.
    pub figment: Figment,
    /// The API's address.
    pub address: IpAddr,
    /// The API's port.
    pub port: u16,
}

/// Reads `Rocket.toml` (or the file that `ROCKET_CONFIG` names) and the environment.
///
/// # Errors
/// `Invalid`, with the file or variable, the key and the reason.
pub fn load() -> Result<Loaded> {
    let file = Env::var_or("ROCKET_CONFIG", "Rocket.toml");
    if let Some(named) = Env::var("ROCKET_CONFIG")
        && !PathBuf::from(&named).exists()
    {
        return Err(Error::invalid(format!("the file {named:?}, which ROCKET_CONFIG names, is not there")));
    }
    let toml = Toml::file(&file).nested();
    // What cannot be read at all has no key whose place could be told.
    toml.data().map_err(|e| Error::invalid(format!("{file}: {e}")))?;
    from(Figment::new().merge(toml).merge(rocket_variables()).merge(own_variables()))
}

/// Reads the configuration from `sources`, over the defaults.
///
/// # Errors
/// As for [`load`].
pub fn from(sources: Figment) -> Result<Loaded> {
    let default_profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let profile = Profile::from_env_or("ROCKET_PROFILE", default_profile);
    for (profile, dict) in sources.data().map_err(refused)? {
        for (key, value) in dict {
            if !ROCKET_KEYS.contains(&key.as_str()) {
                let metadata = sources.get_metadata(value.tag());
                let place = metadata.map_or_else(|| key.clone(), |m| place(m, &profile, &[&key]));
                let hint = match key.as_str() {
                    "ip_header" => "Spindown never believes such a header".to_owned(),
                    _ => format!("known are {}", ROCKET_KEYS.join(", ")),
                };
                return Err(Error::invalid(format!("{place}: unknown key; {hint}")));
            }
        }
    }
    let figment = Figment::from(rocket::Config::default())
        .merge(Serialized::default("address", "127.0.0.1"))
        .merge(Serialized::default("port", 8080))
        .merge(Serialized::default("ident", "Spindown"))
        .merge(Serialized::default("keep_alive", 15))
        .merge(Serialized::default("log_level", "off"))
        .merge(Serialized::default("ip_header", false))
        .merge(Serialized::default("shutdown.grace", 10))
        .merge(Serialized::default("shutdown.mercy", 2))
        .merge(Serialized::default("shutdown.ctrlc", false))
        .merge(Serialized::default("shutdown.signals", Vec::<String>::new()))
        .merge(Serialized::default("spindown", Config::default()))
        .merge(sources)
        .select(profile);
    let Whole { spindown: config, address, port } = figment.extract().map_err(refused)?;
    figment.extract::<rocket::Config>().map_err(refused)?;
    let loaded = Loaded { config, figment, address, port };
    loaded.validate()?;
    Ok(loaded)
}

/// What is read of the whole, so that an error names the whole path of its key.
#[derive(Deserialize)]
struct Whole {
    spindown: Config,
    address: IpAddr,
    port: u16,
}

fn rocket_variables() -> impl Provider {
    Env::prefixed("ROCKET_").ignore(&["PROFILE", "CONFIG"]).global()
}

/// `SPINDOWN_IDLE_TIMEOUT` is `spindown.idle.timeout`: which underscore parts a section from a key follows from the keys
/// there are.
fn own_variables() -> impl Provider {
    let known = keys(&defaults(), "");
    Env::prefixed("SPINDOWN_")
        .map(move |variable| {
            let name = variable.as_str().to_ascii_lowercase();
            let key = known.iter().find(|key| key.replace('.', "_") == name);
            format!("spindown.{}", key.unwrap_or(&name)).into()
        })
        .split(".")
        .global()
}

/// The defaults, as a tree.
fn defaults() -> Dict {
    Value::serialize(Config::default()).ok().and_then(Value::into_dict).unwrap_or_default()
}

/// The paths of all keys of the tree.
fn keys(dict: &Dict, prefix: &str) -> Vec<String> {
    let paths = dict.iter().flat_map(|(key, value)| match value {
        Value::Dict(_, inner) => keys(inner, &format!("{prefix}{key}.")),
        _ => vec![format!("{prefix}{key}")],
    });
    paths.collect()
}

/// Where a key is set: the variable, or the file and the whole key.
fn place(metadata: &Metadata, profile: &Profile, path: &[&str]) -> String {
    match VARIABLES.iter().find(|prefix| metadata.name.contains(*prefix)) {
        Some(prefix) => variable(prefix, path),
        None => {
            let file = metadata.source.as_ref().map_or_else(|| metadata.name.to_string(), ToString::to_string);
            format!("{file}: {}", metadata.interpolate(profile, path))
        }
    }
}

/// The variable that sets a key.
fn variable(prefix: &str, path: &[&str]) -> String {
    let name = path.join("_").to_ascii_uppercase();
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

/// All that is wrong, a line each.
fn refused(error: figment::Error) -> Error {
    let faults: Vec<String> = error.into_iter().map(|e| fault(&e)).collect();
    Error::invalid(faults.join("\n"))
}

/// One thing that is wrong: where, and why.
fn fault(error: &figment::Error) -> String {
    let path: Vec<&str> = error.path.iter().map(String::as_str).collect();
    let profile = error.profile.clone().unwrap_or_default();
    let place = error.metadata.as_ref().map_or_else(|| path.join("."), |m| place(m, &profile, &path));
    let reason = match &error.kind {
        figment::error::Kind::UnknownField(_, _) if VARIABLES.iter().any(|prefix| place.starts_with(prefix)) => {
            "unknown variable; `spindown config` prints all keys there are".to_owned()
        }
        figment::error::Kind::UnknownField(_, known) => format!("unknown key; known are {}", known.join(", ")),
        reason => reason.to_string(),
    };
    if place.is_empty() { reason } else { format!("{place}: {reason}") }
}

/// An address of Redis without its password, which stands before the host, or behind the path of a socket.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let host = if scheme.contains("unix") { None } else { rest.rsplit_once('@').map(|(_, host)| host) };
    let user = host.map_or_else(String::new, |_| format!("{MASK}@"));
    match host.unwrap_or(rest).split_once('?') {
        Some((shown, _)) => format!("{scheme}://{user}{shown}?{MASK}"),
        None => format!("{scheme}://{user}{}", host.unwrap_or(rest)),
    }
}

impl Loaded {
    /// What no key can tell by itself.
    fn validate(&self) -> Result<()> {
        let Config { ports, network, auth, evidence, .. } = &self.config;
        let (every, window) = (evidence.every.span(), evidence.window.span());
        if every > RAREST_LOOK {
            return Err(Error::invalid(format!(
                "spindown.evidence.every: {} is too seldom, at most 1m",
                format_duration(every)
            )));
        }
        // One look alone measures nothing.
        if window < every * 2 {
            return Err(Error::invalid(format!(
                "spindown.evidence.window: {} must be at least twice as long as every ({})",
                format_duration(window),
                format_duration(every)
            )));
        }
        // Each look is kept for as long, of each container.
        if window > every * MOST_LOOKS {
            return Err(Error::invalid(format!(
                "spindown.evidence.window: {} is too long, at most {MOST_LOOKS} times every ({}), which is {}: shorten it, or \
                 look less often",
                format_duration(window),
                format_duration(every),
                format_duration(every * MOST_LOOKS)
            )));
        }
        if ports.first > ports.last || ports.first == 0 {
            return Err(Error::invalid(format!(
                "spindown.ports: first ({}) must be at least 1 and not above last ({})",
                ports.first, ports.last
            )));
        }
        if self.door().is_some_and(|door| (ports.first..=ports.last).contains(&door)) {
            return Err(Error::invalid(format!(
                "spindown.door.port: {} is one of the ports that are handed out ({} to {}): set another",
                self.config.door.port, ports.first, ports.last
            )));
        }
        if !(16..=28).contains(&network.subnet.prefix_len()) || network.subnet.trunc() != network.subnet {
            return Err(Error::invalid(format!(
                "spindown.network.subnet: {} must be a network of /16 to /28, without host bits",
                network.subnet
            )));
        }
        if auth.password_hash.is_none() && (!self.address.is_loopback() || !auth.trusted_proxies.is_empty()) {
            return Err(Error::invalid(format!(
                "the password of the documentation is only good while the API listens on loopback and no proxy is \
                 trusted (here: address {}, {} trusted proxies). Set one: run `spindown hash-password`, and put what it \
                 prints into Rocket.toml as password_hash below [default.spindown.auth], or into the variable \
                 SPINDOWN_AUTH_PASSWORD_HASH",
                self.address,
                auth.trusted_proxies.len()
            )));
        }
        self.credentials().map(|_| ())
    }

    /// The port of the door, if there is one: the firewall leads there.
    pub fn door(&self) -> Option<u16> {
        let Config { door, firewall, .. } = &self.config;
        (door.enabled && firewall.enabled).then_some(door.port)
    }

    /// Who may call.
    ///
    /// # Errors
    /// `Invalid` if the configured hash is none.
    pub fn credentials(&self) -> Result<Credentials> {
        let Auth { user, password_hash, .. } = &self.config.auth;
        match password_hash {
            Some(hash) => Credentials::new(user, hash)
                .map_err(|e| Error::invalid(format!("spindown.auth.password_hash: {}", e.message()))),
            None => Credentials::with_password(user, DEFAULT_PASSWORD),
        }
    }

    /// What the service is told.
    ///
    /// # Errors
    /// As for [`Loaded::credentials`].
    pub fn settings(&self) -> Result<Settings> {
        let Config { instance, ports, limits, idle, evidence, starts, store, .. } = &self.config;
        Ok(Settings {
            instance: instance.to_string(),
            host: HostName::local(),
            network: self.network(),
            ports: ports.first..=ports.last,
            bind: ports.bind,
            limits: Limits {
                memory: limits.memory.bytes(),
                cpus: limits.cpus.count(),
                pids: limits.pids,
                log_size: limits.log_size.bytes(),
            },
            memory_reserve: limits.memory_reserve.bytes(),
            disk_reserve: limits.disk_reserve.bytes(),
            idle_timeout: idle.timeout.timeout(),
            rungs: Rungs {
                freeze_after: Some(idle.freeze_after.timeout()),
                delete_after: Some(idle.delete_after.timeout()),
                max_age: Some(idle.max_age.timeout()),
                warn_before: Some(idle.warn_before.timeout()),
                keep_awake: Some(idle.keep_awake.list().to_vec()),
                evidence: evidence.heeds()?,
            },
            extend_most: idle.extend_most.span(),
            look_every: evidence.every.span(),
            look_window: evidence.window.span(),
            sweep_every: idle.sweep.span(),
            stop_grace: idle.stop_grace.span(),
            stops_at_once: idle.stops_at_once.get(),
            starts_at_once: starts.at_once.get(),
            starts_waiting: starts.waiting,
            door: self.door().is_some(),
            flush_every: store.flush.span(),
            drift_every: store.drift.span(),
            admin: self.credentials()?,
        })
    }

    /// The containers' network.
    pub fn network(&self) -> NetworkSpec {
        let Config { instance, network, .. } = &self.config;
        NetworkSpec { name: instance.to_string(), bridge: network.bridge.to_string(), subnet: network.subnet }
    }

    /// The effective configuration as TOML, secrets masked.
    ///
    /// # Errors
    /// `Internal` if it cannot be written.
    pub fn to_toml(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Effective {
            profile: String,
            address: IpAddr,
            port: u16,
            spindown: Config,
        }
        let mut spindown = self.config.clone();
        spindown.auth.password_hash = spindown.auth.password_hash.map(|_| MASK.to_owned());
        spindown.redis_url = spindown.redis_url.as_deref().map(masked);
        let profile = self.figment.profile().to_string();
        let effective = Effective { profile, address: self.address, port: self.port, spindown };
        toml::to_string_pretty(&effective)
            .map_err(|e| Error::new(Kind::Internal, "the configuration cannot be written").caused_by(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Heeds, Ladder};

    fn with(toml: &str) -> Result<Loaded> {
        from(Figment::new().merge(Toml::string(toml).nested()))
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let loaded = with("").unwrap();
        assert_eq!((loaded.address.to_string().as_str(), loaded.port), ("127.0.0.1", 8080));
        let settings = loaded.settings().unwrap();
        assert_eq!(settings.idle_timeout.seconds(), Some(9_000));
        assert_eq!(settings.ports, 20_000..=29_999);
        assert_eq!(loaded.config.check_in.port, 80);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        for (toml, words) in [
            ("[default]\nadress = \"::1\"", vec!["adress"]),
            ("[default]\nip_header = \"X-Real-IP\"", vec!["ip_header", "never believes"]),
            ("[default]\nport = 99999", vec!["port"]),
            ("[default.spindown]\nredis = 1", vec!["redis", "spindown"]),
            ("[default.spindown.idle]\ntimeout = \"soon\"", vec!["soon", "spindown.idle.timeout"]),
            ("[default.spindown.idle]\nsweep = \"7s\"", vec!["divide", "spindown.idle.sweep"]),
            ("[default.spindown.idle]\nsweeps = \"7s\"", vec!["sweeps", "idle"]),
            ("[default.spindown.idle]\nfreeze_after = \"0\"", vec!["never", "spindown.idle.freeze_after"]),
            ("[default.spindown.idle]\nmax_age = \"default\"", vec!["default", "spindown.idle.max_age"]),
            (
                "[default.spindown.idle]\nkeep_awake = [\"0 9 * * * for 1h\", \"9 for 8h\"]",
                vec!["\"9 for 8h\"", "mon-fri", "spindown.idle.keep_awake"],
            ),
            ("[default.spindown.idle]\nkeep_awake = \"0 9 * * * for 1h\"", vec!["spindown.idle.keep_awake"]),
            ("[default.spindown.idle]\nextend_most = \"never\"", vec!["spindown.idle.extend_most"]),
            ("[default.spindown.evidence]\nprocessor = \"5\"", vec!["5%", "spindown.evidence.processor"]),
            ("[default.spindown.evidence]\ntraffic = true", vec!["spindown.evidence.traffic"]),
            ("[default.spindown.evidence]\nkeys = \"on\"", vec!["keys", "evidence"]),
            ("[default.spindown.evidence]\nevery = \"61s\"", vec!["spindown.evidence.every", "1m"]),
            ("[default.spindown.evidence]\nevery = \"31s\"", vec!["spindown.evidence.window", "twice", "31s"]),
            ("[default.spindown.evidence]\nwindow = \"3601s\"", vec!["spindown.evidence.window", "720 times", "1h: "]),
            ("[default.spindown.evidence]\nevery = \"60s\"\nwindow = \"30d\"", vec!["window: 30d", "1m", "12h: "]),
            ("[default.spindown.limits]\nmemory = \"1m\"", vec!["6m", "spindown.limits.memory"]),
            ("[default.spindown.ports]\nfirst = 30000", vec!["ports", "30000"]),
            ("[default.spindown.network]\nsubnet = \"10.0.0.1/20\"", vec!["subnet"]),
            ("[default.spindown.auth]\npassword_hash = \"plain\"", vec!["password_hash", "hash-password"]),
            ("[default.spindown]\ninstance = \"A b\"", vec!["A b", "instance"]),
        ] {
            let error = with(toml).expect_err(toml);
            for word in words {
                assert!(error.message().contains(word), "{toml}: {}", error.message());
            }
        }
    }

    #[test]
    fn the_ladder_of_the_server_is_what_is_set() {
        let ladder = |toml: &str| {
            let settings = with(toml).unwrap().settings().unwrap();
            (Ladder::of(settings.idle_timeout, [&Rungs::default(), &Rungs::default(), &settings.rungs]), settings)
        };
        let (standard, settings) = ladder("");
        let nothing = Ladder::of(settings.idle_timeout, [&Rungs::default(); 3]);
        assert_eq!(standard.evidence.effective(), nothing.evidence.effective());
        assert_eq!(Ladder { evidence: Heeds::default(), ..standard }, nothing, "everything is off");
        let (set, settings) = ladder(
            "[default.spindown.idle]\nfreeze_after = 600\nkeep_awake = [\"0 9 * * * for 1h\"]\nextend_most = \"8h\"\n\
             [default.spindown.evidence]\ndisk = 65536\nconnections = \"off\"\nevery = 1\nwindow = \"10s\"",
        );
        assert_eq!((set.freeze_after.seconds(), set.keep_awake.len()), (Some(600), 1));
        assert_eq!((&*set.evidence.effective()["disk"], &*set.evidence.effective()["connections"]), ("64k", "off"));
        assert_eq!(settings.extend_most.as_secs(), 8 * 3_600);
        assert_eq!((settings.look_every.as_secs(), settings.look_window.as_secs()), (1, 10));
    }

    #[test]
    fn a_window_spans_two_looks_to_720() {
        for window in [10, 3_600] {
            assert!(with(&format!("[default.spindown.evidence]\nwindow = {window}")).is_ok(), "{window}");
        }
    }

    #[test]
    fn a_variable_can_be_a_list() {
        let text = "0 9 * * mon-fri for 8h in Europe/Berlin";
        for list in [format!("[\"{text}\"]"), format!("[{text}]")] {
            let value: Value = list.parse().unwrap();
            let loaded = from(Figment::new().merge(Serialized::global("spindown.idle.keep_awake", value))).unwrap();
            let awake = loaded.settings().unwrap().rungs.keep_awake.unwrap();
            assert_eq!(awake.iter().map(ToString::to_string).collect::<Vec<_>>(), [text], "{list}");
        }
    }

    #[test]
    fn the_documented_password_is_good_for_loopback_only() {
        for toml in [
            "[default]\naddress = \"0.0.0.0\"",
            "[default]\naddress = \"::\"",
            "[default.spindown.auth]\ntrusted_proxies = [\"127.0.0.1/32\"]",
        ] {
            let error = with(toml).expect_err(toml);
            assert!(error.message().contains("hash-password"), "{}", error.message());
        }
        assert!(with("[default]\naddress = \"::1\"").is_ok());
        let hash = Credentials::with_password("admin", "other").unwrap();
        let own =
            format!("[default]\naddress = \"0.0.0.0\"\n[default.spindown.auth]\npassword_hash = \"{}\"", hash.hash());
        assert!(with(&own).is_ok());
    }

    #[test]
    fn secrets_are_masked() {
        let hash = Credentials::with_password("admin", "other").unwrap();
        let loaded = with(&format!(
            "[default.spindown]\nredis_url = \"redis://:hush@127.0.0.1/0\"\n[default.spindown.auth]\npassword_hash = \"{}\"",
            hash.hash()
        ));
        let text = loaded.unwrap().to_toml().unwrap();
        assert!(!text.contains("hush") && !text.contains("argon2"), "{text}");
        assert!(text.contains("127.0.0.1/0") && text.contains("timeout = \"2h30m\""), "{text}");
    }

    #[test]
    fn variables_find_their_section() {
        let all = keys(&defaults(), "");
        for key in ["redis_url", "idle.stop_grace", "auth.password_hash", "check_in.port", "limits.memory_reserve"] {
            assert!(all.iter().any(|k| k == key), "{key} in {all:?}");
        }
        let flat: std::collections::BTreeSet<_> = all.iter().map(|k| k.replace('.', "_")).collect();
        assert_eq!(flat.len(), all.len(), "two keys share a variable");
    }
}
