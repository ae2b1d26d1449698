//! The engine's answers in the model's words.

use std::net::Ipv4Addr;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, ContainerSummary,
    ContainerSummaryStateEnum as SummaryState, CreateImageInfo, ImageInspect, ImageSummary, PortMap,
};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{errors, volume};
use crate::{
    engine::Listed,
    model::{
        ContainerId, EngineId, EngineState, Error, Image, Kind, Name, Observation, Port, Protocol, PullProgress,
        PullStep, Result, birth,
    },
};

/// The longest name of an image that is passed on.
const LONGEST_IMAGE_NAME: usize = 512;

/// An inspected container. `NotFound` if `instance` did not make it.
pub(super) fn observation(found: ContainerInspectResponse, instance: &str) -> Result<Observation> {
    let address = attachment(&found).map(|(_, address)| address);
    let config = found.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    if labels.get(birth::MANAGED).map(String::as_str) != Some(instance) {
        return Err(errors::no_container());
    }
    let id = labels.get(birth::ID).and_then(|id| ContainerId::parse(id).ok()).ok_or_else(errors::no_container)?;
    let unreadable = |what: &str| Error::new(Kind::Internal, format!("the engine shows a container without {what}"));
    let inspected = found.state.unwrap_or_default();
    let state = inspected.status.and_then(state).ok_or_else(|| unreadable("a state"))?;
    Ok(Observation {
        id,
        volumes: volume::volumes(found.host_config.as_ref()),
        engine_id: found.id.as_deref().and_then(|id| EngineId::parse(id).ok()).ok_or_else(|| unreadable("an id"))?,
        name: Name::from_engine(&found.name.unwrap_or_default()),
        image: config.image.unwrap_or_default(),
        state,
        exit_code: exit_code(&inspected, state),
        created_at: found.created.as_deref().and_then(date).ok_or_else(|| unreadable("a date"))?,
        started_at: inspected.started_at.as_deref().and_then(date),
        pid: pid(&inspected, state),
        finished_at: inspected.finished_at.as_deref().and_then(date),
        address,
        ports: found.host_config.and_then(|h| h.port_bindings).map(|map| ports(&map)).unwrap_or_default(),
        labels: labels.into_iter().collect(),
    })
}

/// The network that a container was made for, and its address there. The settings are kept while it is down; the
/// address in use, which is shown beside them, is not.
pub(super) fn attachment(found: &ContainerInspectResponse) -> Option<(String, Ipv4Addr)> {
    let network = found.host_config.as_ref()?.network_mode.clone()?;
    let endpoint = found.network_settings.as_ref()?.networks.as_ref()?.get(&network)?;
    let address = endpoint.ipam_config.as_ref()?.ipv4_address.as_deref()?.parse().ok()?;
    Some((network, address))
}

/// A container in a list, if it has an id of ours.
pub(super) fn listed(found: ContainerSummary) -> Option<Listed> {
    let names = found.names.unwrap_or_default();
    // A link to the container shows as another name with two slashes.
    let name = names.iter().find(|name| name.matches('/').count() <= 1)?;
    let labels = found.labels?;
    Some(Listed {
        id: ContainerId::parse(labels.get(birth::ID)?).ok()?,
        replaces: labels.get(birth::REPLACES).and_then(|id| EngineId::parse(id).ok()),
        engine_id: EngineId::parse(&found.id?).ok()?,
        name: Name::from_engine(name),
        state: match found.state? {
            SummaryState::EMPTY => return None,
            SummaryState::CREATED => EngineState::Created,
            SummaryState::RUNNING | SummaryState::RESTARTING | SummaryState::STOPPING => EngineState::Running,
            SummaryState::PAUSED => EngineState::Paused,
            SummaryState::REMOVING => EngineState::Removing,
            SummaryState::EXITED | SummaryState::DEAD => EngineState::Exited,
        },
    })
}

fn state(status: Status) -> Option<EngineState> {
    Some(match status {
        Status::EMPTY => return None,
        Status::CREATED => EngineState::Created,
        Status::RUNNING | Status::RESTARTING | Status::STOPPING => EngineState::Running,
        Status::PAUSED => EngineState::Paused,
        Status::REMOVING => EngineState::Removing,
        Status::EXITED | Status::DEAD => EngineState::Exited,
    })
}

/// The engine shows an exit code of 0 for what runs, and one for a start that failed.
fn exit_code(inspected: &ContainerState, state: EngineState) -> Option<i64> {
    if state == EngineState::Exited { inspected.exit_code } else { None }
}

/// The engine shows 0 for what is down.
fn pid(inspected: &ContainerState, state: EngineState) -> Option<u32> {
    let pid = inspected.pid.and_then(|pid| u32::try_from(pid).ok());
    pid.filter(|pid| *pid > 0 && state.is_up())
}

pub(super) fn ports(map: &PortMap) -> Vec<Port> {
    let published = map.iter().flat_map(|(inside, bindings)| {
        let inside = exposed(inside);
        let hosts = bindings.iter().flatten().filter_map(|b| b.host_port.as_deref()?.parse().ok());
        hosts.filter_map(move |host| inside.map(|(container, protocol)| Port { container, host, protocol }))
    });
    let mut ports: Vec<Port> = published.collect();
    ports.sort_unstable();
    ports
}

/// A port as the engine writes it: `22/tcp`, or `22`.
fn exposed(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, Protocol::parse(protocol).ok()?))
}

/// A date. What has not happened has the engine's zero date, in the year 1.
pub(super) fn date(text: &str) -> Option<OffsetDateTime> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    (date.year() > 1).then_some(date)
}

/// What an image says of itself.
pub(super) fn image(found: ImageInspect) -> Image {
    let config = found.config.unwrap_or_default();
    let ports = config.exposed_ports.unwrap_or_default();
    let mut exposed: Vec<_> = ports.iter().filter_map(|port| exposed(port)).collect();
    exposed.sort_unstable();
    exposed.dedup();
    let id = found.id.unwrap_or_default();
    Image { id, exposed, labels: config.labels.unwrap_or_default().into_iter().collect() }
}

/// How far a pull has come, if the line tells that.
pub(super) fn progress(line: CreateImageInfo) -> Option<PullProgress> {
    let status = line.status?;
    let step = match status.as_str() {
        text if text.starts_with("Pulling from ") => PullStep::Pulling,
        "Pulling fs layer" | "Waiting" => PullStep::Waiting,
        "Downloading" => PullStep::Downloading,
        "Verifying Checksum" | "Download complete" => PullStep::Downloaded,
        "Extracting" => PullStep::Extracting,
        "Pull complete" | "Already exists" => PullStep::Complete,
        _ => return None,
    };
    let detail = line.progress_detail.unwrap_or_default();
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    Some(PullProgress {
        step,
        // The first line has the tag there.
        layer: line.id.filter(|_| step != PullStep::Pulling),
        current: bytes(detail.current),
        // The engine tells a total of -1 where the registry told none.
        total: bytes(detail.total).filter(|total| *total > 0),
    })
}

/// The tags of all images; those without one cannot be asked for.
pub(super) fn tags(images: Vec<ImageSummary>) -> Vec<String> {
    let tags = images.into_iter().flat_map(|image| image.repo_tags);
    let mut tags: Vec<String> = tags.filter(|tag| !tag.contains("<none>")).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Whether `text` can be the name of an image: parts that begin with a letter or a digit, separated by slashes.
pub(super) fn is_image_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@');
    text.len() <= LONGEST_IMAGE_NAME
        && text.split('/').all(|part| {
            part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && part.bytes().all(allowed)
        })
}

/// The bytes of memory that can still be given out, from the text of `/proc/meminfo`.
pub(super) fn available_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_images_name_leads_to_no_other_request() {
        for good in ["ubuntu", "spindown/ssh", "a/b:1.0", "host.example:5000/a/b@sha256:00ff", "A/b"] {
            assert!(is_image_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a?b", "a%2e", "é", &"a".repeat(600)] {
            assert!(!is_image_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_pull_is_told_as_the_engine_tells_it() {
        let told = |line: serde_json::Value| {
            let told = progress(serde_json::from_value(line).unwrap())?;
            Some((told.step, told.layer, told.current, told.total))
        };
        let layer = || Some("1526c497e7a6".to_owned());
        for (line, expected) in [
            (json!({"status": "Pulling from a/b", "id": "latest"}), Some((PullStep::Pulling, None, None, None))),
            (json!({"status": "Waiting", "id": "1526c497e7a6"}), Some((PullStep::Waiting, layer(), None, None))),
            (
                json!({"status": "Downloading", "id": "1526c497e7a6", "progressDetail": {"current": 5, "total": 9}}),
                Some((PullStep::Downloading, layer(), Some(5), Some(9))),
            ),
            (
                json!({"status": "Downloading", "id": "1526c497e7a6", "progressDetail": {"current": 5, "total": -1}}),
                Some((PullStep::Downloading, layer(), Some(5), None)),
            ),
            (
                json!({"status": "Download complete", "id": "1526c497e7a6"}),
                Some((PullStep::Downloaded, layer(), None, None)),
            ),
            (
                json!({"status": "Extracting", "id": "1526c497e7a6", "progressDetail": {"current": 9, "total": 9}}),
                Some((PullStep::Extracting, layer(), Some(9), Some(9))),
            ),
            (
                json!({"status": "Already exists", "id": "1526c497e7a6"}),
                Some((PullStep::Complete, layer(), None, None)),
            ),
            (json!({"status": "Digest: sha256:00ff"}), None),
            (json!({"id": "1526c497e7a6"}), None),
        ] {
            assert_eq!(told(line.clone()), expected, "{line}");
        }
    }

    #[test]
    fn what_has_not_happened_has_no_date() {
        assert_eq!(date("0001-01-01T00:00:00Z"), None);
        assert_eq!(date("2026-11-21T14:06:06.132236649+02:00"), date("2026-11-21T12:06:06.132236649Z"));
        assert_eq!(date("yesterday"), None);
    }

    #[test]
    fn ports_are_read_as_the_engine_writes_them() {
        assert_eq!(exposed("22/tcp"), Some((22, Protocol::Tcp)));
        assert_eq!(exposed("53/udp"), Some((53, Protocol::Udp)));
        assert_eq!(exposed("80"), Some((80, Protocol::Tcp)));
        assert_eq!(exposed("80/x"), None);
        assert_eq!(exposed("70000/tcp"), None);
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available_memory("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available_memory(""), None);
    }
}
